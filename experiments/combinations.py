"""The students, data and optimisers that the studies of temperature share, and the record of their runs.

Every run is a line of FOLDER/runs.jsonl and is found again by its settings. So no student is trained twice, and a study
that was interrupted continues. Each teacher runs once, and its students learn from a store. This module is imported by
the studies and is not a command.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from limbeck.atomic_files import append_line, read_lines
from limbeck.config import Config, config_from
from limbeck.data import Splits, load_splits
from limbeck.evaluation import omitted_class_metrics, predict_logits
from limbeck.models import count_parameters
from limbeck.run.teacher import load_or_train_teacher
from limbeck.run.training import build_seeded_model, train
from limbeck.store import Dense, StoredTeacher, build_store
from limbeck.tasks.metrics import classification_metrics

TEMPERATURES = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 20.0)
"""The temperatures of the grid."""
SEEDS = 5

TEACHERS: dict[str, dict[str, Any]] = {
    "fashion": {
        "data": {"name": "fashion-mnist"},
        "teacher": {
            "model": "cnn",
            "augmentation": {"shift": 2, "flip": True},
            "training": {
                "num_train_epochs": 8, "per_device_train_batch_size": 128, "learning_rate": 2e-3, "lr_scheduler_type": "cosine",
                "weight_decay": 0.01,
            },
        },
    },
    "digits": {
        "data": {"name": "digits"},
        "teacher": {
            "model": "cnn",
            "augmentation": {"shift": 1},
            "training": {
                "max_steps": 1200, "per_device_train_batch_size": 64, "learning_rate": 3e-3, "lr_scheduler_type": "cosine",
            },
        },
    },
}  # fmt: skip


@dataclass(frozen=True)
class Combination:
    """One student on one transfer set with one optimiser."""

    teacher: str
    student: Mapping[str, Any]
    examples: int | None
    """How many examples of the training set, all labelled; None for all of them."""
    optim: str
    rate: float
    steps: int
    batch: int
    extra: Mapping[str, Any] = field(default_factory=dict)


def mlp(width: int) -> dict[str, Any]:
    """Return the config of an MLP with one hidden layer."""
    return {"model": "mlp", "settings": {"hidden": [width]}}


MOMENTUM = {"optim_args": "momentum=0.9"}
CNN = {"model": "cnn", "settings": {"width": 4}}

COMBINATIONS: dict[str, Combination] = {
    "fashion, MLP 16, AdamW": Combination("fashion", mlp(16), None, "adamw_torch", 2e-3, 1720, 256),
    "fashion, MLP 128, AdamW": Combination("fashion", mlp(128), None, "adamw_torch", 2e-3, 1720, 256),
    "fashion, MLP 128, SGD": Combination("fashion", mlp(128), None, "sgd", 0.1, 1720, 256, MOMENTUM),
    "fashion 2,000, MLP 16, AdamW": Combination("fashion", mlp(16), 2000, "adamw_torch", 2e-3, 1200, 64),
    "fashion 2,000, MLP 128, AdamW": Combination("fashion", mlp(128), 2000, "adamw_torch", 2e-3, 1200, 64),
    "fashion 2,000, MLP 128, SGD": Combination("fashion", mlp(128), 2000, "sgd", 0.05, 1200, 64, MOMENTUM),
    "fashion 2,000, CNN 4, AdamW": Combination("fashion", CNN, 2000, "adamw_torch", 3e-3, 600, 64),
    "digits 100, MLP 64, AdamW": Combination("digits", mlp(64), 100, "adamw_torch", 1e-2, 500, 50),
    "digits 100, MLP 64, SGD": Combination("digits", mlp(64), 100, "sgd", 0.05, 500, 50, MOMENTUM),
    "digits, MLP 16, AdamW": Combination("digits", mlp(16), None, "adamw_torch", 5e-3, 800, 64),
}


GRID = tuple(COMBINATIONS)
"""The combinations that are trained at every temperature. The ones that are added below serve the study of sizes alone."""

WIDTHS = (2, 4, 8, 16, 32, 64, 128, 256)


def of_width(width: int) -> str:
    """Return the key of the combination whose student has ``width`` hidden units, in the study of sizes."""
    return f"fashion 2,000, MLP {width}, AdamW"


COMBINATIONS |= {
    of_width(w): Combination("fashion", mlp(w), 2000, "adamw_torch", 2e-3, 1200, 64)
    for w in WIDTHS
    if w not in (16, 128)
}


class Studies:
    """The runs of the studies' students, kept in a folder beside the teachers and their stores.

    Args:
        folder: where ``runs.jsonl``, the teachers and their stores are kept; it is made when it does not exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.record = folder / "runs.jsonl"

    def run(
        self, combination: str, *, seed: int, share: float = 1.0, omitted: int | None = None, **objective: Any
    ) -> dict[str, float]:
        """Train one student, or find it in the record, and return its measures by name.

        Args:
            combination: a key of ``COMBINATIONS``.
            seed: draws the student's weights and the order of examples, which are the same for every objective.
            share: the fraction of the combination's steps to train for; the schedule ends with it.
            omitted: a class that the student never sees; by default none.
            **objective: the settings of the distillation that are not the default (temperature 4, alpha 0.9).
        """
        run: dict[str, Any] = {"combination": combination, "seed": seed, "share": share, **objective}
        if omitted is not None:
            run["omitted"] = omitted
        for line in read_lines(self.record):
            if {name: line[name] for name in line if name != "found"} == run:
                return line["found"]
        found = self._train(combination, seed, share, objective, omitted)
        append_line(self.record, {**run, "found": found})
        return found

    def _train(
        self, name: str, seed: int, share: float, objective: Mapping[str, Any], omitted: int | None
    ) -> dict[str, float]:
        chosen = COMBINATIONS[name]
        config, splits, teacher = self.setting(name)
        distillation = config.distillation.model_copy(update=dict(objective))
        student, examples = build_seeded_model(config.student, splits, seed), splits.train
        if omitted is not None:
            examples = examples.subset((splits.true_labels != omitted).nonzero().squeeze(-1))
        steps = max(1, round(share * chosen.steps))
        settings = {**config.training, "max_steps": steps}
        config = config.model_copy(update={"distillation": distillation, "training": settings, "seed": seed})
        train(student, teacher, examples, config, folder=self.folder / "scratch")
        of_validation, of_test = (predict_logits(student, part) for part in (splits.validation, splits.test))
        if omitted is not None:
            return omitted_class_metrics(of_validation, splits.validation.labels, of_test, splits.test.labels, omitted)
        validation, test = (
            classification_metrics(of_validation, splits.validation.labels),
            classification_metrics(of_test, splits.test.labels),
        )
        return {
            "steps": steps, "parameters": count_parameters(student), "validation": validation.accuracy, "test": test.accuracy,
            "validation_nll": validation.nll, "test_nll": test.nll,
        }  # fmt: skip

    @functools.cache  # noqa: B019
    def setting(self, name: str) -> tuple[Config, Splits, StoredTeacher]:
        """Return a combination's config, examples and stored teacher."""
        chosen = COMBINATIONS[name]
        base = TEACHERS[chosen.teacher]
        training = {
            "optim": chosen.optim, "learning_rate": chosen.rate, "per_device_train_batch_size": chosen.batch,
            "lr_scheduler_type": "cosine", "save_strategy": "no", "logging_strategy": "no", "dataloader_drop_last": False,
            **chosen.extra,
        }  # fmt: skip
        known = {} if chosen.examples is None else {"labelled": chosen.examples, "transfer": "labelled"}
        values = {
            **base, "data": {**base["data"], **known}, "student": dict(chosen.student), "distillation": {"alpha": 0.9},
            "training": training,
        }  # fmt: skip
        config = config_from(json.loads(json.dumps(values)))
        splits = load_splits(config.data, seed=config.seed)
        return config, splits, StoredTeacher(self.store(chosen.teacher))

    @functools.cache  # noqa: B019
    def store(self, teacher: str) -> Path:
        """Return the folder of a teacher's outputs on all of its training examples, which are made when they are missing."""
        folder = self.folder / teacher
        config = config_from({**TEACHERS[teacher], "student": mlp(16)})
        splits = load_splits(config.data, seed=config.seed)
        model = load_or_train_teacher(config, splits, folder)
        build_store(model, splits.train, folder / "store", Dense("float32"))
        return folder / "store"

"""``limbeck temperature analyze``: what each temperature does to a teacher's soft targets, without training a student."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from limbeck import report
from limbeck.atomic_files import write_json
from limbeck.commands.opening import open_and_tell
from limbeck.config import Config
from limbeck.data import Examples, FixedViews, Splits
from limbeck.errors import ConfigError
from limbeck.evaluation import predict_logits, rows_of
from limbeck.models import functions_of, load_model
from limbeck.run.folder import REPORT, STUDENT, read_run
from limbeck.run.teacher import check_has_logits
from limbeck.run.training import with_temperature
from limbeck.store import StoredTeacher
from limbeck.tasks import task_named
from limbeck.temperature.analysis import Analysis, Calibration, analyze

ANALYSIS = "analysis.json"
EXAMPLES = 5000
"""The training examples that are analysed, at most."""
VIEWS = 8
"""The views of each example that a teacher is run on."""
WITH_POSITIONS = {"token": 32, "pixel": 32, "word": 256}
"""The training examples from which tokens, pixels or words are analysed, at most."""
KEEPS_FEW = "teacher.cache: this store keeps a few classes of each position; the analysis needs all logits."


def analyze_temperatures(config: Config, folder: Path, *, student: Path | None = None) -> Analysis:
    """Analyse a config's teacher, live or stored, on up to 5,000 training examples; write a page and a JSON file.

    Args:
        config: the run.
        folder: where to write.
        student: the folder of a run whose student stands for the one to be trained; None for a student that knows
            nothing, whose logits are 0.

    Returns:
        What was measured.

    Raises:
        ConfigError: the config cannot be run, ``student`` holds no finished run, or the store keeps too little.
        DataError: the data cannot be read.
        ModelError: a model cannot be built or loaded.
        StoreError: the stored teacher cannot be read, or it does not fit the data.
    """
    if student is not None:
        read_run(student)
    if config.distillation.temperature == "auto":
        config = with_temperature(config, config.search.temperatures[0])
    opened, teacher = open_and_tell(config, Path(config.out), needs_softmax="temperature analyze")
    check_has_logits(teacher, "temperature analyze")
    splits = opened.splits
    labelled = splits.train.with_labels(splits.true_labels)
    if task_named(splits.task).unit != "example":
        return _analyze_positions(config, folder, splits, teacher, student)
    some = _some(labelled, EXAMPLES, config.seed)
    if isinstance(teacher, StoredTeacher):
        seen, held_out = _stored_logits(teacher, some), None
    else:
        seen = live_logits(teacher, some, config)
        # The teacher was trained on the labels of its training examples, so its calibration is measured on others.
        held_out = predict_logits(teacher, splits.validation), splits.validation.labels
    analysis = analyze(
        seen.logits,
        some.labels,
        student_logits=None if student is None else _student_logits(student, config, some),
        held_out=held_out,
        views=seen.views,
        view_kind=seen.kind,
    )
    return _written(analysis, folder)


def _analyze_positions(
    config: Config, folder: Path, splits: Splits, teacher: nn.Module | StoredTeacher, student: Path | None
) -> Analysis:
    """Analyse a teacher of tokens, words or pixels on positions that are spread over some training examples."""
    labelled, count = splits.train.with_labels(splits.true_labels), WITH_POSITIONS[task_named(splits.task).unit]
    some, held_out = (_some(examples, count, config.seed) for examples in (labelled, splits.validation))
    if isinstance(teacher, StoredTeacher):
        if teacher.views is not None:
            some = _FixedViewExamples(some, teacher.views, 0)
        logits, labels = rows_of(partial(_dense_logits, teacher), some)
    else:
        logits, labels = rows_of(teacher, some)
    theirs = None
    if student is not None:
        theirs = rows_of(load_model(student / STUDENT, model=functions_of(config.student)), some)[0]
        shared = min(logits.shape[-1], theirs.shape[-1])  # the columns of tokens that one has alone pad its vocabulary
        logits, theirs = logits[:, :shared], theirs[:, :shared]
    beside = rows_of(teacher, held_out) if isinstance(teacher, nn.Module) else None
    return _written(analyze(logits, labels, student_logits=theirs, held_out=beside), folder)


def _dense_logits(teacher: StoredTeacher, batch: dict[str, Any]) -> Tensor:
    """Return what a store says of a batch; raise a ConfigError if that is not all logits."""
    logits = teacher(batch).logits
    if logits is None:
        raise ConfigError(KEEPS_FEW)
    return logits


def _some(examples: Examples, count: int, seed: int) -> Examples:
    """Return at most so many of the examples, drawn at random, in their order."""
    drawn = torch.randperm(len(examples), generator=torch.Generator().manual_seed(seed))
    return examples.subset(drawn[:count].sort().values)


def _written(analysis: Analysis, folder: Path) -> Analysis:
    """Write the numbers and the page of an analysis, and return it."""
    write_json(folder / ANALYSIS, analysis.as_dict())
    report.write_analysis_page(folder / REPORT, analysis)
    return analysis


def _student_logits(folder: Path, config: Config, examples: Examples) -> Tensor:
    """Return the logits of the student of a run folder, which may call the function that the config names for its own."""
    return predict_logits(load_model(folder / STUDENT, model=functions_of(config.student)), examples)


def describe_calibration(calibration: Calibration) -> str:
    """Say which temperature calibrates the teacher's own predictions.

    Args:
        calibration: what was measured.

    Returns:
        The sentences.
    """
    found = (
        calibration.remark or f"dividing the teacher's logits by {calibration.temperature:.2f} would make it honest."
    )
    return (
        f"Calibration: {found} This is about the teacher's own predictions; it is not the temperature of distillation."
    )


@dataclass(frozen=True)
class TeacherLogits:
    """A teacher's logits of N examples, and of several views of them."""

    logits: Tensor
    """(N, V)."""
    views: Tensor | None = None
    """(views, N, V); None if there is one view of each example."""
    kind: str = ""
    """What the views are."""


def _stored_logits(teacher: StoredTeacher, examples: Examples) -> TeacherLogits:
    """Look up all views of the examples that a store keeps; raise a ConfigError if it keeps only some classes."""
    stored = teacher.views
    numbers = [None] if stored is None else [torch.full_like(examples.ids, v) for v in range(stored.count)]
    outputs = [teacher.store.look_up(examples.ids, view).logits for view in numbers]
    if outputs[0] is None:
        raise ConfigError(KEEPS_FEW)
    views = torch.stack([logits.float() for logits in outputs if logits is not None])
    return TeacherLogits(views[0], views if stored is not None else None, "the store's views")


def live_logits(teacher: nn.Module, examples: Examples, config: Config) -> TeacherLogits:
    """Run a teacher on examples, and on views of them: augmented ones, else passes with dropout, else none.

    Args:
        teacher: the model.
        examples: with one label for each example.
        config: the run, which says how the examples are augmented.

    Returns:
        The logits of the examples, and of their views if there are several.
    """
    logits = predict_logits(teacher, examples)
    augmentation = config.teacher.augmentation or config.data.augmentation
    if augmentation.shift or augmentation.flip:
        fixed = FixedViews(VIEWS, augmentation.shift, augmentation.flip, config.seed)
        views = [predict_logits(teacher, _FixedViewExamples(examples, fixed, v)) for v in range(VIEWS)]
        return TeacherLogits(logits, torch.stack(views), "augmented views")
    if any(isinstance(module, nn.Dropout) and module.p > 0 for module in teacher.modules()):
        passes = [_predict_with_dropout(teacher, examples, seed) for seed in range(VIEWS)]
        return TeacherLogits(logits, torch.stack(passes), "dropout passes")
    return TeacherLogits(logits)


class _FixedViewExamples(Examples):
    """The same view of every example."""

    def __init__(self, examples: Examples, views: FixedViews, view: int) -> None:
        super().__init__(examples.load, examples.labels, examples.ids, task=examples.task)
        self._views, self._view = views, view

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Any]:
        batch = super().__getitems__(indices)
        return self._views.select(batch, torch.full_like(batch["example_id"], self._view))


def _predict_with_dropout(teacher: nn.Module, examples: Examples, seed: int) -> Tensor:
    """Return the teacher's logits with its dropout layers on and every other layer in eval mode."""
    layers = [module for module in teacher.modules() if isinstance(module, nn.Dropout)]
    forward = [layer.forward for layer in layers]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for layer in layers:
            layer.forward = partial(nn.functional.dropout, p=layer.p, training=True)
        try:
            return predict_logits(teacher, examples)
        finally:
            for layer, before in zip(layers, forward, strict=True):
                layer.forward = before

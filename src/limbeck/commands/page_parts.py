"""What the pages of ``distill`` and ``compare`` show below their results."""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from limbeck import report
from limbeck.atomic_files import read_json
from limbeck.commands.command_line import command_line
from limbeck.commands.exploring import explorer_of
from limbeck.commands.temperature_search import CHOICE
from limbeck.config import Config
from limbeck.data import Splits
from limbeck.evaluation import Answers, measure_speed
from limbeck.losses.labels import most_likely_classes
from limbeck.models import count_parameters
from limbeck.run.folder import SEARCH
from limbeck.tasks import Classification, task_named

BATCHES = (1, 128)
"""The batch sizes of which the speed is told."""
SECONDS = 0.05
"""How long each of them is measured."""


def class_parts(
    splits: Splits,
    logits: Mapping[str, Tensor | Answers],
    values: Mapping[str, np.ndarray],
    gain: tuple[str, str] | None,
) -> dict[str, Any]:
    """Return the parts of a page about single classes and examples; none where an example has no single class.

    Args:
        splits: the examples.
        logits: what ``answers_of`` returned for "student" and, where it is run, for "teacher", of the test examples.
        values: for each model by its name (seeds, N), 1 where it is right about a test example and 0 where it is not.
        gain: two of these names: the gain of the first over the second is told; None for no gain.
    """
    if task_named(splits.task).name != Classification.name:
        return {}
    known = {name: z for name in ("student", "teacher") if isinstance(z := logits.get(name), Tensor)}
    names, parts = splits.label_names, dict[str, Any]()
    labels = most_likely_classes(splits.test.labels) if splits.has_test_labels else None
    if labels is not None:
        parts["reliability"] = report.reliability_diagram(labels, known)
        parts["confusions"] = report.confusion_table(names, labels, {name: z.argmax(-1) for name, z in known.items()})
        if gain is not None:
            parts["class_gains"] = report.class_gain_table(names, labels, values, gain)
    if "teacher" in known:
        parts["differing"] = report.differing_examples(splits.test, names, known["teacher"], known["student"], labels)
    return parts


def speed_part(models: Mapping[str, nn.Module], splits: Splits) -> report.Table:
    """Measure models, and return the table of their size, latency and throughput.

    Args:
        models: the models by name.
        splits: the examples.
    """
    sizes = {name: (count_parameters(model), _bytes_of(model)) for name, model in models.items()}
    found = [
        (name, measure_speed(model, splits.test, batch_size=batch, seconds=SECONDS))
        for name, model in models.items()
        for batch in BATCHES
    ]
    return report.speed_table(sizes, found)


def _bytes_of(model: nn.Module) -> int:
    return sum(weights.numel() * weights.element_size() for weights in model.parameters())


def explorer_part(
    config: Config,
    splits: Splits,
    teacher: nn.Module | None,
    logits: Mapping[str, Tensor | Answers],
    marks: Sequence[report.Mark],
    note: str = "",
) -> report.Explorer | None:
    """Return the temperature explorer; None where no teacher was run, or an example has no label of its own.

    Args:
        config: the run.
        splits: its examples.
        teacher: the model; None where its answers are stored.
        logits: what ``answers_of`` returned for "teacher" and "student", of the test examples.
        marks: the temperatures that were used.
        note: says something about them, in a sentence; "" for nothing.
    """
    theirs, own = logits.get("teacher"), logits.get("student")
    if teacher is None or not isinstance(theirs, Tensor) or not isinstance(own, Tensor):
        return None
    return explorer_of(config, splits, teacher, (theirs, own), marks, note)


def marks_of(config: Config, folder: Path) -> tuple[list[report.Mark], str]:
    """Return the temperature that a run used, as it is marked, and where it comes from in a sentence.

    Args:
        config: the run.
        folder: its folder.
    """
    objective = config.distillation
    if isinstance(objective.temperature, dict):
        return [], f"The temperature is not marked: the policy {objective.temperature['policy']} set it in training."
    if objective.alpha == 0:
        return [], "No temperature is marked: alpha is 0, so the student learned from labels alone."
    searched = was_searched(config, folder)
    marks = [report.Mark(objective.temperature, "found by the search" if searched else "used")]
    if objective.teacher_temperature is not None:
        marks.append(report.Mark(objective.teacher_temperature, "used for the teacher"))
    told = "A search found the temperature of this run." if searched else ""
    if objective.divergence != "forward_kl":
        told = f"{told} The loss that is shown is forward KL; this run minimised another divergence.".strip()
    return marks, told


def was_searched(config: Config, folder: Path) -> bool:
    """Return True if a search in a run's folder found the temperature that the run uses.

    Args:
        config: the run.
        folder: its folder.
    """
    found = folder / SEARCH / CHOICE
    return found.is_file() and read_json(found)["temperature"] == config.distillation.temperature


def facts_part(facts: Mapping[str, str], seeds: Sequence[int], seconds: float) -> report.Table:
    """Return the table of what ran.

    Args:
        facts: what the run's plan told, by name.
        seeds: the seeds of its students.
        seconds: how long it took.
    """
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("limbeck", "torch", "transformers"))
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
    took = f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
    more = {
        "seeds" if len(seeds) > 1 else "seed": ", ".join(map(str, seeds)),
        "command": command_line(),
        "versions": f"{versions}, Python {platform.python_version()}",
        "machine": f"{platform.system()}, {device}",
        "date": datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        "duration": took,
    }
    return list({**facts, **more}.items())

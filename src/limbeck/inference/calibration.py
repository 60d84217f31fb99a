"""The scale of a student's logits with which its probabilities fit true labels best, in a file of its own.

It is the reciprocal of what Guo et al. ("On Calibration of Modern Neural Networks", 2017) call the temperature. It is kept as a
scale, ``logit_scale``, so that nobody takes it for the temperature of distillation, which has nothing to do with it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import Tensor, nn

from limbeck.atomic_files import write_json
from limbeck.data import IGNORE_INDEX, Examples
from limbeck.errors import ConfigError, DataError
from limbeck.evaluation import classification_metrics, rows_of
from limbeck.models import load_model
from limbeck.run.classes import in_order_of_data
from limbeck.run.folder import STUDENT, read_run
from limbeck.run.inputs import load_run_splits
from limbeck.store.fingerprints import fingerprint_of_model
from limbeck.tasks import Task, has_numbers, task_named
from limbeck.temperature.calibration import HIGHEST, LOWEST, Calibration, calibrate

CALIBRATION = "calibration.json"


@dataclass(frozen=True)
class Fit:
    """How well probabilities fit the true labels of a set, as they are and with the scale."""

    labels: int
    """The number of labels: of examples, of pixels or of words."""
    error_before: float
    """The expected calibration error, between 0 and 1."""
    error_after: float
    nll_before: float
    """The mean negative log-likelihood of the true labels, in nats."""
    nll_after: float


@dataclass(frozen=True)
class StudentCalibration:
    """The scale that was found for a student's logits."""

    logit_scale: float
    """Below 1 the student is too sure of itself, above 1 it is not sure enough."""
    validation: Fit
    """The labels that the scale was fitted on."""
    test: Fit | None
    """The labels of the test set, if it has any."""


def calibrate_student(folder: str | Path, *, functions: Sequence[str] = ()) -> StudentCalibration:
    """Find the scale of a student's logits with the smallest NLL on the validation set, and write ``calibration.json``.

    Nothing applies it unless it is asked for: ``limbeck.load(folder, calibrated=True)``.

    Args:
        folder: the folder of a finished run.
        functions: names ``package.module:function`` that may be called.

    Returns:
        The scale, and the fit before and after on the validation and the test set.

    Raises:
        ConfigError: the folder holds no finished run, its student's task has no such probabilities, or the data are not what
            the student was trained on.
        DataError: the data cannot be read, or no scale in the range that is tried is best; nothing is written then.
        ModelError: the student cannot be loaded.
    """
    folder = Path(folder)
    splits = load_run_splits(read_run(folder))
    check_task(task_named(splits.task))
    student = load_model(folder / STUDENT, model=functions)
    model = in_order_of_data(student, folder / STUDENT, splits, key=str(folder / STUDENT))
    logits, labels = _labelled_rows(model, splits.validation)
    found = calibrate(logits, labels)
    if found.at_edge:
        raise DataError(f"{folder}: not calibrated: {_why_not(found)}")
    scale = 1 / found.temperature
    test = _fit(*_labelled_rows(model, splits.test), scale) if splits.has_test_labels else None
    calibration = StudentCalibration(scale, _fit(logits, labels, scale), test)
    method = (
        "temperature scaling (Guo et al., 2017): softmax(logit_scale * logits). Not the temperature of distillation."
    )
    write_json(
        folder / CALIBRATION, {**asdict(calibration), "student": fingerprint_of_model(student), "method": method}
    )
    return calibration


def check_task(task: Task) -> None:
    """Check that a task's probabilities are those of one class among several.

    Args:
        task: the task.

    Raises:
        ConfigError: they are not.
    """
    if has_numbers(task):
        raise ConfigError(f"task: {task.name} has no probabilities, so there is nothing to calibrate.")
    if task.family != "softmax":
        raise ConfigError(
            f"task: {task.name} has a sigmoid for each class, and one scale is fitted to a softmax alone."
        )
    if task.unit == "token":
        raise ConfigError(
            f"task: {task.name} writes the likeliest tokens, which no scale changes, so there is nothing to calibrate."
        )


def _labelled_rows(model: nn.Module, examples: Examples) -> tuple[Tensor, Tensor]:
    """Return the logits (N, V) and the labels (N,) where there is a label."""
    logits, labels = rows_of(model, examples)
    known = labels != IGNORE_INDEX
    return logits[known], labels[known]


def _fit(logits: Tensor, labels: Tensor, scale: float) -> Fit:
    before, after = classification_metrics(logits, labels), classification_metrics(scale * logits, labels)
    return Fit(len(labels), before.calibration_error, after.calibration_error, before.nll, after.nll)


def _why_not(found: Calibration) -> str:
    """Return why no scale is best."""
    if not math.isfinite(found.nll_after):
        return "the student gives a probability of 0 to some true labels of the validation set, whatever the scale."
    if found.temperature < 1:
        return (
            f"the best scale is the largest that was tried, {1 / LOWEST:.1f}: the student makes no mistakes on the "
            f"{found.examples} labels of the validation set, or its logits are very small. Use more validation examples."
        )
    return (
        f"the best scale is the smallest that was tried, {1 / HIGHEST:.4f}: the student's logits say nothing about the "
        f"{found.examples} labels of the validation set. Was it trained on these classes?"
    )


def read_logit_scale(folder: Path, student: nn.Module) -> float:
    """Read the scale that ``limbeck calibrate`` found for a run's student.

    Args:
        folder: the run's folder.
        student: its student.

    Returns:
        What to multiply the logits by.

    Raises:
        ConfigError: there is no such file, it is broken, or it was made for other weights.
    """
    path = folder / CALIBRATION
    remedy = f"Make it with: limbeck calibrate {folder}"
    if not path.is_file():
        raise ConfigError(f"{path}: no such file. {remedy}")
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        scale, known = float(saved["logit_scale"]), saved["student"]
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} cannot be read ({error}). {remedy}") from None
    if known != fingerprint_of_model(student):
        raise ConfigError(f"{path}: was made for a student with other weights. {remedy}")
    return scale

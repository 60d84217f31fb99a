"""One look at a run before hours of training: its data, both models on a real batch, its store and its arguments."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from limbeck.config import Config, write_config
from limbeck.data import Splits
from limbeck.distributed import process_state
from limbeck.errors import ArgumentError, ConfigError
from limbeck.losses import CollapsedTeacherWarning
from limbeck.models import forward_logits
from limbeck.run.classes import check_student, check_task
from limbeck.run.faults import Faults
from limbeck.run.first_batch import look_batches, meet
from limbeck.run.folder import CONFIG, check_folder
from limbeck.run.inputs import load_run_splits
from limbeck.run.language import check_alignment, check_vocabularies
from limbeck.run.teacher import load_teacher, open_stored_teacher, teacher_training_config
from limbeck.run.training import build_seeded_model, count_steps, training_arguments
from limbeck.store import StoredTeacher
from limbeck.tasks import task_named
from limbeck.teachers import as_teacher

if TYPE_CHECKING:
    from limbeck.training import DistillationArguments


@dataclass(frozen=True)
class OpenedRun:
    """The examples and the teacher of a run that passed all checks."""

    splits: Splits
    teacher: nn.Module | StoredTeacher | None
    """The teacher; None if the run must train it first."""
    student: nn.Module
    """The student as it was looked at: a training begins with a new one."""
    untrained: nn.Module | None = None
    """The teacher that must be trained first, as it was looked at."""
    facts: dict[str, str] = field(default_factory=dict)
    """What the run's plan told, by name; empty before a command has told it."""


def open_run(config: Config, folder: Path, *, resume: bool = False, live_teacher: bool = False) -> OpenedRun:
    """Look at a run as ``inspect_run`` does, then write the config into the run's folder.

    Args:
        config: the run.
        folder: the run's folder. It may exist.
        resume: continue a run that was begun in the folder.
        live_teacher: the teacher itself is run, also where the config names a store.

    Returns:
        The examples, and the teacher where it need not be trained first.

    Raises:
        ConfigError: the config cannot be run, or the folder holds a run that this one does not resume; one line for each fault.
    """
    faults, begun = Faults(config), False
    with faults.under("out"):
        begun = check_folder(config, folder, resume=resume)
    opened = inspect_run(config, folder, live_teacher=live_teacher, faults=faults)
    if not begun and process_state().is_main_process:
        write_config(config, folder / CONFIG)
    return opened


def inspect_run(
    config: Config,
    folder: Path,
    *,
    live_teacher: bool = False,
    builds_store: bool = False,
    needs_softmax: str | None = None,
    needs_temperature: bool = False,
    faults: Faults | None = None,
) -> OpenedRun:
    """Find everything that can be found wrong with a run before hours of training. Nothing is written.

    Args:
        config: the run.
        folder: the run's folder, which keeps a teacher that the run has trained.
        live_teacher: the teacher itself is run, also where the config names a store.
        builds_store: the command keeps what the teacher says.
        needs_softmax: the command that is run, if it knows nothing but one class out of all.
        needs_temperature: the command looks for a temperature.
        faults: what was found wrong before.

    Returns:
        The examples, and the teacher where it need not be trained first.

    Raises:
        ConfigError: the config cannot be run; one line for each fault, with its key and where that was written.
    """
    faults = faults or Faults(config)
    splits = student = teacher = untrained = arguments = None
    with faults.under("training"):
        arguments = training_arguments(config, folder)
    with faults.under("data.name"):
        loaded = load_run_splits(config)
        check_task(
            config,
            loaded,
            builds_store=builds_store,
            needs_softmax=needs_softmax,
            needs_temperature=needs_temperature,
        )
        other = live_teacher or builds_store or needs_softmax or needs_temperature
        if config.distillation.alignment is not None and other:
            raise ConfigError(
                "distillation.alignment: uld is for limbeck distill and evaluate. This command compares the teacher with "
                "students or labels token by token. Leave it out."
            )
        check_alignment(config, loaded)
        splits = loaded
    if splits is None:  # what models must take and return depends on the data
        faults.raise_all()
    assert splits is not None
    with faults.under("training"):
        count_steps(config, splits.train)
    with faults.under("student.model"):
        student = build_seeded_model(config.student, splits, config.seed)
        check_student(student, splits)
    stored = config.teacher.cache is not None and not live_teacher
    key = "ensemble" if config.teacher.ensemble else config.teacher.key
    with faults.under(f"teacher.{'cache' if stored else key}"):
        teacher = open_stored_teacher(config, splits, student) if stored else load_teacher(config, splits, folder)
        if teacher is None and not task_named(splits.task).has_labels:
            raise ConfigError(
                "teacher.training: embeddings have no labels to train a teacher on. Name a trained model."
            )
        if teacher is None:
            with faults.under("teacher.training"):
                training_arguments(teacher_training_config(config), folder)
            untrained = build_seeded_model(config.teacher, splits, config.seed)
            check_student(untrained, splits, "teacher.model")
    with faults.under("distillation"):
        _check_objective(config, folder, splits)
    faults.raise_all()
    assert student is not None
    assert arguments is not None
    opened = OpenedRun(splits, teacher, student, untrained)
    with faults.under("distillation.divergence"):
        _check_loss(arguments, opened)
    faults.raise_all()
    return opened


def _check_objective(config: Config, folder: Path, splits: Splits) -> None:
    """Raise an error if a setting of the objective has no meaning for the task of the data."""
    try:
        training_arguments(config, folder).objective(task_named(splits.task).family)
    except ArgumentError as error:
        raise ConfigError(f"distillation.{error.argument}: {error.message}") from None


def _check_hidden(arguments: DistillationArguments, opened: OpenedRun) -> None:
    """Raise an error if the hidden states of student and teacher cannot be compared as the arguments say."""
    from limbeck.training.hidden_states import hidden_states_of

    if opened.teacher is None:
        raise ConfigError("distillation.hidden: needs a teacher that is trained already. Leave out teacher.training.")
    task = task_named(opened.splits.task)
    try:
        hidden_states_of(arguments, opened.student, as_teacher(opened.teacher), task)
    except ArgumentError as error:
        raise ConfigError(f"distillation.hidden: {error.message}") from None


@torch.no_grad()
def _check_loss(arguments: DistillationArguments, opened: OpenedRun) -> None:
    """Raise an error if the loss of the first examples cannot be computed, or is not finite."""
    source = opened.teacher or opened.untrained
    if source is None or arguments.alpha == 0:
        return
    task = task_named(opened.splits.task)
    if arguments.hidden_term is not None:
        _check_hidden(arguments, opened)
    is_shared = arguments.alignment is None
    if task.unit == "token" and opened.teacher is not None and is_shared:
        check_vocabularies(opened.student, opened.teacher, opened.splits)
    # what is to be trained is not frozen
    models = as_teacher(source).models if opened.untrained is None else [opened.untrained]
    try:
        batch = task.complete(next(look_batches(opened.splits)), [opened.student, *models])
    except ArgumentError as error:
        raise ConfigError(f"teacher.model: {error.message}") from None
    if isinstance(source, StoredTeacher):
        output = source(batch if source.views is None else source.views(batch))
        teacher = output.logits if output.targets is None else output.targets
    else:
        teacher = forward_logits(source.eval(), batch)
        if opened.teacher is None:  # it will be trained first, so its first values say nothing
            teacher = torch.zeros_like(teacher)
    logits = forward_logits(opened.student.eval(), batch)
    student, teacher, targets = meet(task, logits, teacher, batch, shared=is_shared)
    objective = arguments.objective(task.family)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapsedTeacherWarning)  # the training says it, once
        loss = objective(student, teacher, targets.labels, mask=targets.mask)
    if not bool(loss.isfinite()):
        name = type(objective.divergence).__name__
        has_zeros = isinstance(teacher, Tensor) and bool(teacher.isneginf().any())
        raise ConfigError(
            f"distillation.divergence: {name} is infinite where the teacher gives a class the probability 0, as here. Take "
            "forward_kl, jsd or tvd, or a teacher without zeros."
            if has_zeros
            else f"distillation.divergence: the loss ({name}) of the first examples is {loss.item()}. Expected a finite number."
        )

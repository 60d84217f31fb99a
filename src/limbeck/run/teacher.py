"""The teacher of a run: loaded, trained, opened from a store, or asked about every example beforehand."""

from __future__ import annotations

import dataclasses
import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from limbeck.config import Config
from limbeck.config.schema import MemberConfig, TrainedConfig
from limbeck.data import Examples, Splits
from limbeck.errors import ArgumentError, ConfigError
from limbeck.evaluation import predict_logits
from limbeck.models import (
    LogProbabilities,
    OnnxModel,
    functions_of,
    load_estimator,
    load_model,
    load_trained_model,
    save_model,
)
from limbeck.models.kept_tokens import TeacherOfKept
from limbeck.models.loading import NO_WEIGHTS
from limbeck.run.classes import check_tokens, columns_in_store, in_order_of_data, member_of_ensemble
from limbeck.run.faults import Faults
from limbeck.run.folder import CHECKPOINTS, TEACHER
from limbeck.run.language import check_alignment, reading_own_tokens
from limbeck.run.training import NO_LOGS, build_seeded_model, train
from limbeck.store import StoredTeacher, TeacherStore
from limbeck.tasks import Task, task_named
from limbeck.teachers import Ensemble, EnsembleModel, InMemoryTeacher

MOST_BYTES = 2**30
"""The most memory that the teacher's logits of pixels may take where they are kept for all students."""

Arranged = TypeVar("Arranged")


def load_teacher(config: Config, splits: Splits, folder: Path) -> nn.Module | None:
    """Load the teacher that a config names, or that the run has trained already.

    Args:
        config: the run.
        splits: the run's examples.
        folder: the run's folder.

    Returns:
        The teacher, in eval mode, with its columns in the order of the data's classes; None if it must be trained first.

    Raises:
        ConfigError: the config names no model, or a built-in one without ``teacher.training``.
        ModelError: the model cannot be built or loaded.
    """
    teacher_config = config.teacher
    if teacher_config.ensemble is not None:
        return _load_ensemble(config, teacher_config.ensemble, splits)
    if not teacher_config.name:
        raise ConfigError(
            "teacher.model: needed here, where the teacher itself is run; a store of its outputs is not enough."
        )
    if teacher_config.training is None:
        if config.distillation.alignment is not None:
            check_alignment(config, splits)
            model = load_trained_model(teacher_config, splits.shape, head=task_named(splits.task).head)
            return reading_own_tokens(model, splits, "teacher.model")
        return _load_trained(teacher_config, splits, "teacher")
    if (folder / TEACHER / "config.json").is_file():
        return load_run_teacher(folder, splits, functions_of(teacher_config))
    return None


def _load_trained(
    named: TrainedConfig, splits: Splits, section: str, arrange: Callable[..., Arranged] = in_order_of_data
) -> Arranged:
    """Return a model that is trained already, with its columns in the order of the data's classes."""
    key = f"{section}.{named.key}"
    if named.sklearn is not None:
        table = splits.preprocessing.table
        estimator = load_estimator(named.sklearn, named.trusted, table and table.rows)
        return arrange(estimator, None, splits, key=key)
    if named.onnx is not None:
        return arrange(_as_logits(OnnxModel(named.onnx, named.outputs), named, splits, section), None, splits, key=key)
    if named.is_untrained:
        raise ConfigError(f"{key}: {named.model} {NO_WEIGHTS}")
    teacher = load_trained_model(named, splits.shape, head=task_named(splits.task).head)
    if (kept := getattr(splits.train.load, "kept", None)) is not None:
        check_tokens(teacher, kept.whole, key)
        teacher = TeacherOfKept(teacher, kept).eval()
    folder = Path(named.model)
    return arrange(_as_logits(teacher, named, splits, section), folder if folder.is_dir() else None, splits, key=key)


def _as_logits(teacher: nn.Module, named: TrainedConfig, splits: Splits, section: str) -> nn.Module:
    """Return a teacher that gives logits of the task's family, also where it itself gives probabilities."""
    if named.outputs == "logits":
        return teacher
    family = task_named(splits.task).family
    if family not in ("softmax", "sigmoid"):
        raise ConfigError(f"{section}.outputs: {splits.task} has no probabilities. Leave it out.")
    return LogProbabilities(teacher, family)


def _load_ensemble(config: Config, named: Sequence[MemberConfig], splits: Splits) -> EnsembleModel:
    """Return an ensemble whose members have their columns in the order of the data's classes, each by itself."""
    faults, members, classes = Faults(), [], []
    if config.teacher.average == "probabilities":
        objective = config.distillation
        if task_named(splits.task).family != "softmax":
            faults.lines.append(
                f"teacher.average: probabilities are those of one class each, and the task is {splits.task}. "
                "Set average: logits."
            )
        if objective.target_temperature is None and objective.temperature != "auto":
            faults.lines.append(
                "teacher.average: probabilities are averaged at one temperature, and a policy changes it. Set "
                "average: logits."
            )
    for i, member in enumerate(named):
        section = f"teacher.ensemble.{i}"
        with faults.under(f"{section}.{member.key}"):
            model, known = _load_trained(member, splits, section, member_of_ensemble)
            members.append(model)
            classes.append(known)
    faults.raise_all()
    return EnsembleModel(members, [member.weight for member in named], config.teacher.average, classes)


def check_has_logits(teacher: object, command: str) -> None:
    """Check that a teacher has one set of logits for all temperatures, which an average of probabilities has not.

    Args:
        teacher: the teacher of a run.
        command: the command that needs them, for the message.

    Raises:
        ConfigError: it is an ensemble that averages probabilities.
    """
    if isinstance(teacher, EnsembleModel) and teacher.average == "probabilities":
        raise ConfigError(
            f"teacher.average: probabilities are averaged at the temperature of the loss, and limbeck {command} needs one set "
            "of logits for all temperatures. Set average: logits."
        )


def load_or_train_teacher(config: Config, splits: Splits, folder: Path, *, resume: bool = False) -> nn.Module:
    """Load the teacher, or train it on every true label of the training set and keep it in the run's folder.

    Args:
        config: the run. With ``teacher.training``, the teacher is trained once and then loaded from the folder.
        splits: the run's examples.
        folder: the run's folder.
        resume: continue a training of the same teacher that was interrupted.

    Returns:
        The teacher, in eval mode.

    Raises:
        ConfigError: the config names no model, or a built-in one without ``teacher.training``.
        ModelError: the model cannot be built or loaded.
    """
    teacher = load_teacher(config, splits, folder)
    if teacher is not None:
        return teacher
    saved, teacher_config = folder / TEACHER, config.teacher
    teacher = build_seeded_model(teacher_config, splits, config.seed)
    trainer = train(
        teacher,
        None,
        splits.train.with_labels(splits.true_labels),
        teacher_training_config(config),
        folder=folder / CHECKPOINTS / TEACHER,
        resume=resume,
        title="Training the teacher",
    )
    if trainer.is_world_process_zero():
        save_model(teacher, saved, teacher_config, splits.shape)
        splits.preprocessing.save(saved)
        shutil.rmtree(folder / CHECKPOINTS / TEACHER, ignore_errors=True)
    trainer.accelerator.wait_for_everyone()
    return teacher.eval()


def load_run_teacher(folder: Path, splits: Splits, functions: Sequence[str] = ()) -> nn.Module:
    """Load the teacher that a run trained.

    Args:
        folder: the run's folder.
        splits: the run's examples.
        functions: names ``package.module:function`` that may be called to build it.

    Returns:
        The teacher in eval mode, with its columns in the order of the data's classes.

    Raises:
        ModelError: it cannot be loaded.
        ConfigError: its classes are not those of the data.
    """
    teacher = load_model(folder / TEACHER, model=functions)
    return in_order_of_data(teacher, folder / TEACHER, splits, key=str(folder / TEACHER))


def teacher_training_config(config: Config) -> Config:
    """Return the config that a run's teacher is trained by.

    Args:
        config: the run.

    Returns:
        The config with the training arguments and the augmentation of its ``teacher`` section.
    """
    training = {**NO_LOGS, **(config.teacher.training or {})}
    augmentation = config.teacher.augmentation or config.data.augmentation
    data = dataclasses.replace(config.data, augmentation=augmentation)
    return config.model_copy(update={"training": training, "data": data})


def open_stored_teacher(config: Config, splits: Splits, student: nn.Module | None = None) -> StoredTeacher:
    """Open the store that a config names, and check that it fits the examples, their augmentation and the temperature.

    Args:
        config: the run; ``teacher.cache`` names the store.
        splits: the run's examples.
        student: makes the inputs of a decoder, which must be those that the teacher has read.

    Returns:
        The teacher that looks its outputs up in the store.

    Raises:
        StoreError: the store cannot be read, or was made from other data.
        ConfigError: the store lacks a class of the data, was made with another augmentation, or cannot be used at the config's
            temperature.
    """
    assert config.teacher.cache is not None
    store = TeacherStore(config.teacher.cache)
    try:
        teacher = StoredTeacher(store, columns_in_store(store, splits))
    except ArgumentError as error:
        raise ConfigError(f"teacher.cache: {error.message}") from None
    store.check(examples=splits.train if student is None else as_read_by(student, splits.train))
    _check_views(store, config)
    _check_temperature(store, config, splits)
    return teacher


def as_read_by(model: nn.Module, examples: Examples) -> Examples:
    """Return the examples with the inputs that their task makes from their labels by a model's own rule.

    Args:
        model: the model that reads them.
        examples: the examples. They are returned as they are if their task makes none.
    """
    task = task_named(examples.task)
    if type(task).complete is Task.complete:
        return examples

    def load(rows: list[int]) -> dict[str, Any]:
        return task.complete(examples.load(rows), [model])

    return Examples(load, examples.labels, examples.ids, task=examples.task)


def _check_views(store: TeacherStore, config: Config) -> None:
    """Raise a ConfigError if the student would see other views of the examples than the teacher saw."""
    stored, wanted = store.description.views, config.data.augmentation
    if wanted.mixes or (wanted.shift, wanted.flip) != ((stored.shift, stored.flip) if stored else (0, False)):
        there = f"views with shift {stored.shift}, flip {stored.flip}" if stored else "one view of each example"
        raise ConfigError(
            f"data.augmentation: the stored teacher was asked about {there}. Set the same, or build the store with cache.views."
        )


def _check_temperature(store: TeacherStore, config: Config, splits: Splits) -> None:
    """Raise a ConfigError if the store's targets cannot be used at the config's temperature."""
    first = splits.train.ids[:1]
    targets = store.look_up(first, None if store.description.views is None else torch.zeros_like(first)).targets
    if targets is not None and targets.log_probs is not None:
        try:
            targets.at(_fixed_temperature(config))
        except ArgumentError as error:
            raise ConfigError(f"distillation.{error.argument}: {error.message}") from None
    elif targets is not None and targets.drawn_at != _fixed_temperature(config):
        raise ConfigError(
            f"distillation.temperature: the store's draws were made at T = {targets.drawn_at:g} and serve no other."
        )


def _fixed_temperature(config: Config) -> float:
    """Return the one temperature of the soft targets; raise a ConfigError if it changes during training."""
    t = config.distillation.target_temperature
    if t is None:
        raise ConfigError(
            "distillation.temperature: the store keeps some classes at certain temperatures, and this changes T. Name one of "
            "those, or store dense logits."
        )
    return t


def precompute_teacher(teacher: nn.Module, examples: Examples) -> InMemoryTeacher | Ensemble | None:
    """Compute the teacher's logits for every example once, for students that see one view of each example.

    Args:
        teacher: the model to run.
        examples: the examples that the students will be trained on.

    Returns:
        A teacher that looks the logits up; for an ensemble, the ensemble of such teachers. None if the logits are those of
        tokens, or too many to keep.
    """
    if task_named(examples.task).unit != "example" and not _fits_in_memory(teacher, examples):
        return None
    if isinstance(teacher, EnsembleModel):
        members = [precompute_teacher(member, examples) for member in teacher.members]
        return None if None in members else teacher.teacher_of([member for member in members if member is not None])
    logits = predict_logits(teacher, examples, progress="Asking the teacher")
    # example_id counts the rows of the whole source, of which these examples are a part.
    rows = logits.new_full((int(examples.ids.max()) + 1, *logits.shape[1:]), math.nan)
    rows[examples.ids] = logits
    return InMemoryTeacher(rows)


def _fits_in_memory(teacher: nn.Module, examples: Examples) -> bool:
    """Return True if the logits of all examples have one shape and are few enough to be kept."""
    if examples.tokenizer is not None:
        return False
    one = predict_logits(teacher, examples.subset(torch.arange(1)))
    return one.numel() * one.element_size() * (int(examples.ids.max()) + 1) <= MOST_BYTES

"""The teacher of a run: loaded, trained, looked up in a store, or asked once."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import nn

from limbeck.config import Config
from limbeck.data import Examples, Splits
from limbeck.errors import ConfigError, StoreError
from limbeck.evaluation import predict_logits
from limbeck.models import BUILT_IN, functions_of, load_model, save_model
from limbeck.run.folder import CHECKPOINTS, TEACHER
from limbeck.run.training import QUIET, build_student, train
from limbeck.store import StoredTeacher, TeacherStore
from limbeck.teachers import InMemoryTeacher


def obtain_teacher(config: Config, splits: Splits, folder: Path) -> nn.Module:
    """Load the teacher, or train it on every true label of the training set and keep it in the run's folder."""
    spec = config.teacher
    if not spec.model:
        raise ConfigError(
            "teacher.model: needed here, where the teacher itself is run; a cache of its words is not enough."
        )
    if spec.training is None:
        if spec.model in BUILT_IN:
            raise ConfigError(
                f"teacher.model: {spec.model} has no weights yet. Add teacher.training to train it, or name a trained model."
            )
        return build_student(spec, splits, config.seed).eval()
    saved = folder / TEACHER
    if (saved / "config.json").is_file():
        return load_model(saved, model=functions_of(spec))
    teacher = build_student(spec, splits, config.seed)
    trainer = train(
        teacher,
        None,
        splits.train.with_labels(splits.true_labels),
        config,
        folder=folder / CHECKPOINTS / TEACHER,
        training={**QUIET, **spec.training},
        augmentation=spec.augmentation,
        title="Training the teacher",
    )
    if trainer.is_world_process_zero():
        save_model(teacher, saved, spec, splits.shape)
    trainer.accelerator.wait_for_everyone()
    return teacher.eval()


def stored_teacher(config: Config, splits: Splits) -> StoredTeacher:
    """Open the store that a config names, and see that it fits: these examples, this temperature, one view.

    Raises:
        StoreError, ConfigError: it does not.
    """
    assert config.teacher.cache is not None
    store = TeacherStore(config.teacher.cache)
    if store.description.classes != splits.shape.classes:
        raise StoreError(
            f"{store.storage}: has {store.description.classes} classes, and the data has {splits.shape.classes}."
        )
    store.check(examples=splits.train)
    stored, asked = store.description.views, config.data.augmentation
    if asked.mixup or (asked.shift, asked.flip) != ((stored.shift, stored.flip) if stored else (0, False)):
        there = f"views with shift {stored.shift}, flip {stored.flip}" if stored else "one view of each example"
        raise ConfigError(
            f"data.augmentation: the stored teacher was asked about {there}. Set the same, or build the store with cache.views."
        )
    first = splits.train.ids[:1]
    targets = store.look_up(first, None if stored is None else torch.zeros_like(first)).targets
    if targets is not None and targets.log_probs is not None:
        try:
            targets.at(_one_temperature(config))
        except ValueError as error:
            raise ConfigError(f"distillation.{error}") from None
    elif targets is not None and targets.drawn_at != _one_temperature(config):
        raise ConfigError(
            f"distillation.temperature: the store's draws were made at T = {targets.drawn_at:g} and serve no other."
        )
    return StoredTeacher(store)


def _one_temperature(config: Config) -> float:
    t = config.distillation.target_temperature
    if t is None:
        raise ConfigError(
            "distillation.temperature: the store keeps some classes at certain temperatures, and this changes T. Name one of "
            "those, or store dense logits."
        )
    return t


def in_memory_teacher(teacher: nn.Module, examples: Examples) -> InMemoryTeacher:
    """Ask the teacher once about every example, for students that see each in one view only."""
    logits = predict_logits(teacher, examples, progress="Asking the teacher")
    # example_id counts the source's rows, of which these examples are some
    rows = logits.new_full((int(examples.ids.max()) + 1, logits.shape[1]), math.nan)
    rows[examples.ids] = logits
    return InMemoryTeacher(rows)

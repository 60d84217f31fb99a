"""One training, as a config describes it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import nn

from limbeck.config import Config, DistillationConfig
from limbeck.data import Augmentation, Examples, Splits, identity_collate
from limbeck.errors import ConfigError
from limbeck.models import ModelConfig, build_model
from limbeck.store import StoredTeacher
from limbeck.teachers import Teacher

QUIET = {"save_strategy": "no", "logging_strategy": "no", "eval_strategy": "no"}
"""For a training that leaves nothing but its model."""


def build_student(config: ModelConfig, splits: Splits, seed: int) -> nn.Module:
    """Build a model with weights that ``seed`` draws."""
    torch.manual_seed(seed)
    return build_model(config, splits.shape, labels=splits.label_names)


def train(
    student: nn.Module,
    teacher: nn.Module | Teacher | None,
    examples: Examples,
    config: Config,
    *,
    folder: Path,
    distillation: DistillationConfig | None = None,
    training: dict[str, Any] | None = None,
    augmentation: Augmentation | None = None,
    validation: Examples | None = None,
    seed: int | None = None,
    resume: bool = False,
    title: str | None = None,
) -> Any:
    """Train one model with a ``DistillationTrainer``; without a teacher, on labels alone. Settings default to the config's.

    Returns:
        The trainer.
    """
    from transformers import PrinterCallback
    from transformers.trainer import DEFAULT_PROGRESS_CALLBACK

    from limbeck.training import DistillationTrainer, last_complete_checkpoint
    from limbeck.training.callbacks import ProgressBar

    objective = distillation or config.distillation
    if teacher is None:
        objective = objective.model_copy(update={"alpha": 0.0})
    args = arguments(config, folder, distillation=objective, training=training, seed=seed)
    asked = augmentation or config.data.augmentation
    # With a stored teacher the trainer shows the store's own views.
    augmented = asked.is_on and not isinstance(teacher, StoredTeacher)
    trainer = DistillationTrainer(
        student,
        teacher,
        args,
        identity_collate,
        examples,
        validation,
        augment=asked if augmented else None,
        callbacks=[] if title is None else [ProgressBar(title)],
    )
    for callback in (PrinterCallback, DEFAULT_PROGRESS_CALLBACK):
        trainer.remove_callback(callback)
    checkpoint = last_complete_checkpoint(folder) if resume else None
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    return trainer


def arguments(
    config: Config,
    folder: Path,
    *,
    distillation: DistillationConfig | None = None,
    training: dict[str, Any] | None = None,
    seed: int | None = None,
) -> Any:
    """The ``DistillationArguments`` of one training, defaulting to the config's.

    Raises:
        ConfigError: arguments that Transformers refuses.
    """
    from limbeck.training import DistillationArguments

    if (distillation or config.distillation).temperature == "auto":
        raise ConfigError(
            "distillation.temperature: auto is for limbeck distill, which searches first. Name a number here, or a policy."
        )
    settings: dict[str, Any] = {
        "output_dir": str(folder),
        "seed": config.seed if seed is None else seed,
        "save_total_limit": 2,
        "disable_tqdm": True,
        **(config.training if training is None else training),
    }
    try:
        return DistillationArguments(**settings, **(distillation or config.distillation).model_dump())
    except (ValueError, ImportError, TypeError) as error:
        raise ConfigError(f"training: {' '.join(str(error).split())}") from None


def steps_of(config: Config, examples: Examples) -> int:
    """How many steps the config's training takes over these examples.

    Raises:
        ConfigError: none.
    """
    settings: dict[str, Any] = config.training
    if settings.get("max_steps", -1) > 0:
        return settings["max_steps"]
    batch = settings.get("per_device_train_batch_size", 8) * settings.get("gradient_accumulation_steps", 1)
    steps = math.ceil(math.ceil(len(examples) / batch) * settings.get("num_train_epochs", 3))
    if steps < 1:
        raise ConfigError("training: no step to take; set max_steps or num_train_epochs.")
    return steps

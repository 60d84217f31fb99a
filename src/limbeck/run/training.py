"""One training, as a config describes it."""

from __future__ import annotations

import math
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from limbeck.config import Config
from limbeck.config.schema import StudentConfig
from limbeck.data import Examples, Splits, identity_collate
from limbeck.distributed import process_state
from limbeck.errors import ArgumentError, ConfigError
from limbeck.interruption import Interrupted, wait_when_interrupted
from limbeck.models import ModelConfig, build_model
from limbeck.models.kept_tokens import cut_vocabulary
from limbeck.models.shrink import keep_layers
from limbeck.run.classes import check_tokens
from limbeck.run.layers import layers_of_teacher
from limbeck.store import StoredTeacher
from limbeck.tasks import task_named, task_of_data
from limbeck.teachers import Teacher

if TYPE_CHECKING:
    from limbeck.training import DistillationArguments, DistillationTrainer

NO_LOGS = {"logging_strategy": "no", "eval_strategy": "no"}
"""Training arguments for a training of which only the model is kept."""
NO_LOGS_OR_CHECKPOINTS = {**NO_LOGS, "save_strategy": "no"}
"""Training arguments for a training that is repeated if it is interrupted."""
LOGGED_SHARE = 0.02
"""The share of a run's steps after which it logs, unless the config says: a curve has 50 points, however short the run."""
SECONDS_BETWEEN_CHECKPOINTS = 60.0
"""How much of a run a crash may cost, unless the config says when to write checkpoints."""


def with_temperature(config: Config, temperature: float) -> Config:
    """Return a config with another temperature.

    Args:
        config: the run.
        temperature: of both models in the soft term.
    """
    distillation = config.distillation.model_copy(update={"temperature": temperature})
    return config.model_copy(update={"distillation": distillation})


def build_seeded_model(config: ModelConfig, splits: Splits, seed: int) -> nn.Module:
    """Build a student or a teacher that is to be trained on these examples, with weights in float32.

    In half precision small updates of a weight would round to nothing. ``training.bf16`` computes in it and keeps the weights.

    Args:
        config: the model, as a config names it.
        splits: the examples, which give the number of classes, their names and the size of an image.
        seed: draws the initial weights, where the model has no trained ones.

    Returns:
        The model.

    Raises:
        ModelError: the model is not known, or its settings do not fit the examples.
    """
    torch.manual_seed(seed)
    task = task_named(splits.task)
    model = build_model(config, splits.shape, labels=splits.label_names, problem_type=task.problem_type, head=task.head)
    model = model.float()
    wanted = config.from_teacher if isinstance(config, StudentConfig) else None
    if wanted is None:
        return model
    if (kept := getattr(splits.train.load, "kept", None)) is not None:
        check_tokens(model, kept.whole, "student.model")
        cut_vocabulary(model, kept)
    return keep_layers(model, layers_of_teacher(config.model, wanted, model, splits))


def train(
    student: nn.Module,
    teacher: nn.Module | Teacher | None,
    examples: Examples,
    config: Config,
    *,
    folder: Path,
    validation: Examples | None = None,
    resume: bool = False,
    title: str | None = None,
) -> DistillationTrainer:
    """Train one model as a config describes it.

    The objective, the training arguments, the augmentation and the seed are the config's. A training that differs from
    the run's own takes a copy of the config: ``config.model_copy(update={"seed": 1})``.

    Ctrl-C and SIGTERM end the training after the current step, with a checkpoint, unless ``save_strategy`` is "no".

    Args:
        student: the model to train, in place.
        teacher: gives the soft targets. None for training on labels alone, whatever the config's ``alpha``.
        examples: the training examples.
        config: the run.
        folder: where the checkpoints are.
        validation: examples for the evaluations that the training arguments ask for.
        resume: start from the newest whole checkpoint in ``folder``, if there is one.
        title: the title of a progress bar; None for no bar.

    Returns:
        The trainer, after the training.

    Raises:
        ConfigError: Transformers does not accept the training arguments, or ``temperature`` is "auto".
        Interrupted: a signal ended the training. The checkpoint is written.
    """
    from transformers import PrinterCallback
    from transformers.trainer import DEFAULT_PROGRESS_CALLBACK

    from limbeck.training import DistillationTrainer
    from limbeck.training.callbacks import EpochOfExamples, ProgressBar
    from limbeck.training.teacher_quality import WeakTeacherWarning

    if teacher is None:
        on_labels_alone = config.distillation.model_copy(update={"alpha": 0.0, "hidden": None})
        config = config.model_copy(update={"distillation": on_labels_alone})
    augmentation = config.data.augmentation
    # With a stored teacher the trainer shows the store's own views.
    is_augmented = augmentation.is_on and not isinstance(teacher, StoredTeacher)
    examples = examples.drawn_anew()
    of_epoch = EpochOfExamples(examples.begin_epoch)
    trainer = DistillationTrainer(
        student,
        teacher,
        training_arguments(config, folder),
        identity_collate,
        examples,
        validation,
        task=task_of_data(examples.task, student),
        augment=augmentation if is_augmented else None,
        callbacks=[of_epoch] if title is None else [of_epoch, ProgressBar(title)],
    )
    for callback in (PrinterCallback, DEFAULT_PROGRESS_CALLBACK):
        trainer.remove_callback(callback)
    checkpoint = _checkpoint_to_resume(folder) if resume else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", WeakTeacherWarning)  # the plan has said it
        if config.training.get("save_strategy") == "no":
            trainer.train(resume_from_checkpoint=checkpoint)
        else:
            is_timed = not {"save_strategy", "save_steps"} & config.training.keys()
            _train_interruptibly(
                trainer, checkpoint, title or "Training", SECONDS_BETWEEN_CHECKPOINTS if is_timed else None
            )
    return trainer


def _checkpoint_to_resume(folder: Path) -> str | None:
    """Return the newest whole checkpoint in a folder, or None; say so if newer ones are not whole."""
    from tqdm import tqdm

    from limbeck.training.checkpoints import find_checkpoint

    checkpoint, torn = find_checkpoint(folder)
    if torn and process_state().is_main_process:
        where = "starts anew" if checkpoint is None else f"goes on from {checkpoint.name}"
        tqdm.write(f"{folder}: the training {where}; not whole: {', '.join(torn)}.", file=sys.stderr)
    return None if checkpoint is None else str(checkpoint)


def _train_interruptibly(
    trainer: DistillationTrainer, checkpoint: str | None, title: str, seconds: float | None
) -> None:
    """Train with a checkpoint every so many seconds, and with one when a signal ends the training."""
    from limbeck.training.callbacks import TimedCheckpoints
    from limbeck.training.checkpoints import load_if_finished

    if checkpoint is not None and load_if_finished(trainer, checkpoint):
        return
    notice = "Stopping after this step, with a checkpoint. Ctrl-C again leaves at once."
    with wait_when_interrupted(notice) as signal_that_came:
        timed = TimedCheckpoints(signal_that_came, seconds)
        trainer.add_callback(timed)
        trainer.train(resume_from_checkpoint=checkpoint)
    if timed.stopped_by:
        trainer.accelerator.wait_for_everyone()
        state = trainer.state
        kept = f"{trainer.args.output_dir}/checkpoint-{state.global_step}"
        raise Interrupted(
            timed.stopped_by, f"{title}: step {state.global_step} of {state.max_steps} is done and kept in {kept}."
        )


def training_arguments(config: Config, folder: Path) -> DistillationArguments:
    """Return the arguments of the trainer for a config.

    Args:
        config: the run.
        folder: where the checkpoints are.

    Returns:
        The arguments: those of the config's ``training`` and ``distillation`` sections.

    Raises:
        ConfigError: Transformers does not accept them, or ``temperature`` is "auto".
    """
    from limbeck.training import DistillationArguments

    if config.distillation.temperature == "auto":
        raise ConfigError(
            "distillation.temperature: auto is for limbeck distill, which searches first. Name a number here, or a policy."
        )
    settings: dict[str, Any] = {
        "output_dir": str(folder),
        "seed": config.seed,
        "save_total_limit": 2,
        "disable_tqdm": True,
        **config.training,
    }
    if settings.get("eval_strategy") != "steps" or "eval_steps" in settings:  # else evaluations come with the logs
        settings.setdefault("logging_steps", LOGGED_SHARE)
    try:
        return DistillationArguments(**settings, **config.distillation.model_dump())
    except ArgumentError as error:
        raise ConfigError(f"distillation.{error.argument}: {error.message}") from None
    except (ValueError, ImportError, TypeError) as error:
        raise ConfigError(f"training: {' '.join(str(error).split())}") from None


def count_steps(config: Config, examples: Examples) -> int:
    """Return the number of optimiser steps that the config's training takes over these examples, on one process.

    Args:
        config: the run.
        examples: the training examples.

    Returns:
        The number of steps, at least 1.

    Raises:
        ConfigError: there is no step to take.
    """
    settings: dict[str, Any] = config.training
    if settings.get("max_steps", -1) > 0:
        return settings["max_steps"]
    batch = settings.get("per_device_train_batch_size", 8) * settings.get("gradient_accumulation_steps", 1)
    steps = math.ceil(math.ceil(len(examples) / batch) * settings.get("num_train_epochs", 3))
    if steps < 1:
        raise ConfigError("training: no step to take; set max_steps or num_train_epochs.")
    return steps

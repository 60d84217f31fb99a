"""Open a run: check everything that can be checked before hours of training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from limbeck.config import Config, write_config
from limbeck.data import Splits, load_splits
from limbeck.distributed import process_state
from limbeck.run.classes import check_student, check_task
from limbeck.run.folder import CONFIG, check_folder
from limbeck.run.teacher import open_teacher, teacher_training_config
from limbeck.run.training import build_seeded_model, training_arguments
from limbeck.store import StoredTeacher


@dataclass(frozen=True)
class OpenedRun:
    """The examples and the teacher of a run that passed all checks."""

    splits: Splits
    teacher: nn.Module | StoredTeacher | None
    """The teacher; None if the run must train it first."""


def open_run(config: Config, folder: Path, *, resume: bool = False) -> OpenedRun:
    """Check everything that can be checked before hours of training, then write the config into the run's folder.

    Args:
        config: the run.
        folder: the run's folder. It may exist.
        resume: continue a run that was begun in the folder.

    Returns:
        The examples, and the teacher where it need not be trained first.

    Raises:
        ConfigError: the config cannot be run, or the folder holds a run that this one does not resume.
        DataError: the data cannot be read.
        ModelError: a model cannot be built or loaded.
        StoreError: the stored teacher cannot be read, or it does not fit the data.
    """
    begun = check_folder(config, folder, resume=resume)
    splits = load_splits(config.data, seed=config.seed)
    check_task(config, splits)
    check_student(build_seeded_model(config.student, splits, config.seed), splits)
    training_arguments(config, folder)
    teacher = None
    if config.teacher.cache is not None or config.teacher.training is None:
        teacher = open_teacher(config, splits, folder)
    else:
        check_student(build_seeded_model(config.teacher, splits, config.seed), splits, "teacher.model")
        training_arguments(teacher_training_config(config), folder)
    if not begun and process_state().is_main_process:
        write_config(config, folder / CONFIG)
    return OpenedRun(splits, teacher)

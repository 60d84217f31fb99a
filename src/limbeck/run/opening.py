"""From a config to examples and a teacher: everything that can be checked before hours of training."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from limbeck.config import Config, write_config
from limbeck.data import Splits, load_splits
from limbeck.distributed import process_state
from limbeck.run.folder import CONFIG, check_folder
from limbeck.run.teacher import obtain_teacher, stored_teacher
from limbeck.run.training import arguments, build_student
from limbeck.store import StoredTeacher


def open_run(config: Config, folder: Path, *, resume: bool = False) -> tuple[Splits, nn.Module | StoredTeacher | None]:
    """Check everything that can be checked before hours of training, then write the config into the run's folder.

    Returns:
        The examples, and the teacher where it need not be trained first.

    Raises:
        ConfigError, DataError, ModelError: a fault; nothing was written.
    """
    begun = check_folder(config, folder, resume=resume)
    splits = load_splits(config.data, seed=config.seed)
    build_student(config.student, splits, config.seed)
    arguments(config, folder)
    teacher = None
    if config.teacher.cache is not None:
        teacher = stored_teacher(config, splits)
    elif config.teacher.training is None:
        teacher = obtain_teacher(config, splits, folder)
    else:
        build_student(config.teacher, splits, config.seed)
        arguments(config, folder, training=config.teacher.training)
    if not begun and process_state().is_main_process:
        write_config(config, folder / CONFIG)
    return splits, teacher

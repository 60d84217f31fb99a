"""The files of a run's folder.

config.yaml      the config, with every default filled in
teacher/         the teacher, where the run trained it
student/         the student: safetensors and a config
checkpoints/     checkpoints, from which an interrupted run is resumed
metrics.json     results on the test set, and the training log
search/          the students of a temperature search
report.html      the same as a page
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from limbeck.config import Config, load_config
from limbeck.data import Splits
from limbeck.data.preprocessing import PREPROCESSING_FILE
from limbeck.distributed import process_state
from limbeck.errors import ConfigError
from limbeck.models import save_model

CONFIG, METRICS, REPORT = "config.yaml", "metrics.json", "report.html"
STUDENT, TEACHER, CHECKPOINTS, SEARCH = "student", "teacher", "checkpoints", "search"


def read_run(folder: Path) -> Config:
    """Read the config of a finished run.

    Args:
        folder: the run's folder.

    Returns:
        The config.

    Raises:
        ConfigError: the folder holds no finished run.
    """
    if not (folder / CONFIG).is_file():
        raise ConfigError(f"{folder}: no {CONFIG} here. Expected the folder of a run (the config's out:).")
    if not (folder / STUDENT / PREPROCESSING_FILE).is_file():
        raise ConfigError(
            f"{folder}: the run has no {STUDENT}/ yet. Finish it with: limbeck distill {folder / CONFIG} --resume"
        )
    return load_config(folder / CONFIG, training=False)


def check_folder(config: Config, folder: Path, *, resume: bool, ignoring: Sequence[str] = ()) -> bool:
    """Check that a run may use a folder.

    Args:
        config: the run.
        folder: its folder.
        resume: the run continues one that was begun in the folder with the same config.
        ignoring: sections of the config that may differ.

    Returns:
        True if the run's config was written into the folder.

    Raises:
        ConfigError: a run was begun in the folder, and ``resume`` is false or its config differs; there is no run to resume;
            or the folder cannot be written.
    """
    written = folder / CONFIG
    if not process_state().is_main_process:
        return written.is_file()
    check_writable(folder)
    if resume and not is_begun(folder):
        raise ConfigError(
            f"out: {folder} holds no run to go on with. Leave out --resume to begin one, or name its folder."
        )
    if written.is_file():
        if not resume:
            raise ConfigError(f"out: {folder} holds a run already. Name another folder, or go on with it: --resume")
        before, now = load_config(written, training=False).model_dump(), config.model_dump()
        changed = [key for key in now if now[key] != before[key] and key not in ignoring]
        if changed:
            raise ConfigError(
                f"{written}: the run was begun with other settings of {', '.join(changed)}; resume it with those."
            )
    return written.is_file()


def check_writable(folder: Path) -> None:
    """Check that a folder, which may be missing yet, can be written to. Nothing is created.

    Args:
        folder: the folder, such as the config's ``out``.

    Raises:
        ConfigError: it cannot be written to, or a file is in its way.
    """
    existing = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    in_the_way = [existing, *(folder / name for name in (STUDENT, TEACHER, CHECKPOINTS, SEARCH))]
    for path in in_the_way:
        if os.path.lexists(path) and not path.is_dir():
            raise ConfigError(f"out: {folder} cannot be written: {path} is not a folder. Name another folder.")
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise ConfigError(
            f"out: {folder} cannot be written ({existing}: {error.strerror}). Name another folder."
        ) from None


def is_begun(folder: Path) -> bool:
    """Return True if a run was begun in a folder, or the temperature search that precedes it.

    Args:
        folder: the run's folder.
    """
    return (folder / CONFIG).is_file() or (folder / SEARCH).is_dir()


def is_finished(folder: Path) -> bool:
    """Return True if a run was completed in a folder: its student, its results and its page are there.

    Args:
        folder: the run's folder.
    """
    return all((folder / name).is_file() for name in (f"{STUDENT}/{PREPROCESSING_FILE}", METRICS, REPORT))


def save_student(student: nn.Module, folder: Path, config: Config, splits: Splits) -> None:
    """Write a run's ``student/``: the model, and how its inputs are prepared.

    Args:
        student: the trained model.
        folder: the run's folder.
        config: the run.
        splits: its examples.
    """
    save_model(student, folder / STUDENT, config.student, splits.shape)
    splits.preprocessing.save(folder / STUDENT)

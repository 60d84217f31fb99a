"""The files of a run's folder.

config.yaml      the config, with every default filled in
teacher/         the teacher, where the run trained it
student/         the student: safetensors and a config
checkpoints/     checkpoints, from which an interrupted run is resumed
metrics.json     results on the test set, and the training log
report.html      the same as a page
"""

from __future__ import annotations

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
STUDENT, TEACHER, CHECKPOINTS = "student", "teacher", "checkpoints"


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
        resume: the run may continue one that was begun in the folder with the same config.
        ignoring: sections of the config that may differ.

    Returns:
        True if a run was begun in the folder.

    Raises:
        ConfigError: a run was begun in the folder, and ``resume`` is false or its config differs.
    """
    written = folder / CONFIG
    if written.is_file() and process_state().is_main_process:
        if not resume:
            raise ConfigError(f"out: {folder} holds a run already. Name another folder, or go on with it: --resume")
        before, now = load_config(written, training=False).model_dump(), config.model_dump()
        changed = [key for key in now if now[key] != before[key] and key not in ignoring]
        if changed:
            raise ConfigError(
                f"{written}: the run was begun with other settings of {', '.join(changed)}; resume it with those."
            )
    return written.is_file()


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

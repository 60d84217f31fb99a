"""What stands in a run's folder.

config.yaml      the config, every default filled in
teacher/         the teacher, where the run trained it
student/         the student: safetensors and a config
checkpoints/     what an interrupted run goes on from
metrics.json     results on validation and test, and the training log
report.html      the same to read
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from limbeck.config import Config, load_config
from limbeck.data import Splits
from limbeck.distributed import process_state
from limbeck.errors import ConfigError
from limbeck.models import save_model

CONFIG, METRICS, REPORT = "config.yaml", "metrics.json", "report.html"
STUDENT, TEACHER, CHECKPOINTS = "student", "teacher", "checkpoints"


def read_run(folder: Path) -> Config:
    """The config of a run folder.

    Raises:
        ConfigError: there is no finished run in it.
    """
    if not (folder / CONFIG).is_file():
        raise ConfigError(f"{folder}: no {CONFIG} here. Expected the folder of a run (the config's out:).")
    if not (folder / STUDENT / "inputs.json").is_file():
        raise ConfigError(
            f"{folder}: the run has no {STUDENT}/ yet. Finish it with: limbeck distill {folder / CONFIG} --resume"
        )
    return load_config(folder / CONFIG, training=False)


def check_folder(config: Config, folder: Path, *, resume: bool, ignoring: Sequence[str] = ()) -> bool:
    """Whether a run was begun in the folder.

    Raises:
        ConfigError: one was, and this is not to resume it, or is another one.
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


def save_student(student: nn.Module, folder: Path, config: Config, splits: Splits) -> None:
    """Write a run's ``student/``, with what it takes to feed it."""
    save_model(student, folder / STUDENT, config.student, splits.shape)
    splits.preprocessing.save(folder / STUDENT)

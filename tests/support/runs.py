"""Configs of small runs on digits, and what a test needs to start them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

DISTILLATION = """\
data: {name: digits, labelled: 100}
teacher:
  model: cnn
  settings: {width: 8}
  training: {max_steps: 60, per_device_train_batch_size: 64, learning_rate: 5e-3}
student:
  model: mlp
  settings: {hidden: [16]}
distillation: {temperature: 4, alpha: 0.9}
training: {max_steps: 60, per_device_train_batch_size: 64, learning_rate: 1e-2, save_steps: 10, logging_steps: 10}
compare: {seeds: 2, temperatures: [1, 4]}
"""

SEARCH = """\
data: {name: digits, labelled: 100}
teacher:
  {model: cnn, settings: {width: 8}, augmentation: {shift: 1},
   training: {max_steps: 60, per_device_train_batch_size: 64, learning_rate: 5e-3}}
student: {model: mlp, settings: {hidden: [16]}}
distillation: {temperature: auto, alpha: 0.9}
training: {max_steps: 20, per_device_train_batch_size: 64, learning_rate: 1e-2, save_strategy: "no"}
search: {temperatures: [1, 3, 9], seeds: 1}
"""


@dataclass(frozen=True)
class FinishedRun:
    """A run that ``limbeck distill`` finished."""

    config: Path
    """The config that it was started with."""
    folder: Path
    """The run's folder."""
    printed: str = ""
    """What the command printed."""

    @property
    def teacher(self) -> str:
        """Return the override that names the run's teacher in place of the config's."""
        return f"teacher={{model: {self.folder / 'teacher'}}}"


def options(*overrides: str) -> list[str]:
    """Return overrides as words of the command line."""
    return [word for override in overrides for word in ("--set", override)]

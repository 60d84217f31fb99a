"""Is the teacher of a training better than chance? The first labelled examples tell."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from limbeck.deprecation import stacklevel_of_user
from limbeck.losses import SparseTargets
from limbeck.tasks import Targets, Task
from limbeck.temperature.calibration import calibrate

ENOUGH = 256
"""The number of labelled examples on which a teacher is compared with chance."""


class WeakTeacherWarning(UserWarning):
    """The teacher is no better than chance on the first labelled examples of a training."""


class TeacherQuality:
    """The teacher's answers to the first labelled examples of a training.

    Args:
        task: how outputs meet labels. Only one class for each example is compared.
    """

    def __init__(self, task: Task) -> None:
        self._seen: list[tuple[Tensor, Tensor]] = []
        self.is_known = task.family != "softmax"
        """True if there is nothing more to find out."""

    def add(self, teacher: Tensor | SparseTargets | None, targets: Targets) -> None:
        """Add a batch. With enough examples, warn if the teacher is no better than chance.

        Args:
            teacher: its logits, (N, V). Anything else, as sparse targets, ends the comparison.
            targets: the labels of the batch, (N,), and the examples that count.
        """
        labels = targets.labels
        if not isinstance(teacher, Tensor) or labels is None or labels.dim() != 1 or labels.is_floating_point():
            self.is_known = True
            return
        chosen = (labels >= 0) & (labels < teacher.shape[-1]) & targets.mask
        self._seen.append((teacher.detach()[chosen].float().cpu(), labels[chosen].cpu()))
        if sum(len(rows) for _, rows in self._seen) < ENOUGH:
            return
        self.is_known = True
        found = calibrate(*(torch.cat(parts) for parts in zip(*self._seen, strict=True)))
        self._seen.clear()
        if found.nothing_to_teach:
            warnings.warn(found.nothing_to_teach, WeakTeacherWarning, stacklevel=stacklevel_of_user())

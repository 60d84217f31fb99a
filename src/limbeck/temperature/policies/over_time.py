"""Policies whose temperature changes while training goes on."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from limbeck.errors import ArgumentError
from limbeck.losses import IGNORE_INDEX
from limbeck.temperature.policies.base import Policy, Softening, as_float, check_positive, require_teacher_logits


class _Annealed(Policy):
    """A temperature that goes from ``start`` to ``end`` over a first part of training, and then stays at ``end``.

    Args:
        start: T at the beginning.
        end: T at the end.
        over: the fraction of training that the change takes.

    Raises:
        ArgumentError: one of them is not a positive number.
    """

    reads_softmax = False

    def __init__(self, start: float = 8.0, end: float = 1.0, over: float = 1.0) -> None:
        super().__init__()
        self.start, self.end, self.over = check_positive(start=start, end=end, over=over)

    @property
    def nominal_temperature(self) -> float:
        return self.start

    def forward(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor | None,
        labels: Tensor | None = None,
        progress: float = 0.0,
        mask: Tensor | None = None,
    ) -> Softening:
        temperature = self.temperature_at(min(1.0, progress / self.over))
        return Softening(temperature, temperature)

    def temperature_at(self, progress: float) -> float:
        """Return T when a fraction ``progress``, from 0 to 1, of the change is done."""
        raise NotImplementedError


class Linear(_Annealed):
    """A temperature that changes linearly: T = start + (end - start) p.

    p is the fraction of the change that is done. Jafari et al. ("Annealing Knowledge Distillation", EACL 2021) lower T
    in this way.

    Args:
        start: T at the beginning.
        end: T at the end.
        over: the fraction of training that the change takes.

    Raises:
        ArgumentError: one of them is not a positive number.
    """

    name = "linear"

    def temperature_at(self, progress: float) -> float:
        return self.start + (self.end - self.start) * progress


class Cosine(_Annealed):
    """A temperature that follows half a cosine wave: T = end + (start - end) (1 + cos(pi p)) / 2.

    p is the fraction of the change that is done.

    Args:
        start: T at the beginning.
        end: T at the end.
        over: the fraction of training that the change takes.

    Raises:
        ArgumentError: one of them is not a positive number.
    """

    name = "cosine"

    def temperature_at(self, progress: float) -> float:
        return self.end + (self.start - self.end) * (1 + math.cos(math.pi * progress)) / 2


class Exponential(_Annealed):
    """A temperature that changes by the same factor in each step: T = start (end / start)^p.

    p is the fraction of the change that is done.

    Args:
        start: T at the beginning.
        end: T at the end.
        over: the fraction of training that the change takes.

    Raises:
        ArgumentError: one of them is not a positive number.
    """

    name = "exponential"

    def temperature_at(self, progress: float) -> float:
        return self.start * (self.end / self.start) ** progress


class Gap(Policy):
    """A temperature that falls over training, and that depends on how far the student is behind the teacher.

    With g = CE(student) - CE(teacher) on the labels of the batch, and p the fraction of training that is done:

        target = start (1 + cos(pi p)) / 2 * ( g / (g - 1) if g > 1 else 1 ),   clamped to [lowest, highest]
        T <- momentum T + (1 - momentum) target      at every training step

    The factor in brackets is taken from the authors' code. T does not move in evaluation mode. (DTS: Islam et al.,
    "Dynamic Temperature Scheduler for Knowledge Distillation", arXiv 2511.13767, 2025.)

    Args:
        start: T at the beginning.
        lowest: the smallest T.
        highest: the largest T; by default ``start``.
        momentum: the weight of the previous T in the running mean, in [0, 1).

    Raises:
        ArgumentError: a temperature is not a positive number, or the momentum is outside [0, 1).
    """

    name = "gap"

    running: Tensor
    """The current T, which checkpoints keep."""

    def __init__(
        self, start: float = 8.0, lowest: float = 1.0, highest: float | None = None, momentum: float = 0.9
    ) -> None:
        super().__init__()
        highest = start if highest is None else highest
        start, lowest, highest = check_positive(start=start, lowest=lowest, highest=highest)
        if not 0 <= momentum < 1:
            raise ArgumentError("momentum", f"expected a number in [0, 1), got {momentum!r}.")
        self.start, self.lowest, self.highest, self.momentum = start, lowest, highest, momentum
        self.register_buffer("running", torch.tensor(float(start), dtype=torch.float64))

    @property
    def nominal_temperature(self) -> float:
        return self.start

    @torch.no_grad()
    def forward(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor | None,
        labels: Tensor | None = None,
        progress: float = 0.0,
        mask: Tensor | None = None,
    ) -> Softening:
        if labels is None:
            raise ArgumentError(
                "temperature", "the gap between teacher and student is measured on labels, and there are none."
            )
        if self.training:
            used = labels.long() if mask is None else labels.long().masked_fill(~mask.bool(), IGNORE_INDEX)
            gap = float(
                _cross_entropy(student_logits, used) - _cross_entropy(require_teacher_logits(teacher_logits), used)
            )
            if math.isfinite(gap):  # the gap of a batch without labels is not a number
                target = min(max(self._target(gap, progress), self.lowest), self.highest)
                self.running.mul_(self.momentum).add_((1 - self.momentum) * target)
        temperature = float(self.running)
        return Softening(temperature, temperature)

    def _target(self, gap: float, progress: float) -> float:
        """Return the temperature that the running mean moves to, before it is clamped."""
        factor = gap / (gap - 1) if gap > 1 else 1.0
        return self.start * (1 + math.cos(math.pi * min(1.0, progress))) / 2 * factor


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy of the labelled positions; NaN when there are none."""
    return nn.functional.cross_entropy(as_float(logits).reshape(-1, logits.shape[-1]), labels.reshape(-1))

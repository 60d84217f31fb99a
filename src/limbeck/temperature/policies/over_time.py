"""Temperatures that change while training goes on."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from limbeck.temperature.policies.base import Policy, Softening, floating, known, positive


class _Annealed(Policy):
    """From ``start`` to ``end`` over the first ``over`` of training, then ``end``."""

    def __init__(self, start: float = 8.0, end: float = 1.0, over: float = 1.0) -> None:
        super().__init__()
        positive(start=start, end=end, over=over)
        self._from, self._to, self._over = start, end, over

    @property
    def start(self) -> float:
        return self._from

    def forward(
        self, student: Tensor, teacher: Tensor | None, labels: Tensor | None = None, progress: float = 0.0
    ) -> Softening:
        t = self.at(min(1.0, progress / self._over))
        return Softening(t, t)

    def at(self, share: float) -> float:
        """T at a share of the way."""
        raise NotImplementedError


class Linear(_Annealed):
    """T = start + (end - start) p, with p the share of training that is done.

    (Jafari et al., "Annealing Knowledge Distillation", EACL 2021, lower T so.)
    """

    name = "linear"

    def at(self, share: float) -> float:
        return self._from + (self._to - self._from) * share


class Cosine(_Annealed):
    """T = end + (start - end) (1 + cos(pi p)) / 2."""

    name = "cosine"

    def at(self, share: float) -> float:
        return self._to + (self._from - self._to) * (1 + math.cos(math.pi * share)) / 2


class Exponential(_Annealed):
    """T = start (end / start)^p."""

    name = "exponential"

    def at(self, share: float) -> float:
        return self._from * (self._to / self._from) ** share


class Gap(Policy):
    """High while the student is far behind the teacher, low later.

    (DTS: Islam et al., "Dynamic Temperature Scheduler for Knowledge Distillation", arXiv 2511.13767, 2025.)

    With g = CE(student) - CE(teacher) on the batch's labels and p the share of training that is done,

        target = start (1 + cos(pi p)) / 2 * ( g / (g - 1) if g > 1 else 1 ),   clamped to [lowest, highest]
        T <- momentum T + (1 - momentum) target      at every training step

    The factor is that of the authors' code.

    Args:
        start: T at the beginning.
        lowest: T is never below.
        highest: T is never above; by default ``start``.
        momentum: of the running T.
    """

    name = "gap"

    running: Tensor

    def __init__(
        self, start: float = 8.0, lowest: float = 1.0, highest: float | None = None, momentum: float = 0.9
    ) -> None:
        super().__init__()
        highest = start if highest is None else highest
        positive(start=start, lowest=lowest, highest=highest)
        if not 0 <= momentum < 1:
            raise ValueError(f"temperature.momentum: expected a number in [0, 1), got {momentum!r}.")
        self._from, self.lowest, self.highest, self.momentum = start, lowest, highest, momentum
        self.register_buffer("running", torch.tensor(float(start), dtype=torch.float64))

    @property
    def start(self) -> float:
        return self._from

    @torch.no_grad()
    def forward(
        self, student: Tensor, teacher: Tensor | None, labels: Tensor | None = None, progress: float = 0.0
    ) -> Softening:
        if labels is None:
            raise ValueError(
                "temperature: the gap between teacher and student is measured on labels, and there are none."
            )
        if self.training:
            rows, wanted = labels.reshape(-1), student.shape[-1]
            entropies = [
                nn.functional.cross_entropy(floating(z).reshape(-1, wanted), rows) for z in (student, known(teacher))
            ]
            gap = float(entropies[0] - entropies[1])
            factor = gap / (gap - 1) if gap > 1 else 1.0
            target = self._from * (1 + math.cos(math.pi * min(1.0, progress))) / 2 * factor
            if math.isfinite(target):  # a batch without labels has no gap
                target = min(max(target, self.lowest), self.highest)
                self.running.mul_(self.momentum).add_((1 - self.momentum) * target)
        t = float(self.running)
        return Softening(t, t)


class Learned(Policy):
    """T learned by a reversed gradient: it makes the student's task harder, ever more so.

    (CTKD: Li et al., "Curriculum Temperature for Knowledge Distillation", AAAI 2023; its global version.)

        T = lowest + span sigmoid(raw),   with d loss / d raw multiplied by -(1 - cos(pi min(1, p / ramp))) / 2

    ``raw`` is learned by the trainer's own optimiser.

    Args:
        lowest: T is above.
        span: T is below ``lowest + span``.
        ramp: the share of training in which lambda grows from 0 to 1.
        start: T at the beginning; by default in the middle.
    """

    name = "learned"

    def __init__(self, lowest: float = 1.0, span: float = 20.0, ramp: float = 0.05, start: float | None = None) -> None:
        super().__init__()
        positive(lowest=lowest, span=span, ramp=ramp)
        share = 0.5 if start is None else (start - lowest) / span
        if not 0 < share < 1:
            raise ValueError(
                f"temperature.start: expected a number between {lowest} and {lowest + span}, got {start!r}."
            )
        self.lowest, self.span, self.ramp = lowest, span, ramp
        self.raw = nn.Parameter(torch.tensor(math.log(share / (1 - share))))

    @property
    def start(self) -> float:
        return float(self.lowest + self.span * self.raw.detach().sigmoid())

    def forward(
        self, student: Tensor, teacher: Tensor | None, labels: Tensor | None = None, progress: float = 0.0
    ) -> Softening:
        strength = (1 - math.cos(math.pi * min(1.0, progress / self.ramp))) / 2
        raw = (
            -strength * self.raw + (1 + strength) * self.raw.detach()
        )  # the value of raw, the gradient times -strength
        t = self.lowest + self.span * raw.sigmoid()
        return Softening(t, t)

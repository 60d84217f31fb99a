"""A policy whose temperature is learned together with the student."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from limbeck.errors import ArgumentError
from limbeck.temperature.policies.base import Policy, Softening, check_positive


class Learned(Policy):
    """A temperature that is learned with a reversed gradient, so that it makes the student's task harder.

    With p the fraction of training that is done:

        T = lowest + span sigmoid(raw),   with d loss / d raw multiplied by -(1 - cos(pi min(1, p / ramp))) / 2

    The factor grows from 0 to -1, so the task becomes harder step by step. The trainer's own optimiser learns ``raw``.
    (CTKD: Li et al., "Curriculum Temperature for Knowledge Distillation", AAAI 2023; its global version.)

    Args:
        lowest: T stays above this number.
        span: T stays below ``lowest + span``.
        ramp: the fraction of training in which the factor grows to its full size.
        start: T at the beginning, between ``lowest`` and ``lowest + span``; by default in the middle.

    Raises:
        ArgumentError: a number is not positive, or ``start`` is outside its range.
    """

    name = "learned"
    reads_softmax = False

    def __init__(self, lowest: float = 1.0, span: float = 20.0, ramp: float = 0.05, start: float | None = None) -> None:
        super().__init__()
        lowest, span, ramp = check_positive(lowest=lowest, span=span, ramp=ramp)
        position = 0.5 if start is None else (start - lowest) / span
        if not 0 < position < 1:
            raise ArgumentError("start", f"expected a number between {lowest} and {lowest + span}, got {start!r}.")
        self.lowest, self.span, self.ramp = lowest, span, ramp
        self.raw = nn.Parameter(torch.tensor(math.log(position / (1 - position))))

    @property
    def nominal_temperature(self) -> float:
        return float(self.lowest + self.span * self.raw.detach().sigmoid())

    def forward(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor | None,
        labels: Tensor | None = None,
        progress: float = 0.0,
        mask: Tensor | None = None,
    ) -> Softening:
        strength = (1 - math.cos(math.pi * min(1.0, progress / self.ramp))) / 2
        # This has the value of raw, and the gradient of raw times -strength.
        raw = -strength * self.raw + (1 + strength) * self.raw.detach()
        temperature = self.lowest + self.span * raw.sigmoid()
        return Softening(temperature, temperature)

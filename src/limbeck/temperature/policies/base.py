"""What a policy is, and what all policies share.

Logits are known up to a constant only, so policies that read their size take them centred: with mean 0 over the classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Softening:
    """What a policy makes of a batch.

    soft term = scale * D( softmax(z_t / teacher), softmax(z_s / student) )
    """

    teacher: Tensor | float
    student: Tensor | float
    scale: Tensor | float | None = None
    """A number, or one for each position; None for the divergence's own C(T)."""

    @property
    def temperature(self) -> Any:
        """As the losses take it."""
        return self.teacher if self.teacher is self.student else (self.teacher, self.student)


class Policy(nn.Module):
    """A temperature that is not one number. Those that look at the teacher's logits do not serve sparse targets."""

    name: ClassVar[str]

    def forward(
        self, student: Tensor, teacher: Tensor | None, labels: Tensor | None = None, progress: float = 0.0
    ) -> Softening:
        """The softening of a batch.

        Args:
            student: (..., V) logits.
            teacher: (..., V) logits; None where only some classes are known.
            labels: (...,), -100 for none.
            progress: of training, from 0 to 1.
        """
        raise NotImplementedError

    @property
    def start(self) -> float:
        """A temperature that stands for the policy where one number is needed."""
        raise NotImplementedError


def positive(**values: float) -> None:
    """Refuse what is no temperature, by name."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not (value > 0 and math.isfinite(value)):
            raise ValueError(f"temperature.{name}: expected a positive number, got {value!r}.")


def known(teacher: Tensor | None) -> Tensor:
    """All of the teacher's logits, which a policy needs."""
    if teacher is None:
        raise ValueError(
            "temperature: this policy needs all of the teacher's logits, and only some classes are known. Store them densely."
        )
    return teacher


def floating(logits: Tensor) -> Tensor:
    """In float32 at least."""
    return logits if logits.dtype == torch.float64 else logits.float()


def centred(logits: Tensor) -> Tensor:
    """With mean 0 over the classes."""
    logits = floating(logits)
    return logits - logits.mean(-1, keepdim=True)

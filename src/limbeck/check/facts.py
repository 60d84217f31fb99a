"""What is measured once for a loss, and asked by several properties."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from statistics import linear_regression

import torch
from torch import Tensor

from limbeck.check.matching import Match, match, match_hard
from limbeck.check.probe import TEMPERATURES, Example, Probe, size

_NOTHING = 1e-7
"""A gradient below this, relative to the whole, is none."""
_FAINT = -30.0
"""The logit of a class that has no probability to speak of."""


@dataclass(frozen=True)
class Shares:
    """How the gradient of a row changes when the batch grows: 1 it stays, 1/2 it is divided by what was doubled."""

    rows: float
    """Twice the rows (the sequences)."""
    classes: float
    """Twice the classes."""
    positions: float
    """Twice the positions of each sequence; 1 where there are no sequences."""

    def is_known(self) -> bool:
        """Return True if each is 1 or 1/2."""
        return all(is_near(x, 1) or is_near(x, 0.5) for x in (self.rows, self.classes, self.positions))


@dataclass
class Facts:
    """What is measured once for a loss.

    Args:
        probe: of the loss.
    """

    probe: Probe

    @cached_property
    def example(self) -> Example:
        """Return the logits and labels on which most is measured."""
        return self.probe.draw()

    @cached_property
    def whole(self) -> float:
        """Return the size of the gradient."""
        return size(self.probe.gradient(self.example))

    @cached_property
    def has_soft(self) -> bool:
        """Return True if the gradient depends on the teacher."""
        return size(self.soft_change(self.example)) > _NOTHING * self.whole

    @cached_property
    def has_hard(self) -> bool:
        """Return True if the gradient depends on the labels."""
        return self.probe.loss.takes_labels and size(self.hard_change(self.example)) > _NOTHING * self.whole

    def soft_change(self, example: Example, temperature: float | None = None) -> Tensor:
        """Return how the gradient changes with the teacher: what the hard term adds cancels.

        Args:
            example: the logits and labels.
            temperature: T; by default the probe's.
        """
        return self.probe.change(example, example.with_other_teacher(), temperature)

    def hard_change(self, example: Example, temperature: float | None = None) -> Tensor:
        """Return how the gradient changes with the labels: a soft term that does not know them cancels.

        Args:
            example: the logits and labels.
            temperature: T; by default the probe's.
        """
        return self.probe.change(example, example.with_other_labels(), temperature)

    @cached_property
    def match(self) -> Match | None:
        """Return the formula of the loss, where it is known."""
        return match(self.probe, has_hard=self.has_hard) if self.whole and self.has_soft else None

    @cached_property
    def hard_match(self) -> Match | None:
        """Return the formula of the hard term, where it is known."""
        if self.match:
            return self.match
        return match_hard(self.probe) if self.has_hard else None

    @cached_property
    def soft_power(self) -> float:
        """Return p, where the gradient of the soft term grows like T^p for small logits."""
        return self._power(self.soft_change)

    @cached_property
    def hard_power(self) -> float:
        """Return p, where the gradient of the hard term grows like T^p for small logits."""
        return self._power(self.hard_change)

    def _power(self, change: Callable[[Example, float], Tensor]) -> float:
        example = self.probe.draw(scale=0.1)
        logs = [math.log(max(size(change(example, T)), 1e-300)) for T in TEMPERATURES]
        return linear_regression([math.log(T) for T in TEMPERATURES], logs).slope

    @cached_property
    def soft_shares(self) -> Shares:
        """Return how the gradient of the soft term changes with the size of the batch."""
        return self._shares(self.example.with_other_teacher())

    @cached_property
    def hard_shares(self) -> Shares:
        """Return how the gradient of the hard term changes with the size of the batch."""
        return self._shares(self.example.with_other_labels())

    def _shares(self, other: Example) -> Shares:
        before = self.probe.change(self.example, other)
        kept = tuple(map(slice, (before.shape[0], *(n - 1 for n in before.shape[1:-1]), before.shape[-1])))

        def share(grown: Callable[[Tensor], Tensor]) -> float:
            after = self.probe.change(self.example.map(grown), other.map(grown))
            return size(after[kept]) / max(size(before[kept]), 1e-300)

        return Shares(
            share(lambda z: torch.cat([z, z])),
            share(lambda z: torch.cat([z, torch.full_like(z, _FAINT)], -1) if z.is_floating_point() else z),
            share(lambda z: torch.cat([z, z[:, self.probe.shifted :]], 1)) if before.dim() == 3 else 1.0,
        )


def is_near(x: float, expected: float, tolerance: float = 0.03) -> bool:
    """Return True if two numbers differ by less than a tolerance.

    Args:
        x: what was measured.
        expected: what is expected.
        tolerance: the largest difference.
    """
    return abs(x - expected) < tolerance

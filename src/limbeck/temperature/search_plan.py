"""What a temperature search trains: a ``SearchPlan`` says which students, and a ``Trial`` is one of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from limbeck.errors import ArgumentError
from limbeck.temperature.defaults import TEMPERATURES


@dataclass(frozen=True)
class Trial:
    """One student to train."""

    temperature: float
    seed: int
    """0, 1, ...; trials with the same seed start from the same weights and see the examples in the same order."""
    alpha: float | None = None
    """The weight of the soft term; None for the config's own, 0 for a student without a teacher."""
    divergence: str | None = None
    """The name of a divergence; None for the config's own. Another one is compensated for its curvature, because it would
    otherwise win or lose by its step size."""


@dataclass(frozen=True)
class SearchPlan:
    """What a temperature search tries.

    The defaults take 12 trainings, which is less than a quarter of ten temperatures times five seeds.

    Raises:
        ArgumentError: a field has a value that is not accepted.

    Example:
        >>> SearchPlan().cost
        12
    """

    temperatures: tuple[float, ...] = TEMPERATURES
    """The temperatures to choose from: at least 3 different ones. They are sorted."""
    seeds: int = 3
    """How many students each temperature gets at most, at least 2. Their seeds are 0, 1, and so on."""
    batches: tuple[int, ...] = (3, 2)
    """How many promising students are trained in each of the rounds after the first."""
    alphas: tuple[float, ...] = ()
    """Other weights of the soft term, from 0 to 1, which are tried at the chosen temperature."""
    divergences: tuple[str, ...] = ()
    """Other divergences, which are tried at the chosen temperature. They are compensated for their curvature."""

    def __post_init__(self) -> None:
        _check(
            len(self.temperatures) >= 3
            and all(_is_number(t) and 0 < t < math.inf for t in self.temperatures)
            and len(set(self.temperatures)) == len(self.temperatures),
            "temperatures",
            "at least 3 different positive numbers",
            self.temperatures,
        )
        _check(_is_count(self.seeds) and self.seeds >= 2, "seeds", "at least 2", self.seeds)
        _check(all(_is_count(size) for size in self.batches), "batches", "positive numbers", self.batches)
        _check(all(_is_number(a) and 0 <= a <= 1 for a in self.alphas), "alphas", "numbers from 0 to 1", self.alphas)
        if self.divergences:
            from limbeck.losses import DIVERGENCES

            known = all(name in DIVERGENCES for name in self.divergences)
            _check(known, "divergences", f"names among {', '.join(DIVERGENCES)}", self.divergences)
        for field, value in (
            ("temperatures", tuple(sorted(map(float, self.temperatures)))),
            ("batches", tuple(self.batches)),
            ("alphas", tuple(map(float, self.alphas))),
            ("divergences", tuple(self.divergences)),
        ):
            object.__setattr__(self, field, value)  # the class is frozen

    @property
    def cost(self) -> int:
        """Return how many students the search trains.

        With other alphas or divergences it can be one more, when the chosen temperature was tried with one seed alone.
        """
        first_round, without_teacher = len(self.temperatures[::2]), 2
        other_settings = len(self.alphas) + len(self.divergences)
        return first_round + without_teacher + sum(self.batches) + 2 * other_settings


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _check(accepted: bool, field: str, expected: str, given: Sequence[Any] | int) -> None:
    """Raise an ArgumentError that names the field, unless its value is accepted."""
    if not accepted:
        shown = list(given) if isinstance(given, Sequence) else given
        raise ArgumentError(field, f"expected {expected}, got {shown}.")

"""What a temperature search trains: a ``SearchPlan`` says which students, and a ``Trial`` is one of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, Field

from limbeck.errors import ArgumentError, expected_name
from limbeck.field_checks import check_fields
from limbeck.losses import DIVERGENCES
from limbeck.temperature.defaults import TEMPERATURES


def _enough_and_different(temperatures: tuple[float, ...]) -> tuple[float, ...]:
    if len(set(temperatures)) < max(3, len(temperatures)):
        raise ValueError("should be at least 3 different numbers")
    return temperatures


def _known_divergence(name: str) -> str:
    if name not in DIVERGENCES:
        raise ArgumentError("", expected_name(name, DIVERGENCES))
    return name


PositiveInt = Annotated[int, Field(gt=0)]
Temperature = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]


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

    temperatures: Annotated[tuple[Temperature, ...], AfterValidator(_enough_and_different)] = TEMPERATURES
    """The temperatures to choose from: at least 3 different ones. They are sorted."""
    seeds: Annotated[int, Field(ge=2)] = 3
    """How many students each temperature gets at most, at least 2. Their seeds are 0, 1, and so on."""
    batches: tuple[PositiveInt, ...] = (3, 2)
    """How many promising students are trained in each of the rounds after the first."""
    alphas: tuple[Fraction, ...] = ()
    """Other weights of the soft term, from 0 to 1, which are tried at the chosen temperature."""
    divergences: tuple[Annotated[str, AfterValidator(_known_divergence)], ...] = ()
    """Other divergences, which are tried at the chosen temperature. They are compensated for their curvature."""

    def __post_init__(self) -> None:
        for name in ("temperatures", "batches", "alphas", "divergences"):
            object.__setattr__(self, name, tuple(getattr(self, name)))  # the class is frozen
        check_fields(self)
        object.__setattr__(self, "temperatures", tuple(sorted(map(float, self.temperatures))))
        object.__setattr__(self, "alphas", tuple(map(float, self.alphas)))

    @property
    def cost(self) -> int:
        """Return how many students the search trains.

        With other alphas or divergences it can be one more, when the chosen temperature was tried with one seed alone.
        """
        first_round, without_teacher = len(self.temperatures[::2]), 2
        other_settings = len(self.alphas) + len(self.divergences)
        return first_round + without_teacher + sum(self.batches) + 2 * other_settings

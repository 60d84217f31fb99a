"""What a temperature search trains: a ``SearchPlan`` says which students, and a ``Trial`` is one of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, Field

from limbeck.errors import ArgumentError, expected_name
from limbeck.field_checks import check_fields
from limbeck.losses import DIVERGENCES
from limbeck.temperature.defaults import TEMPERATURES, TRAINED
from limbeck.temperature.policies import POLICIES


def _enough_and_different(temperatures: tuple[float, ...]) -> tuple[float, ...]:
    if len(set(temperatures)) < max(3, len(temperatures)):
        raise ValueError("should be at least 3 different numbers")
    return temperatures


def _known_divergence(name: str) -> str:
    if name not in DIVERGENCES:
        raise ArgumentError("", expected_name(name, DIVERGENCES))
    return name


def _known_policy(name: str) -> str:
    if name not in POLICIES:
        raise ArgumentError("", expected_name(name, POLICIES))
    return name


Temperature = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]


PAIRED_SEEDS = range(2)
"""The seeds of the students that are compared in pairs: those without a teacher, and those of another setting."""


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
    policy: str | None = None
    """The name of a policy that takes the place of the temperature, with its own settings; None for the temperature."""


@dataclass(frozen=True)
class SearchPlan:
    """What a temperature search tries.

    The defaults take 12 trainings, less than a fifth of thirteen temperatures times five seeds.

    Raises:
        ArgumentError: a field has a value that is not accepted.

    Example:
        >>> SearchPlan().cost, SearchPlan(seeds=1).cost
        (12, 7)
        >>> SearchPlan(temperatures=(1.0, 2.0, 4.0, 8.0)).trained
        (1.0, 4.0, 8.0)
    """

    temperatures: Annotated[tuple[Temperature, ...], AfterValidator(_enough_and_different)] = TEMPERATURES
    """The temperatures to choose from: at least 3 different ones. They are sorted. Not all of them are trained."""
    seeds: Annotated[int, Field(ge=1)] = 2
    """How many students each trained temperature gets. Their seeds are 0, 1, and so on."""
    alphas: tuple[Fraction, ...] = ()
    """Other weights of the soft term, from 0 to 1, which are tried at the chosen temperature."""
    divergences: tuple[Annotated[str, AfterValidator(_known_divergence)], ...] = ()
    """Other divergences, which are tried at the chosen temperature. They are compensated for their curvature."""
    policies: tuple[Annotated[str, AfterValidator(_known_policy)], ...] = ()
    """Policies, such as "max_logit", which are tried in place of the chosen temperature."""

    def __post_init__(self) -> None:
        for name in ("temperatures", "alphas", "divergences", "policies"):
            object.__setattr__(self, name, tuple(getattr(self, name)))  # the class is frozen
        check_fields(self)
        object.__setattr__(self, "temperatures", tuple(sorted(map(float, self.temperatures))))
        object.__setattr__(self, "alphas", tuple(map(float, self.alphas)))

    @property
    def trained(self) -> tuple[float, ...]:
        """Return the temperatures that students are trained at: of ``temperatures``, those nearest to 0.25, 1, 3, 8 and 20."""
        nearest = {min(self.temperatures, key=lambda t: abs(math.log(t / wanted))) for wanted in TRAINED}
        return tuple(sorted(nearest)) if len(nearest) > 2 else self.temperatures

    @property
    def cost(self) -> int:
        """Return how many students the search trains.

        With other alphas, divergences or policies it can be two more, when the chosen temperature is not a trained one.
        """
        other_settings = len(self.alphas) + len(self.divergences) + len(self.policies)
        return len(self.trained) * self.seeds + len(PAIRED_SEEDS) * (1 + other_settings)

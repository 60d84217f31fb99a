"""The table of divergences over which the tests of values, gradients and properties run.

The ``value`` of a case is an independent truth in float64: scipy or numpy computes it from the probabilities (or the logits)
of one row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.special import rel_entr


def kl(p: np.ndarray, q: np.ndarray) -> float:
    """Return KL(p || q) of one row of probabilities."""
    return rel_entr(p, q).sum()


def jsd(beta: float) -> Callable[..., float]:
    """Return the function that computes the generalised Jensen-Shannon divergence of one row."""

    def value(p_t: np.ndarray, p_s: np.ndarray) -> float:
        m = beta * p_t + (1 - beta) * p_s
        return beta * kl(p_t, m) + (1 - beta) * kl(p_s, m)

    return value


@dataclass(frozen=True)
class Case:
    """A divergence with its options, its value and its properties."""

    name: str
    value: Callable[[np.ndarray, np.ndarray], float]
    """A function of the teacher's and the student's row, in this order."""
    options: dict[str, Any] = field(default_factory=dict)
    power: int = 2
    """C(T) = T ** power."""
    curvature: float | None = 1.0
    """f''(1); None where the divergence is not smooth at equality."""
    on_logits: bool = False
    """True if ``value`` takes logits, False if it takes probabilities."""

    def __str__(self) -> str:
        return "-".join([self.name, *(f"{k}={v}" for k, v in self.options.items())])


CASES = [
    Case("forward_kl", kl),
    Case("reverse_kl", lambda p_t, p_s: kl(p_s, p_t)),
    Case("jsd", jsd(0.5), {"beta": 0.5}, curvature=0.25),
    Case("jsd", jsd(0.1), {"beta": 0.1}, curvature=0.09),
    Case("jsd", kl, {"beta": 0.0}),
    Case("jsd", lambda p_t, p_s: kl(p_s, p_t), {"beta": 1.0}),
    Case("skew_kl", lambda p_t, p_s: kl(p_t, 0.1 * p_t + 0.9 * p_s), {"skew": 0.1}, curvature=0.81),
    Case("skew_kl", kl, {"skew": 0.0}),
    Case("skew_reverse_kl", lambda p_t, p_s: kl(p_s, 0.3 * p_s + 0.7 * p_t), {"skew": 0.3}, curvature=0.49),
    Case("tvd", lambda p_t, p_s: np.abs(p_t - p_s).max(initial=0) if len(p_t) == 2 else 0.5 * np.abs(p_t - p_s).sum(),
         power=1, curvature=None),
    Case("logit_mse", lambda z_t, z_s: 0.5 * np.var(z_s - z_t), power=0, curvature=None, on_logits=True),
]  # fmt: skip

SMOOTH = [case for case in CASES if case.curvature is not None]
ON_PROBABILITIES = [case for case in CASES if not case.on_logits]

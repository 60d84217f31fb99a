"""A smooth curve of quality over log T, from a few noisy students, and what it is sure of.

A Gaussian process: students at nearby temperatures fare alike, and those of one seed share their luck.

    y = m + f(log T) + luck(seed) + noise

with a squared-exponential kernel for f. The sizes of its parts are those of the largest marginal likelihood on a grid.
(Rasmussen and Williams, "Gaussian Processes for Machine Learning", 2006.)
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LENGTHS = (0.7, 1.2, 2.0)
"""In log T."""
AMPLITUDES, NOISES, LUCKS = (0.5, 1.0, 2.0), (0.1, 0.2, 0.4, 0.8), (0.0, 0.5)
"""In standard deviations of all observations."""


@dataclass(frozen=True)
class Observation:
    """One student."""

    temperature: float
    seed: int
    value: float
    """Higher is better."""


@dataclass(frozen=True)
class Curve:
    """Expected quality at each candidate temperature, up to a constant, with its covariance."""

    temperatures: tuple[float, ...]
    mean: np.ndarray
    covariance: np.ndarray
    noise: float = 0.0
    """The standard deviation of one student around the curve, its seed's luck apart."""

    def at(self, temperature: float) -> float:
        """The mean at a candidate."""
        return float(self.mean[self.temperatures.index(temperature)])

    @property
    def best(self) -> float:
        """Where the curve is highest."""
        return self.temperatures[int(self.mean.argmax())]

    def behind(self) -> tuple[np.ndarray, np.ndarray]:
        """How far each candidate is behind the best, and the standard error of that difference."""
        i, variance = int(self.mean.argmax()), np.diag(self.covariance)
        error = np.sqrt(np.maximum(0.0, variance + variance[i] - 2 * self.covariance[i]))
        return self.mean[i] - self.mean, error

    @property
    def interval(self) -> tuple[float, float]:
        """The lowest and highest T around the best that are within one standard error of it, without a gap."""
        difference, error = self.behind()
        near, i = difference <= error, int(self.mean.argmax())
        low = high = i
        while low > 0 and near[low - 1]:
            low -= 1
        while high < len(near) - 1 and near[high + 1]:
            high += 1
        return self.temperatures[low], self.temperatures[high]

    def nearest_to_middle(self, among: Sequence[float]) -> float:
        """Of some candidates the nearest to the middle of the interval, in log T: far from both edges of what does as well."""
        middle = sum(math.log(t) for t in self.interval) / 2
        return min(among, key=lambda t: (round(abs(math.log(t) - middle), 9), t))


def fit(observations: Sequence[Observation], temperatures: Sequence[float]) -> Curve:
    """The curve that observations tell, at some temperatures.

    Args:
        observations: at least two.
        temperatures: where to read the curve, ascending.
    """
    x = np.log([o.temperature for o in observations])
    y = np.array([o.value for o in observations], dtype=float)
    seeds = np.array([o.seed for o in observations])
    centred, size = y - y.mean(), float(y.std()) or 1.0
    at, own = np.log(np.asarray(temperatures, dtype=float)), np.eye(len(x))

    def smooth(a: np.ndarray, b: np.ndarray, length: float) -> np.ndarray:
        return np.exp(-((a[:, None] - b[None]) ** 2) / (2 * length**2))

    best: tuple[float, Curve] | None = None
    for length, amplitude, noise, luck in itertools.product(LENGTHS, AMPLITUDES, NOISES, LUCKS):
        signal, shared = amplitude**2 * smooth(x, x, length), luck**2 * (seeds[:, None] == seeds[None])
        matrix = size**2 * (signal + shared + (noise**2 + 1e-9) * own + 900.0)  # a level of its own, hardly penalised
        factor = np.linalg.cholesky(matrix)
        white = np.linalg.solve(factor, centred)
        likelihood = float(-0.5 * white @ white - np.log(np.diag(factor)).sum())
        if best is None or likelihood > best[0]:
            half = np.linalg.solve(factor, (size * amplitude) ** 2 * smooth(x, at, length))
            covariance = (size * amplitude) ** 2 * smooth(at, at, length) - half.T @ half
            best = likelihood, Curve(tuple(map(float, temperatures)), half.T @ white, covariance, noise * size)
    assert best is not None
    return best[1]

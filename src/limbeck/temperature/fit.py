"""A smooth curve of quality over log T, from a few noisy students, and what it is sure of.

A Gaussian process: students at nearby temperatures fare alike, those of one seed share their luck, and short runs tell of long
ones up to a smooth difference.

    y = m(share) + f(log T) + [share is the largest] g(log T) + luck(seed, share) + noise

with f and g of squared-exponential kernels. The kernels' sizes are those of the largest marginal likelihood on a grid.
(Kennedy and O'Hagan, "Predicting the output from a complex computer code when fast approximations are available", 2000.)
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Observation:
    """One student."""

    temperature: float
    seed: int
    share: float
    """Of the steps of a whole training."""
    value: float
    """Higher is better."""


@dataclass(frozen=True)
class Curve:
    """Expected quality of a whole training at each candidate temperature, up to a constant, with its covariance."""

    temperatures: tuple[float, ...]
    mean: np.ndarray
    covariance: np.ndarray

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
    shares = np.array([o.share for o in observations])
    whole = shares == shares.max()
    level = (shares[:, None] == np.unique(shares)[None]).astype(float)
    lucky = (shares[:, None] == shares[None]) & (
        np.array([o.seed for o in observations])[:, None] == [o.seed for o in observations]
    )
    centred = y - level @ (level.T @ y / level.sum(0))
    size = float(centred.std()) or 1.0
    at = np.log(np.asarray(temperatures, dtype=float))

    def kernel(a: np.ndarray, b: np.ndarray, length: float) -> np.ndarray:
        return np.exp(-((a[:, None] - b[None]) ** 2) / (2 * length**2))

    best: tuple[float, np.ndarray, np.ndarray] | None = None
    differences = (0.0,) if whole.all() else (0.0, 0.3)
    grid = itertools.product((0.7, 1.2, 2.0), (0.5, 1.0, 2.0), (0.1, 0.2, 0.4, 0.8), differences, (0.0, 0.5))
    for length, amplitude, noise, apart, luck in grid:
        shared, own = amplitude**2, (amplitude * apart) ** 2
        between = shared * kernel(x, x, length) + own * np.outer(whole, whole) * kernel(x, x, 2 * length)
        matrix = size**2 * (between + luck**2 * lucky + noise**2 * np.eye(len(x)) + 1e-9 * np.eye(len(x)))
        matrix += (30 * size) ** 2 * level @ level.T  # a level of its own for every share, hardly penalised
        try:
            factor = np.linalg.cholesky(matrix)
        except np.linalg.LinAlgError:
            continue
        white = np.linalg.solve(factor, centred)
        likelihood = -0.5 * white @ white - np.log(np.diag(factor)).sum()
        if best is not None and likelihood <= best[0]:
            continue
        towards = size**2 * (shared * kernel(at, x, length) + own * whole[None] * kernel(at, x, 2 * length))
        prior = size**2 * (shared * kernel(at, at, length) + own * kernel(at, at, 2 * length))
        half = np.linalg.solve(factor, towards.T)
        best = likelihood, half.T @ white, prior - half.T @ half
    assert best is not None
    return Curve(tuple(float(t) for t in temperatures), best[1], best[2])

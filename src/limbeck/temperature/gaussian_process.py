"""A smooth curve of the quality over log T, fitted to a few noisy students, with its uncertainty.

The model is a Gaussian process. Students at nearby temperatures have a similar quality, and all students of one seed share an
effect of that seed:

    quality = level + f(log T) + seed effect + noise

f has a squared-exponential kernel. Its length and amplitude, and the size of the seed effect and the noise, are those of a
grid that have the largest marginal likelihood. (Rasmussen and Williams, "Gaussian Processes for Machine Learning", 2006.)
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LENGTHS = (0.7, 1.2, 2.0)
"""The candidates for the kernel's length, in units of log T."""
AMPLITUDES = (0.5, 1.0, 2.0)
"""The candidates for the amplitude of f, in standard deviations of all observations."""
NOISES = (0.1, 0.2, 0.4, 0.8)
"""The candidates for the standard deviation of the noise, in standard deviations of all observations."""
SEED_EFFECTS = (0.0, 0.5)
"""The candidates for the standard deviation of the seed effect, in standard deviations of all observations."""
LEVEL_VARIANCE = 900.0
"""The variance of the level, in variances of all observations: so large that any level is hardly penalised."""


@dataclass(frozen=True)
class Observation:
    """The quality of one student."""

    temperature: float
    seed: int
    value: float
    """The quality; higher is better."""


@dataclass(frozen=True)
class Curve:
    """The expected quality at each candidate temperature, up to a constant, with its covariance."""

    temperatures: tuple[float, ...]
    """The candidates, ascending."""
    mean: np.ndarray
    """(C,), the expected quality at each candidate."""
    covariance: np.ndarray
    """(C, C), the covariance of the mean."""
    noise: float = 0.0
    """The standard deviation of one student around the curve, without the effect of its seed."""

    def at(self, temperature: float) -> float:
        """Return the mean at a candidate.

        Args:
            temperature: one of ``temperatures``.

        Raises:
            ValueError: it is not a candidate.
        """
        return float(self.mean[self.temperatures.index(temperature)])

    @property
    def best(self) -> float:
        """Return the temperature where the mean is highest."""
        return self.temperatures[int(self.mean.argmax())]

    def behind_best(self) -> tuple[np.ndarray, np.ndarray]:
        """Return how far each candidate is below the best one, and the standard error of that difference; (C,) both."""
        best, variance = int(self.mean.argmax()), np.diag(self.covariance)
        error = np.sqrt(np.maximum(0.0, variance + variance[best] - 2 * self.covariance[best]))
        return self.mean[best] - self.mean, error

    @property
    def interval(self) -> tuple[float, float]:
        """Return the lowest and the highest T of the candidates around the best that are within one standard error of it."""
        difference, error = self.behind_best()
        is_near, low = difference <= error, int(self.mean.argmax())
        high = low
        while low > 0 and is_near[low - 1]:
            low -= 1
        while high < len(is_near) - 1 and is_near[high + 1]:
            high += 1
        return self.temperatures[low], self.temperatures[high]

    def nearest_to_middle(self, temperatures: Sequence[float]) -> float:
        """Return the temperature that is nearest to the middle of the interval, in log T; of two equally near, the lower.

        The middle is far from both edges of the temperatures that do equally well.

        Args:
            temperatures: the temperatures to choose from.
        """
        middle = sum(math.log(t) for t in self.interval) / 2
        return min(temperatures, key=lambda t: (round(abs(math.log(t) - middle), 9), t))


def fit_curve(observations: Sequence[Observation], temperatures: Sequence[float]) -> Curve:
    """Fit the curve to observations and return it at some temperatures.

    Args:
        observations: the students, at least two.
        temperatures: the candidates where the curve is read, ascending.

    Returns:
        The curve of the kernel with the largest marginal likelihood.

    Example:
        >>> quality = {1.0: 0.80, 2.0: 0.90, 4.0: 0.91, 8.0: 0.85}
        >>> fit_curve([Observation(t, 0, value) for t, value in quality.items()], [1.0, 2.0, 3.0, 4.0, 8.0]).best
        3.0
    """
    observed_at = np.log([o.temperature for o in observations])
    read_at = np.log(np.asarray(temperatures, dtype=float))
    values = np.array([o.value for o in observations], dtype=float)
    seeds = np.array([o.seed for o in observations])
    deviations, scale = values - values.mean(), float(values.std()) or 1.0
    is_same, is_same_seed = np.eye(len(values)), seeds[:, None] == seeds[None]

    best: tuple[float, Curve] | None = None
    for length, amplitude, noise, seed_effect in itertools.product(LENGTHS, AMPLITUDES, NOISES, SEED_EFFECTS):
        signal = amplitude**2 * _kernel(observed_at, observed_at, length)
        shared = seed_effect**2 * is_same_seed
        matrix = scale**2 * (signal + shared + (noise**2 + 1e-9) * is_same + LEVEL_VARIANCE)
        factor = np.linalg.cholesky(matrix)
        whitened = np.linalg.solve(factor, deviations)
        likelihood = float(-0.5 * whitened @ whitened - np.log(np.diag(factor)).sum())
        if best is None or likelihood > best[0]:
            variance = (scale * amplitude) ** 2
            cross = np.linalg.solve(factor, variance * _kernel(observed_at, read_at, length))
            covariance = variance * _kernel(read_at, read_at, length) - cross.T @ cross
            best = likelihood, Curve(tuple(map(float, temperatures)), cross.T @ whitened, covariance, noise * scale)
    assert best is not None
    return best[1]


def _kernel(a: np.ndarray, b: np.ndarray, length: float) -> np.ndarray:
    """Return the squared-exponential kernel between two lists of points."""
    return np.exp(-((a[:, None] - b[None]) ** 2) / (2 * length**2))

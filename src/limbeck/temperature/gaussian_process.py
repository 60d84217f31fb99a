"""A smooth curve of the quality over log2 T, fitted to a few noisy students, with its uncertainty.

The model is a Gaussian process. Students at nearby temperatures have a similar quality, and all students of one seed share an
effect of that seed:

    quality = level + f(log2 T) + seed effect + noise

f has a squared-exponential kernel. Students without a teacher have a level of their own and no f. The length and amplitude of
f, and the size of the seed effect and the noise, are those of a grid. The curve is the mean over this grid, weighted by the
marginal likelihood: with a dozen students no single point of it is known to be right. (Rasmussen and Williams, "Gaussian
Processes for Machine Learning", 2006, sections 2 and 5.)
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LENGTHS = (1.2, 2.0, 3.0)
"""The candidates for the kernel's length, in doublings of T."""
AMPLITUDES = (0.5, 1.0, 2.0)
"""The candidates for the amplitude of f, in standard deviations of the observations with a teacher."""
NOISES = (0.1, 0.2, 0.4, 0.8)
"""The candidates for the standard deviation of the noise, in the same unit."""
SEED_EFFECTS = (0.0, 0.5)
"""The candidates for the standard deviation of the seed effect, in the same unit."""
LEVEL_VARIANCE = 900.0
"""The variance of a level: so large that any level is hardly penalised. It is in the square of that unit, or in the largest
variance that the validation set gives a student, where that is larger: students that are all alike have a small unit."""
NEGLIGIBLE = 4.0
"""The candidates whose log marginal likelihood is this far below the best one, in nats, are left out of the mean."""


@dataclass(frozen=True)
class Observation:
    """The quality of one student."""

    temperature: float | None
    """T; None for a student without a teacher."""
    seed: int
    value: float
    """The quality; higher is better."""


@dataclass(frozen=True)
class Curve:
    """The expected quality at each candidate temperature, with its covariance."""

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


@dataclass(frozen=True)
class Gain:
    """What a teacher adds at one temperature, with two errors that are independent of each other."""

    value: float
    """The expected quality with the teacher, minus that without."""
    training_error: float
    """The standard error that the finite number of students gives it."""
    validation_error: float
    """The standard error that the finite validation set gives it; 0 if its covariance was not given."""


def fit_curve(observations: Sequence[Observation], temperatures: Sequence[float]) -> Curve:
    """Fit the curve to observations and return it at some temperatures.

    Args:
        observations: the students, at least two with a teacher. Those without one do not move the curve.
        temperatures: the candidates where the curve is read, ascending.

    Returns:
        The mean curve of the kernels, weighted by their marginal likelihood.

    Example:
        >>> quality = {1.0: 0.80, 2.0: 0.90, 4.0: 0.91, 8.0: 0.85}
        >>> fit_curve([Observation(t, 0, value) for t, value in quality.items()], [1.0, 2.0, 3.0, 4.0, 8.0]).best
        3.0
    """
    with_teacher = [o for o in observations if o.temperature is not None]
    found = _posterior(with_teacher, list(temperatures), np.zeros((len(with_teacher), len(with_teacher))))
    return Curve(tuple(map(float, temperatures)), found.mean, found.covariance, found.noise)


def fit_gain(
    observations: Sequence[Observation], temperature: float, validation_covariance: np.ndarray | None = None
) -> Gain:
    """Fit students with and without a teacher together, and return what the teacher adds at a temperature.

    Args:
        observations: the students, at least one with and one without a teacher.
        temperature: where the gain is wanted; it need not be one that was tried.
        validation_covariance: (n, n), how the qualities of the students would vary together over other validation sets of the
            same size; None leaves it out.

    Returns:
        The gain and its errors.
    """
    size = len(observations)
    known = np.zeros((size, size)) if validation_covariance is None else np.asarray(validation_covariance, dtype=float)
    found = _posterior(observations, [temperature, None], known)
    difference = np.array([1.0, -1.0])
    total = float(difference @ found.covariance @ difference)
    of_the_set = float(difference @ found.of_the_set @ difference)
    return Gain(
        value=float(difference @ found.mean),
        training_error=max(0.0, total - of_the_set) ** 0.5,
        validation_error=max(0.0, of_the_set) ** 0.5,
    )


@dataclass(frozen=True)
class _Posterior:
    """What is known of the quality at some points, averaged over the kernels."""

    mean: np.ndarray
    covariance: np.ndarray
    of_the_set: np.ndarray
    """The part of the covariance that comes from the validation set."""
    noise: float


def _posterior(
    observations: Sequence[Observation], points: Sequence[float | None], validation_covariance: np.ndarray
) -> _Posterior:
    """Return what observations say of the quality at temperatures, and, for None, of the quality without a teacher."""
    values = np.array([o.value for o in observations], dtype=float)
    seeds = np.array([o.seed for o in observations])
    observed, read = [o.temperature for o in observations], list(points)
    of_teachers = values[[t is not None for t in observed]]
    centre, scale = of_teachers.mean(), float(of_teachers.std()) or 1.0
    is_same, is_same_seed = np.eye(len(values)), seeds[:, None] == seeds[None]
    level = LEVEL_VARIANCE * max(1.0, validation_covariance.diagonal().max() / scale**2)

    found: list[tuple[float, _Posterior]] = []
    for length, amplitude, noise, seed_effect in itertools.product(LENGTHS, AMPLITUDES, NOISES, SEED_EFFECTS):
        prior = scale**2 * _prior(observed, observed, length, amplitude, level)
        matrix = (
            prior + scale**2 * (seed_effect**2 * is_same_seed + (noise**2 + 1e-9) * is_same) + validation_covariance
        )
        factor = np.linalg.cholesky(matrix)
        whitened = np.linalg.solve(factor, values - centre)
        likelihood = float(-0.5 * whitened @ whitened - np.log(np.diag(factor)).sum())
        cross = np.linalg.solve(factor, scale**2 * _prior(observed, read, length, amplitude, level))
        shares = np.linalg.solve(factor.T, cross).T  # the mean is these times the values
        one = _Posterior(
            centre + cross.T @ whitened,
            scale**2 * _prior(read, read, length, amplitude, level) - cross.T @ cross,
            shares @ validation_covariance @ shares.T,
            noise * scale,
        )
        found.append((likelihood, one))
    best = max(likelihood for likelihood, _ in found)
    kept = [(np.exp(likelihood - best), one) for likelihood, one in found if best - likelihood <= NEGLIGIBLE]
    weights = np.array([weight for weight, _ in kept])

    def averaged(name: str) -> np.ndarray:
        return np.average([getattr(one, name) for _, one in kept], axis=0, weights=weights)

    mean = averaged("mean")
    apart = np.average([np.outer(one.mean - mean, one.mean - mean) for _, one in kept], axis=0, weights=weights)
    return _Posterior(mean, averaged("covariance") + apart, averaged("of_the_set"), float(averaged("noise")))


def _prior(
    a: Sequence[float | None], b: Sequence[float | None], length: float, amplitude: float, level: float
) -> np.ndarray:
    """Return the covariance of the quality, without seeds and noise, between two lists of temperatures or None."""
    has_teacher_a, has_teacher_b = (np.array([t is not None for t in side]) for side in (a, b))
    x, y = (np.log2([1.0 if t is None else t for t in side]) for side in (a, b))
    smooth = amplitude**2 * np.exp(-((x[:, None] - y[None]) ** 2) / (2 * length**2))
    both = has_teacher_a[:, None] & has_teacher_b[None]
    return np.where(both, smooth, 0.0) + level * (has_teacher_a[:, None] == has_teacher_b[None])

"""What is known of a mean over seeds and test examples.

With m seeds and n test examples, a value d of seed i and example j (a student is right or not, or the difference of two
students) is taken as

    d_ij = mean + seed_i + example_j + rest_ij

with independent random parts, the crossed design of the analysis of variance. The mean of all d_ij has the variance

    var(seed) / m  +  var(example) / n  +  var(rest) / (m n),

and the three mean squares MS of the two-way table estimate it without bias by (MS_seeds + MS_examples - MS_rest) / (m n)
(Searle, Casella and McCulloch, "Variance Components", 1992; the same sum as in Cameron, Gelbach and Miller, "Robust inference
with multiway clustering", 2011). A part that this would make negative counts as 0.

The 95 % interval adds the squares of two half-widths, each with its own quantile of Student's t:

    t(m - 1)² max(MS_seeds, MS_rest) / (m n)  +  t(n - 1)² max(MS_examples - MS_rest, 0) / (m n).

It covers the mean in at least 95 % of cases (Banerjee, "Approximate confidence interval for linear functions of means of k
populations when the population variances are not equal", 1960). With two seeds only large differences are clear.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Estimate:
    """A mean with its standard error."""

    mean: float
    error: float
    """The standard error of the mean; NaN for one seed."""
    count: int = 1
    """The number of seeds."""
    margin: float = math.nan
    """Half the width of the 95 % interval; NaN for one seed."""

    @classmethod
    def of(cls, values: Sequence[float]) -> Estimate:
        """Estimate the mean of one value per seed.

        Args:
            values: at least one number.

        Returns:
            The mean, with the error over seeds.

        Example:
            >>> Estimate.of([1.0, 2.0, 3.0]).mean
            2.0
        """
        count = len(values)
        error = statistics.stdev(values) / math.sqrt(count) if count > 1 else math.nan
        return cls(statistics.fmean(values), error, count, _t_quantile(count - 1) * error)

    @classmethod
    def of_examples(cls, values: np.ndarray) -> Estimate:
        """Estimate the mean of one value per seed and test example.

        Args:
            values: (m, n), of m seeds and n test examples.

        Returns:
            The mean, with an error that includes that of the finite test set.

        Example:
            >>> Estimate.of_examples(np.array([[1.0, 0.0, 1.0], [1.0, 0.0, 0.0]])).mean
            0.5
        """
        seeds, examples = values.shape
        mean = float(values.mean())
        if seeds == 1 or examples == 1:
            return cls(mean, math.nan, seeds)
        by_seed, by_example = values.mean(1, keepdims=True), values.mean(0, keepdims=True)
        of_seeds = examples * by_seed.var(ddof=1)
        of_examples = seeds * by_example.var(ddof=1)
        rest = np.square(values - by_seed - by_example + mean).sum() / ((seeds - 1) * (examples - 1))
        parts = max(of_seeds, rest) / values.size, max(of_examples - rest, 0.0) / values.size
        quantiles = _t_quantile(seeds - 1), _t_quantile(examples - 1)
        margin = math.hypot(*(t * math.sqrt(part) for t, part in zip(quantiles, parts, strict=True)))
        return cls(mean, math.sqrt(sum(parts)), seeds, margin)

    @property
    def is_clear(self) -> bool:
        """True if 0 lies outside the 95 % interval."""
        return abs(self.mean) > self.margin


def _t_quantile(freedom: int) -> float:
    """Return the two-sided 95 % quantile of Student's t; NaN without a degree of freedom."""
    from scipy.stats import t

    return float(t.ppf(0.975, freedom)) if freedom > 0 else math.nan

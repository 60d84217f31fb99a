"""Train the arms of a comparison over several seeds, and estimate their differences."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from limbeck.atomic_files import append_line, read_lines
from limbeck.interruption import Interrupted


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its standard error."""

    mean: float
    error: float
    """Standard error of the mean; NaN for one seed."""
    count: int = 1
    """The number of seeds."""

    @classmethod
    def of(cls, values: Sequence[float]) -> Estimate:
        """Estimate the mean of one value per seed.

        Args:
            values: at least one number.

        Returns:
            The mean, its standard error and the number of values.

        Example:
            >>> Estimate.of([1.0, 2.0, 3.0]).mean
            2.0
        """
        error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
        return cls(statistics.fmean(values), error, len(values))

    @property
    def is_clear(self) -> bool:
        """True if 0 lies outside the 95 % interval of Student's t. With few seeds, only large differences are clear."""
        from scipy.stats import t

        return self.count > 1 and abs(self.mean) > float(t.ppf(0.975, self.count - 1)) * self.error


@dataclass(frozen=True)
class ArmResult:
    """The metrics of one arm of a comparison, seed by seed."""

    name: str
    metrics: dict[str, list[float]]
    """The values of each metric, one for each seed."""

    def __getitem__(self, metric: str) -> Estimate:
        """Return a metric's mean over the seeds."""
        return Estimate.of(self.metrics[metric])


def train_arms(
    arms: Sequence[str],
    seeds: Sequence[int],
    train_arm: Callable[[str, int], dict[str, float]],
    *,
    record: Path | None = None,
    progress: str | None = None,
) -> dict[str, ArmResult]:
    """Train every arm with every seed.

    Args:
        arms: the names of the arms.
        seeds: each arm is trained once with each seed. A seed means the same initial weights and the same order of the
            examples in every arm.
        train_arm: trains one arm with one seed and returns its metrics.
        record: a file that keeps the metrics of finished trainings; those are not repeated. None keeps nothing.
        progress: the title of a progress bar; None for no bar.

    Returns:
        The metrics of each arm, by its name.
    """
    from tqdm import tqdm

    finished = _read_finished(record)
    with tqdm(total=len(arms) * len(seeds), desc=progress, disable=progress is None, leave=False) as bar:
        for seed, arm in itertools.product(seeds, arms):
            bar.set_postfix_str(arm)
            if (arm, seed) not in finished:
                try:
                    finished[arm, seed] = train_arm(arm, seed)
                except Interrupted as stop:
                    kept = 0 if record is None else sum((a, s) in finished for s, a in itertools.product(seeds, arms))
                    stop.finished = f"{kept} of {bar.total} students are finished and kept."
                    raise
                if record is not None:
                    append_line(record, {"arm": arm, "seed": seed, "metrics": finished[arm, seed]})
            bar.update()
    return {arm: _collect(arm, [finished[arm, seed] for seed in seeds]) for arm in arms}


def _read_finished(record: Path | None) -> dict[tuple[str, int], dict[str, float]]:
    """Return the metrics of the trainings that a record holds, by arm and seed."""
    lines = [] if record is None else read_lines(record)
    return {(line["arm"], line["seed"]): line["metrics"] for line in lines}


def _collect(arm: str, metrics: Sequence[dict[str, float]]) -> ArmResult:
    """Return the result of an arm from its metrics with each seed."""
    return ArmResult(arm, {name: [row[name] for row in metrics] for name in metrics[0]})


def difference(first: ArmResult, second: ArmResult, metric: str) -> Estimate:
    """Estimate ``first`` minus ``second``, paired by seed, so that the effect that a seed has on both cancels.

    Args:
        first: one arm.
        second: the other arm, with the same seeds.
        metric: the name of the metric.

    Returns:
        The mean difference over the seeds and its standard error.
    """
    pairs = zip(first.metrics[metric], second.metrics[metric], strict=True)
    return Estimate.of([a - b for a, b in pairs])

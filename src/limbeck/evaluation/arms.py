"""Several arms over several seeds, and how sure the difference is."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from limbeck.atomic_files import append_line, read_lines


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its standard error."""

    mean: float
    error: float
    """Standard error of the mean; NaN for one seed."""
    count: int = 1
    """How many seeds."""

    @classmethod
    def of(cls, values: Sequence[float]) -> Estimate:
        """Summarise one value per seed.

        >>> Estimate.of([1.0, 2.0, 3.0]).mean
        2.0
        """
        error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
        return cls(statistics.fmean(values), error, len(values))

    @property
    def is_clear(self) -> bool:
        """Whether 0 lies outside the 95 % interval, by Student's t: few seeds must differ much to show anything."""
        from scipy.stats import t

        return self.count > 1 and abs(self.mean) > float(t.ppf(0.975, self.count - 1)) * self.error


@dataclass(frozen=True)
class ArmResult:
    """What one arm of a comparison reached, seed by seed."""

    name: str
    metrics: dict[str, list[float]]

    def __getitem__(self, metric: str) -> Estimate:
        return Estimate.of(self.metrics[metric])


def train_arms(
    arms: Sequence[str],
    seeds: Sequence[int],
    run: Callable[[str, int], dict[str, float]],
    *,
    record: Path | None = None,
    progress: str | None = None,
) -> dict[str, ArmResult]:
    """Train every arm with every seed.

    Args:
        arms: what is compared, by name.
        seeds: one run of each arm for each of them; a seed means the same data order and the same start in every arm.
        run: trains one arm with one seed and returns its metrics.
        record: a file that keeps what is finished; what it has already is not run again.
        progress: the title of a progress bar.
    """
    from tqdm import tqdm

    finished = {(line["arm"], line["seed"]): line["metrics"] for line in read_lines(record)} if record else {}
    with tqdm(total=len(arms) * len(seeds), desc=progress, disable=progress is None, leave=False) as bar:
        for seed in seeds:
            for arm in arms:
                bar.set_postfix_str(arm)
                if (arm, seed) not in finished:
                    finished[arm, seed] = run(arm, seed)
                    if record is not None:
                        append_line(record, {"arm": arm, "seed": seed, "metrics": finished[arm, seed]})
                bar.update()
    return {
        arm: ArmResult(arm, {name: [finished[arm, seed][name] for seed in seeds] for name in finished[arm, seeds[0]]})
        for arm in arms
    }


def difference(first: ArmResult, second: ArmResult, metric: str) -> Estimate:
    """``first`` minus ``second``, seed by seed: what they share with a seed cancels."""
    pairs = zip(first.metrics[metric], second.metrics[metric], strict=True)
    return Estimate.of([a - b for a, b in pairs])

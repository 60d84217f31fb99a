"""Train the arms of a comparison over several seeds, and estimate their differences."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from limbeck.atomic_files import append_line, read_lines
from limbeck.evaluation.estimates import Estimate
from limbeck.interruption import Interrupted


@dataclass(frozen=True)
class Measured:
    """What one student was measured at."""

    metrics: dict[str, float]
    by_example: Mapping[str, np.ndarray] = field(default_factory=dict)
    """For metrics that are a mean over the test examples: (n,), the value of each example."""


@dataclass(frozen=True)
class ArmResult:
    """The metrics of one arm of a comparison, seed by seed."""

    name: str
    metrics: dict[str, list[float]]
    """The values of each metric, one for each seed."""
    by_example: Mapping[str, np.ndarray] = field(default_factory=dict, compare=False)
    """For metrics that are a mean over the test examples: (seeds, n), the value of each example."""

    def __getitem__(self, metric: str) -> Estimate:
        """Return a metric's mean; its error includes that of the test set where it is known example by example."""
        if metric in self.by_example:
            return Estimate.of_examples(self.by_example[metric])
        return Estimate.of(self.metrics[metric])


def train_arms(
    arms: Sequence[str],
    seeds: Sequence[int],
    train_arm: Callable[[str, int], Measured],
    *,
    record: Path | None = None,
    progress: str | None = None,
) -> dict[str, ArmResult]:
    """Train every arm with every seed.

    Args:
        arms: the names of the arms.
        seeds: each arm is trained once with each seed. A seed means the same initial weights and the same order of the
            examples in every arm.
        train_arm: trains one arm with one seed and measures it. The test examples are the same in every call.
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
                    append_line(record, {"arm": arm, "seed": seed, **_as_json(finished[arm, seed])})
            bar.update()
    return {arm: _collect(arm, [finished[arm, seed] for seed in seeds]) for arm in arms}


def _read_finished(record: Path | None) -> dict[tuple[str, int], Measured]:
    """Return the students that a record holds, by arm and seed. Limbeck 0.1 wrote no examples; its students are left out."""
    lines = [] if record is None else read_lines(record)
    return {(line["arm"], line["seed"]): _from_json(line) for line in lines if "by_example" in line}


def _as_json(measured: Measured) -> dict[str, Any]:
    """Return what was measured as JSON can hold it."""
    return {
        "metrics": measured.metrics,
        "by_example": {name: _packed(row) for name, row in measured.by_example.items()},
    }


def _from_json(line: Mapping[str, Any]) -> Measured:
    """Return what ``_as_json`` wrote."""
    return Measured(line["metrics"], {name: _unpacked(row) for name, row in line["by_example"].items()})


def _packed(row: np.ndarray) -> list[Any]:
    """Return values in hexadecimal digits: one bit for each if all are 0 or 1, else 64."""
    is_binary = bool(np.isin(row, (0, 1)).all())
    return [len(row), (np.packbits(row.astype(bool)) if is_binary else row.astype("<f8")).tobytes().hex()]


def _unpacked(packed: Sequence[Any]) -> np.ndarray:
    """Return the values that ``_packed`` wrote."""
    count, data = packed[0], bytes.fromhex(packed[1])
    if len(data) == 8 * count:
        return np.frombuffer(data, "<f8")
    return np.unpackbits(np.frombuffer(data, np.uint8), count=count).astype(float)


def _collect(arm: str, measured: Sequence[Measured]) -> ArmResult:
    """Return the result of an arm from its students, one for each seed."""
    return ArmResult(
        arm,
        {name: [one.metrics[name] for one in measured] for name in measured[0].metrics},
        {name: np.stack([one.by_example[name] for one in measured]) for name in measured[0].by_example},
    )


def difference(first: ArmResult, second: ArmResult, metric: str) -> Estimate:
    """Estimate ``first`` minus ``second``, paired by seed and by test example, so that what both share cancels.

    Args:
        first: one arm.
        second: the other arm, with the same seeds and the same test examples.
        metric: the name of the metric.

    Returns:
        The mean difference. Its error includes that of the test set where the metric is known example by example.
    """
    if metric in first.by_example and metric in second.by_example:
        return Estimate.of_examples(first.by_example[metric] - second.by_example[metric])
    pairs = zip(first.metrics[metric], second.metrics[metric], strict=True)
    return Estimate.of([a - b for a, b in pairs])

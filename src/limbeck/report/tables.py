"""Tables of metrics as rows of text, for a page and for the terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from graphlib import TopologicalSorter
from itertools import pairwise

from limbeck.data import Splits
from limbeck.evaluation import ArmResult, Estimate, Speed, class_metric
from limbeck.tasks import TASKS

Table = list[tuple[str, ...]]
"""Rows of cells; the first row is the header."""

_HEADERS = {metric: header for task in TASKS.values() for metric, header in task.columns.items()}
_ORDER = TopologicalSorter()
for _task in TASKS.values():
    for _earlier, _later in pairwise(_task.columns):
        _ORDER.add(_later, _earlier)
COLUMNS = {
    "parameters": "parameters",
    **{metric: _HEADERS[metric] for metric in _ORDER.static_order()},
    "bits_per_byte": "bits / byte",
    "outside": "outside the vocabulary, %",
    "milliseconds_per_batch": "ms / batch",
}
"""The header of each metric's column, in an order that is the one of each task. A table has the columns that one of its rows
has a value for."""


def is_share(metric: str) -> bool:
    """Return True if a metric is a share between 0 and 1, which is shown in percent.

    Args:
        metric: its name.
    """
    return COLUMNS[metric].endswith("%")


def name_of_metric(metric: str) -> str:
    """Return how a metric is called in a sentence: the header of its column, without its unit.

    Args:
        metric: its name.
    """
    return COLUMNS[metric].removesuffix(", %")


def metrics_table(
    results: Mapping[str, Mapping[str, float]], errors: Mapping[str, Mapping[str, float]] | None = None
) -> Table:
    """Make a table of models that were measured once.

    Args:
        results: the metrics of each model, by its name.
        errors: the standard errors of some of them, over the test examples; None for none.

    Returns:
        A header, then one row for each model.
    """
    known = errors or {}
    return _table(
        {
            name: {metric: Estimate(value, known.get(name, {}).get(metric, math.nan)) for metric, value in row.items()}
            for name, row in results.items()
        }
    )


def comparison_table(teacher: Mapping[str, float], arms: Mapping[str, ArmResult]) -> Table:
    """Make the table of a comparison.

    Args:
        teacher: the teacher's metrics.
        arms: the result of each arm, by its name.

    Returns:
        A header, the row of the teacher, then one row for each arm. Metrics that are a share of the test examples have a
        standard error, over seeds and test examples.
    """
    rows = {"teacher": _without_errors(teacher)}
    rows |= {name: _estimates(arm) for name, arm in arms.items()}
    return _table(rows)


def class_table(results: Mapping[str, Mapping[str, float]]) -> Table:
    """Make a table of the intersection over union of each class.

    Args:
        results: the metrics of each model, by its name.

    Returns:
        A header with the models, then one row for each class; empty where no metric is that of a class.
    """
    beginning = class_metric("iou", "")
    classes = dict.fromkeys(metric for row in results.values() for metric in row if metric.startswith(beginning))
    rows = [
        (
            metric.removeprefix(beginning),
            *(f"{100 * row[metric]:.1f}" if metric in row else "" for row in results.values()),
        )
        for metric in classes
    ]
    return [("", *results), *rows] if rows else []


def speed_table(models: Mapping[str, tuple[int, int]], speeds: Sequence[tuple[str, Speed]]) -> Table:
    """Make a table of the size, the latency and the throughput of models.

    Args:
        models: the parameters of each model, 0 where it has none, and their bytes, by its name.
        speeds: the name of a model, and what was measured of it; there may be several for one.

    Returns:
        A header, then one row for each measurement.
    """
    header = "model, parameters, MB, batch, median ms, p99 ms, passes, examples / s"
    rows: Table = [tuple(header.split(", "))]
    for name, speed in speeds:
        parameters, size = models[name]
        times = f"{speed.median:.3g}", f"{speed.p99:.3g}", f"{speed.passes:,}", f"{speed.throughput:,.0f}"
        known = (f"{parameters:,}", f"{size / 1e6:.3g}") if parameters else ("", "")  # such as of an estimator
        rows.append((name, *known, f"{speed.batch}", *times))
    return rows


def table_caption(splits: Splits, seeds: int, labels: str) -> str:
    """Say what the results of a comparison rest on, and what the errors beside them mean.

    Args:
        splits: the examples.
        seeds: the number of seeds.
        labels: the labels that the students know, in words.

    Returns:
        Some sentences.
    """
    count = len(splits.test)
    known = (
        ""
        if splits.has_test_labels
        else " without labels, where students are compared by their agreement with the teacher"
    )
    text = f"{count:,} test examples{known}; {seeds} {'seed' if seeds == 1 else 'seeds'}; {labels}."
    if seeds == 1:
        return text + " One seed gives no standard errors."
    return (
        f"{text} ± is a standard error over seeds and test examples. The differences named below are paired: both students of "
        "a seed meet the same test examples, so their differences have errors of their own."
    )


def _estimates(arm: ArmResult) -> dict[str, Estimate]:
    """Return the mean of each metric, with an error where it includes that of the test set."""
    known = {metric: arm[metric] for metric in arm.metrics}
    return {
        metric: estimate if metric in arm.by_example else Estimate(estimate.mean, math.nan)
        for metric, estimate in known.items()
    }


def _without_errors(metrics: Mapping[str, float]) -> dict[str, Estimate]:
    """Return metrics that were measured once as estimates whose error is not known."""
    return {name: Estimate(value, math.nan) for name, value in metrics.items()}


def _table(results: Mapping[str, Mapping[str, Estimate]]) -> Table:
    metrics = [metric for metric in COLUMNS if any(metric in row for row in results.values())]
    header = ("", *(COLUMNS[metric] for metric in metrics))
    return [header] + [(name, *(_cell(metric, row.get(metric)) for metric in metrics)) for name, row in results.items()]


def _cell(metric: str, value: Estimate | None) -> str:
    """Return the text of one value, with its error where that is known."""
    if value is None:
        return ""
    if metric == "parameters":
        return f"{value.mean:,.0f}"
    if metric == "milliseconds_per_batch":
        return f"{value.mean:.2f}"
    scale, digits = (100, 1) if is_share(metric) else (1, 3)
    shown = f"{scale * value.mean:.{digits}f}"
    return shown if math.isnan(value.error) else f"{shown} ± {scale * value.error:.{digits}f}"

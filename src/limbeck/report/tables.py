"""Tables of metrics as rows of text, for a page and for the terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping

from limbeck.evaluation import ArmResult, Estimate
from limbeck.tasks import TASKS

Table = list[tuple[str, ...]]
"""Rows of cells; the first row is the header."""

COLUMNS = {
    "parameters": "parameters",
    **{metric: header for task in TASKS.values() for metric, header in task.columns.items()},
    "milliseconds_per_batch": "ms / batch",
}
"""The header of each metric's column. A table has the columns that one of its rows has a value for."""


def metrics_table(results: Mapping[str, Mapping[str, float]]) -> Table:
    """Make a table of models that were measured once.

    Args:
        results: the metrics of each model, by its name.

    Returns:
        A header, then one row for each model.
    """
    return _table({name: _without_errors(metrics) for name, metrics in results.items()})


def comparison_table(teacher: Mapping[str, float], arms: Mapping[str, ArmResult]) -> Table:
    """Make the table of a comparison.

    Args:
        teacher: the teacher's metrics.
        arms: the result of each arm, by its name.

    Returns:
        A header, the row of the teacher, then one row for each arm with the standard errors over seeds.
    """
    rows = {"teacher": _without_errors(teacher)}
    rows |= {name: {metric: arm[metric] for metric in arm.metrics} for name, arm in arms.items()}
    return _table(rows)


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
    scale, digits = (100, 1) if COLUMNS[metric].endswith("%") else (1, 3)
    shown = f"{scale * value.mean:.{digits}f}"
    return shown if math.isnan(value.error) else f"{shown} ± {scale * value.error:.{digits}f}"

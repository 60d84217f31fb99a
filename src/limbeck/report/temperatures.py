"""Tables and figures about the temperature: its analysis on a teacher's logits, and the search with students."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from limbeck.report.drawing import GREY, STUDENT_COLOUR, TEACHER_COLOUR, new_axes
from limbeck.report.tables import Table, is_share, name_of_metric
from limbeck.temperature import Choice, Trial
from limbeck.temperature.analysis import Analysis, Rank, Softness

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN_RANKS = 40
"""The ranks of negative labels that the figure of their reliability shows, at most."""


def search_table(choice: Choice) -> Table:
    """Make a table of the fitted curve and the students.

    Args:
        choice: what the search found.

    Returns:
        A header, then one row for each temperature.
    """
    assert choice.curve is not None
    behind, error = choice.curve.behind_best()
    scale, unit, digits = _scale(choice)
    by_score = _is_chosen_by_score(choice)
    factor, header = (scale, "points" if unit else name_of_metric(choice.metric)) if by_score else (1, "quality")
    rows: Table = [("T", f"behind the best, {header}", f"students, {name_of_metric(choice.metric)}{unit}")]
    for t, b, e in zip(choice.curve.temperatures, behind, error, strict=True):
        own = [scale * q.score for trial, q in choice.trials if trial.temperature == t and _is_plain(trial)]
        rows.append(
            (
                f"{t:g}",
                f"{factor * b:.{digits + 1 if by_score else 4}f} ± {factor * e:.{digits + 1 if by_score else 4}f}",
                " ".join(f"{value:.{digits}f}" for value in own),
            )
        )
    return rows


def search_figure(choice: Choice) -> Figure:
    """Draw the fitted curve with its error, the interval, the choice and every student.

    Args:
        choice: what the search found.

    Returns:
        The figure.
    """
    assert choice.curve is not None
    figure, axes = new_axes(7.5, 4.0)
    curve, t = choice.curve, np.array(choice.curve.temperatures)
    _, error = curve.behind_best()
    by_score = _is_chosen_by_score(choice)
    scale, unit, _ = _scale(choice) if by_score else (1, "", 3)
    mean = scale * curve.mean
    axes.axvspan(*choice.interval, color=STUDENT_COLOUR, alpha=0.1, label="within one standard error of the best")
    axes.plot(t, mean, color=STUDENT_COLOUR, label="fit")
    axes.fill_between(t, mean - scale * error, mean + scale * error, color=STUDENT_COLOUR, alpha=0.2)
    points = [(trial.temperature, scale * q.value) for trial, q in choice.trials if _is_plain(trial)]
    axes.scatter(*zip(*points, strict=True), s=22, color=STUDENT_COLOUR, label="students")
    alone = [scale * q.value for trial, q in choice.trials if trial.alpha == 0]
    if alone:
        axes.axhline(
            float(np.mean(alone)), color=TEACHER_COLOUR, linestyle="--", linewidth=1, label="without a teacher"
        )
    axes.axvline(choice.temperature, color=STUDENT_COLOUR, linestyle=":", label=f"chosen: {choice.temperature:g}")
    _log_axis(axes, t)
    axes.set_ylabel(f"validation {name_of_metric(choice.metric)}{unit}" if by_score else "quality on validation")
    axes.legend(frameon=False, fontsize=8)
    return figure


def _is_chosen_by_score(choice: Choice) -> bool:
    """Return True if the number that T is chosen by is the score that is shown, such as the accuracy."""
    return all(quality.value == quality.score for _, quality in choice.trials)


def _scale(choice: Choice) -> tuple[int, str, int]:
    """Return the factor, the unit and the digits of the quality: a share is shown in percent."""
    return (100, ", %", 1) if is_share(choice.metric) else (1, "", 3)


def _is_plain(trial: Trial) -> bool:
    """Return True if the student's objective was the config's own, apart from the temperature."""
    return trial.alpha is None and trial.divergence is None and trial.policy is None


def analysis_table(analysis: Analysis) -> Table:
    """Make a table of what each temperature does.

    Args:
        analysis: what was measured.

    Returns:
        A header, then one row for each temperature.
    """
    header = "T, entropy, classes, first %, negatives %, lowest %, soft / hard, times T², limit"
    rows: Table = [tuple(header.split(", "))]
    for s in analysis.softness:
        percents = (f"{100 * x:.2f}" for x in (s.top_probability, s.fraction_on_negatives, s.fraction_on_lowest))
        ratios = (f"{x:.3g}" for x in (s.soft_over_hard, s.compensated_over_hard, s.limit_over_hard))
        rows.append((f"{s.temperature:g}", f"{s.entropy:.3f}", f"{s.effective_classes:.2f}", *percents, *ratios))
    return rows


def softness_figure(rows: Sequence[Softness]) -> Figure:
    """Draw the effective number of classes at each temperature.

    Args:
        rows: what each temperature does.

    Returns:
        The figure.
    """
    return _lines_figure(rows, {"effective classes": "effective_classes"}, "effective number of classes")


def gradient_direction_figure(rows: Sequence[Softness]) -> Figure:
    """Draw the share of the soft gradient that falls on the negative labels, and on the lowest half of them.

    Args:
        rows: what each temperature does.

    Returns:
        The figure.
    """
    named = {"all negative labels": "fraction_on_negatives", "the lowest half of them": "fraction_on_lowest"}
    return _lines_figure(rows, named, "share of the soft gradient's square")


def _lines_figure(rows: Sequence[Softness], named: dict[str, str], label: str) -> Figure:
    """Draw fields of the rows over T; ``named`` maps the name of each line to its field."""
    figure, axes = new_axes(6.5, 3.2)
    t = [row.temperature for row in rows]
    for (name, key), colour in zip(named.items(), (STUDENT_COLOUR, TEACHER_COLOUR), strict=False):
        axes.plot(t, [getattr(row, key) for row in rows], marker="o", markersize=4, label=name, color=colour)
    _log_axis(axes, t)
    axes.set_ylabel(label)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    return figure


def gradient_strength_figure(rows: Sequence[Softness]) -> Figure:
    """Draw the norm of the soft gradient over that of the hard one, with and without the factor T².

    Args:
        rows: what each temperature does.

    Returns:
        The figure.
    """
    figure, axes = new_axes(6.5, 3.2)
    t = [row.temperature for row in rows]
    axes.plot(
        t, [row.compensated_over_hard for row in rows], marker="o", markersize=4, color=STUDENT_COLOUR, label="with T²"
    )
    axes.plot(t, [row.soft_over_hard for row in rows], marker="o", markersize=4, color=TEACHER_COLOUR, label="without")
    limit = rows[-1].limit_over_hard
    if math.isfinite(limit):  # it is not if the teacher rules out a class that the student knows
        axes.axhline(limit, color=STUDENT_COLOUR, linestyle="--", linewidth=1, label="limit of the first")
        falling = [limit / x**2 for x in t]
        axes.plot(t, falling, color=TEACHER_COLOUR, linestyle="--", linewidth=1, label="limit / T²")
    _log_axis(axes, t)
    axes.set_yscale("log")
    axes.set_ylabel("soft gradient / hard gradient")
    axes.legend(frameon=False, fontsize=8)
    return figure


def reliability_figure(ranks: Sequence[Rank]) -> Figure:
    """Draw how much the logit of each rank, and the class that has the rank, change between views of an example.

    Args:
        ranks: the negative labels, by rank. The first 40 are drawn.

    Returns:
        The figure.
    """
    figure, axes = new_axes(6.5, 3.2)
    ranks = ranks[:SHOWN_RANKS]
    x = [r.rank for r in ranks]
    gap, spread = np.array([-r.gap for r in ranks]), np.array([r.spread for r in ranks])
    axes.plot(x, gap, marker="o", markersize=4, color=STUDENT_COLOUR)
    axes.fill_between(x, gap - spread, gap + spread, color=STUDENT_COLOUR, alpha=0.25)
    axes.set_xlabel("rank of the negative label")
    axes.set_ylabel("logit below the first")
    second = axes.twinx()
    second.bar(x, [100 * r.agreement for r in ranks], color=GREY, alpha=0.25)
    second.set_ylim(0, 100)
    second.set_ylabel("same class at this rank, %")
    second.spines[["top"]].set_visible(False)
    return figure


def _log_axis(axes: Any, temperatures: Sequence[float] | np.ndarray) -> None:
    """Make the horizontal axis a logarithmic one of T, with a tick at each temperature."""
    axes.set_xscale("log")
    axes.set_xticks(list(temperatures), [f"{t:g}" for t in temperatures])
    axes.minorticks_off()
    axes.set_xlabel("T")
    low, high = min(temperatures), max(temperatures)
    margin = math.exp(0.03 * math.log(high / low)) if high > low else 1.1
    axes.set_xlim(low / margin, high * margin)

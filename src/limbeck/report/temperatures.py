"""Which T: plots of what each temperature does to a teacher's words, and of the search for the student's best."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from limbeck.report.pages import QUIET_COLOUR, STUDENT_COLOUR, TEACHER_COLOUR, Section, figure_of
from limbeck.temperature import Choice, Trial
from limbeck.temperature.analysis import Analysis, Softness


def search_rows(choice: Choice) -> list[tuple[str, ...]]:
    """The curve and the students, as a table: header, then one row for each temperature."""
    assert choice.curve is not None
    behind, error = choice.curve.behind_best()
    rows = [("T", "behind the best, points", "students, %")]
    for t, b, e in zip(choice.curve.temperatures, behind, error, strict=True):
        own = [100 * value for trial, value in choice.trials if trial.temperature == t and _is_plain(trial)]
        rows.append((f"{t:g}", f"{100 * b:.2f} ± {100 * e:.2f}", " ".join(f"{value:.1f}" for value in own)))
    return rows


def search_figure(choice: Choice) -> Any:
    """The fitted curve with its error, the interval, the choice, and every student."""
    assert choice.curve is not None
    figure, axes = figure_of(7.5, 4.0)
    curve, t = choice.curve, np.array(choice.curve.temperatures)
    students = [(trial.temperature, v) for trial, v in choice.trials if _is_plain(trial)]
    level = np.mean([v - curve.at(x) for x, v in students])
    _, error = curve.behind_best()
    mean = 100 * (curve.mean + level)
    axes.axvspan(*choice.interval, color=STUDENT_COLOUR, alpha=0.1, label="within one standard error of the best")
    axes.plot(t, mean, color=STUDENT_COLOUR, label="fit")
    axes.fill_between(t, mean - 100 * error, mean + 100 * error, color=STUDENT_COLOUR, alpha=0.2)
    points = [(x, 100 * v) for x, v in students]
    axes.scatter(*zip(*points, strict=True), s=22, color=STUDENT_COLOUR, label="students")
    alone = [100 * v for trial, v in choice.trials if trial.alpha == 0]
    if alone:
        axes.axhline(
            float(np.mean(alone)), color=TEACHER_COLOUR, linestyle="--", linewidth=1, label="without a teacher"
        )
    axes.axvline(choice.temperature, color=STUDENT_COLOUR, linestyle=":", label=f"chosen: {choice.temperature:g}")
    _log_axis(axes, t)
    axes.set_ylabel("validation accuracy, %")
    axes.legend(frameon=False, fontsize=8)
    return figure


def _is_plain(trial: Trial) -> bool:
    return trial.alpha is None and trial.divergence is None


def analysis_rows(found: Analysis) -> list[tuple[str, ...]]:
    """What each temperature does, as a table: header, then one row for each."""
    header = "T, entropy, classes, first %, negatives %, lowest %, soft / hard, times T², limit"
    rows: list[tuple[str, ...]] = [tuple(header.split(", "))]
    for s in found.softness:
        percents = (f"{100 * x:.2f}" for x in (s.top_probability, s.fraction_on_negatives, s.fraction_on_lowest))
        ratios = (f"{x:.3g}" for x in (s.soft_over_hard, s.compensated_over_hard, s.limit_over_hard))
        rows.append((f"{s.temperature:g}", f"{s.entropy:.3f}", f"{s.effective_classes:.2f}", *percents, *ratios))
    return rows


def analysis_sections(found: Analysis) -> list[Section]:
    """A plot for each question, and what to read from it."""
    sections = [
        Section(
            "How soft are the targets?",
            lines=[
                "The effective number of classes is exp(entropy). Near 1 the soft targets are hard labels, and distillation "
                f"adds little; near {found.classes} they say nothing. What a student can hear lies between."
            ],
            figure=_lines_figure(
                found.softness, {"effective classes": "effective_classes"}, "effective number of classes"
            ),
        ),
        Section(
            "Where does the soft gradient pull?",
            lines=[
                "The share of its square that falls on classes other than the label, and on the half of those that the teacher "
                "likes least. As T grows the lowest ones get their full say, signal and noise alike: compare with how reliable "
                "they are, below."
            ],
            figure=_lines_figure(
                found.softness,
                {"all negative labels": "fraction_on_negatives", "the lowest half of them": "fraction_on_lowest"},
                "share of the soft gradient's square",
            ),
        ),
        Section(
            "How strong is the soft gradient?",
            lines=[
                "Against the hard label's gradient. Without T² it falls like 1/T² once T is large against the logits, and "
                "alpha means something else at every T; with T² it tends to the dashed limit, that of matching logits."
            ],
            figure=_strength_figure(found.softness),
        ),
    ]
    if found.calibration is not None:
        c = found.calibration
        sections.append(
            Section(
                "Is the teacher honest?",
                lines=[
                    f"Dividing its logits by {c.temperature:.2f} makes its probabilities fit the labels best: calibration "
                    f"error {100 * c.error_before:.1f} % before and {100 * c.error_after:.1f} % after, NLL {c.nll_before:.3f} "
                    f"and {c.nll_after:.3f}. {'It is too sure of itself.' if c.temperature > 1.05 else ''}",
                    "This temperature is about the teacher's own predictions. It is not the temperature of distillation.",
                ],
            )
        )
    if found.ranks:
        sections.append(
            Section(
                "How reliable is each negative label?",
                lines=[
                    f"Over {found.view_kind}: how far the logit of the class at each rank lies below the first (line), "
                    "how much "
                    "that moves from view to view of one example (band), and how often the same class has the rank (bars). "
                    "Where the band is as wide as the steps between ranks, their order is noise, and a temperature that makes "
                    "it heard teaches noise."
                ],
                figure=_rank_figure(found),
            )
        )
    else:
        sections.append(
            Section(
                "How reliable is each negative label?",
                lines=[
                    "Not measured: there is one view of each example. Give the teacher augmentation, or store several views."
                ],
            )
        )
    return [Section("All numbers", table=analysis_rows(found)), *sections]


def _lines_figure(rows: Sequence[Softness], named: dict[str, str], label: str) -> Any:
    figure, axes = figure_of(6.5, 3.2)
    t = [row.temperature for row in rows]
    for (name, key), colour in zip(named.items(), (STUDENT_COLOUR, TEACHER_COLOUR), strict=False):
        axes.plot(t, [getattr(row, key) for row in rows], marker="o", markersize=4, label=name, color=colour)
    _log_axis(axes, t)
    axes.set_ylabel(label)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    return figure


def _strength_figure(rows: Sequence[Softness]) -> Any:
    figure, axes = figure_of(6.5, 3.2)
    t = [row.temperature for row in rows]
    axes.plot(
        t, [row.compensated_over_hard for row in rows], marker="o", markersize=4, color=STUDENT_COLOUR, label="with T²"
    )
    axes.plot(t, [row.soft_over_hard for row in rows], marker="o", markersize=4, color=TEACHER_COLOUR, label="without")
    axes.axhline(
        rows[-1].limit_over_hard, color=STUDENT_COLOUR, linestyle="--", linewidth=1, label="limit of the first"
    )
    axes.plot(
        t,
        [rows[0].limit_over_hard / x**2 for x in t],
        color=TEACHER_COLOUR,
        linestyle="--",
        linewidth=1,
        label="limit / T²",
    )
    _log_axis(axes, t)
    axes.set_yscale("log")
    axes.set_ylabel("soft gradient / hard gradient")
    axes.legend(frameon=False, fontsize=8)
    return figure


def _rank_figure(found: Analysis) -> Any:
    figure, axes = figure_of(6.5, 3.2)
    ranks = found.ranks[:40]
    x = [r.rank for r in ranks]
    gap, spread = np.array([-r.gap for r in ranks]), np.array([r.spread for r in ranks])
    axes.plot(x, gap, marker="o", markersize=4, color=STUDENT_COLOUR)
    axes.fill_between(x, gap - spread, gap + spread, color=STUDENT_COLOUR, alpha=0.25)
    axes.set_xlabel("rank of the negative label")
    axes.set_ylabel("logit below the first")
    second = axes.twinx()
    second.bar(x, [100 * r.agreement for r in ranks], color=QUIET_COLOUR, alpha=0.25)
    second.set_ylim(0, 100)
    second.set_ylabel("same class at this rank, %")
    second.spines[["top"]].set_visible(False)
    return figure


def _log_axis(axes: Any, temperatures: Sequence[float] | np.ndarray) -> None:
    axes.set_xscale("log")
    axes.set_xticks(list(temperatures), [f"{t:g}" for t in temperatures])
    axes.minorticks_off()
    axes.set_xlabel("T")
    low, high = min(temperatures), max(temperatures)
    margin = math.exp(0.03 * math.log(high / low)) if high > low else 1.1
    axes.set_xlim(low / margin, high * margin)

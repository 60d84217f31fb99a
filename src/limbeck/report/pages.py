"""Self-contained HTML pages: nothing is fetched, and all but the explorer is there without JavaScript.

The sentences are in ``templates/``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limbeck.atomic_files import write_text
from limbeck.data import Splits
from limbeck.report import temperatures
from limbeck.report.details import Details
from limbeck.report.drawing import figure_as_svg
from limbeck.report.explorer import Explorer
from limbeck.report.tables import Table, class_table, metrics_table
from limbeck.temperature import Choice
from limbeck.temperature.analysis import Analysis

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_run_page(
    path: Path,
    *,
    splits: Splits,
    results: Mapping[str, Mapping[str, float]],
    findings: Sequence[str],
    details: Details,
    errors: Mapping[str, Mapping[str, float]] | None = None,
    soft_targets: Figure | None = None,
) -> None:
    """Write the page of one distilled student.

    Args:
        path: the file.
        splits: the run's examples.
        results: the test metrics of each model, by its name.
        findings: what they rest on and show, in sentences.
        details: the parts that are shown below.
        errors: the standard errors of some metrics over the test examples; None for none.
        soft_targets: the figure of some soft targets; None leaves it out.
    """
    _write(
        path,
        "run.html.j2",
        results=metrics_table(results, errors),
        has_errors=any((errors or {}).values()),
        classes=class_table(results),
        notes=[*findings, *splits.notes],
        soft_targets=soft_targets,
        details=details,
    )


def write_comparison_page(
    path: Path,
    *,
    results: Table,
    accuracies: Figure,
    caption: str,
    findings: Sequence[str],
    classes: Table,
    details: Details,
    soft_targets: Figure | None = None,
) -> None:
    """Write the page of a comparison.

    Args:
        path: the file.
        results: the table of the teacher and the arms.
        accuracies: the figure of the arms' accuracies.
        caption: what the results rest on, in a sentence or more.
        findings: one sentence or more for each finding.
        classes: the table of each class; empty where there is none.
        details: the parts that are shown below.
        soft_targets: the figure of some soft targets; None leaves it out.
    """
    shared = {"results": results, "accuracies": accuracies, "caption": caption, "findings": findings}
    _write(path, "comparison.html.j2", **shared, classes=classes, details=details, soft_targets=soft_targets)


def write_demo_page(
    path: Path,
    *,
    results: Table,
    accuracies: Figure,
    caption: str,
    findings: Sequence[str],
    details: Details,
    soft_targets: Figure | None,
    omitted_class: int,
    omitted_results: Table,
    omitted_finding: str,
) -> None:
    """Write the page of the demo: a comparison, and students that were trained without one class.

    Args:
        path: the file.
        results: the table of the teacher and the arms.
        accuracies: the figure of the arms' accuracies.
        caption: what the results rest on, in a sentence or more.
        findings: one sentence or more for each finding.
        details: the parts that are shown below.
        soft_targets: the figure of some soft targets.
        omitted_class: the class that was left out.
        omitted_results: the table of the students that were trained without it.
        omitted_finding: what that table shows, in a sentence.
    """
    _write(
        path,
        "demo.html.j2",
        classes=[],
        results=results,
        accuracies=accuracies,
        caption=caption,
        findings=findings,
        details=details,
        soft_targets=soft_targets,
        omitted_class=omitted_class,
        omitted_results=omitted_results,
        omitted_finding=omitted_finding,
    )


def write_explorer_page(path: Path, explorer: Explorer, lines: Sequence[str]) -> None:
    """Write a page with a temperature explorer alone.

    Args:
        path: the file.
        explorer: its examples.
        lines: what the page says about them, in sentences.
    """
    _write(path, "explorer_page.html.j2", explorer=explorer, lines=lines)


def write_search_page(path: Path, *, choice: Choice, lines: Sequence[str]) -> None:
    """Write the page of a temperature search.

    Args:
        path: the file.
        choice: what the search found.
        lines: what was chosen and why, in sentences.
    """
    _write(path, "search.html.j2", lines=lines, curve=temperatures.search_figure(choice))


def write_analysis_page(path: Path, analysis: Analysis) -> None:
    """Write the page of a temperature analysis: one figure for each question, and how to read it.

    Args:
        path: the file.
        analysis: what was measured.
    """
    _write(
        path,
        "analysis.html.j2",
        analysis=analysis,
        numbers=temperatures.analysis_table(analysis),
        softness=temperatures.softness_figure(analysis.softness),
        direction=temperatures.gradient_direction_figure(analysis.softness),
        strength=temperatures.gradient_strength_figure(analysis.softness),
        reliability=temperatures.reliability_figure(analysis.ranks) if analysis.ranks else None,
    )


def _write(path: Path, template: str, **values: Any) -> None:
    """Write a template as a page. Its figures become part of the page, as SVG."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("limbeck.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["svg"] = lambda figure: Markup(figure_as_svg(figure))
    write_text(path, environment.get_template(template).render(values))

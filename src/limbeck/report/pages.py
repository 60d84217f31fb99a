"""Pictures and one self-contained page: no script, nothing fetched."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.atomic_files import atomic_write, write_text
from limbeck.data import Splits
from limbeck.evaluation import ArmResult, Estimate, predict_logits

STUDENT_COLOUR, TEACHER_COLOUR, QUIET_COLOUR = "#3b6ea5", "#a5533b", "#888888"
COLUMNS = {
    "parameters": "parameters",
    "accuracy": "accuracy, %",
    "nll": "NLL",
    "calibration_error": "calibration error, %",
    "agreement": "agreement, %",
    "milliseconds_per_batch": "ms / batch",
}
PERCENT = ("accuracy", "calibration_error", "agreement")


@dataclass
class Section:
    """A part of a page: text, a table (its first row the header), a figure."""

    title: str
    lines: Sequence[str] = ()
    table: Sequence[Sequence[str]] = ()
    figure: Any = None
    caption: str = ""
    svg: str = field(init=False, default="")


def write_page(path: Path, title: str, sections: Sequence[Section]) -> None:
    """Write one HTML page with its figures as SVG inside."""
    from jinja2 import Environment, PackageLoader

    for section in sections:
        if section.figure is not None:
            section.svg = _svg(section.figure)
    environment = Environment(loader=PackageLoader("limbeck.report", "."), autoescape=True)
    write_text(path, environment.get_template("report.html.j2").render(title=title, sections=sections))


def write_run_page(
    path: Path,
    config: dict[str, Any],
    splits: Splits,
    results: dict[str, dict[str, float]],
    history: list[dict[str, float]],
    teacher: nn.Module | None,
) -> None:
    """The page of one distilled student."""
    distillation = config["distillation"]
    sections = [
        Section(
            "Test results",
            table=metric_rows(results),
            lines=[
                *splits.notes,
                "All at T = 1. One run tells little: limbeck compare trains the baselines beside it.",
            ],
        ),
        Section("How", table=[("setting", "value"), *((k, str(v)) for k, v in distillation.items())]),
    ]
    if teacher is not None:
        t = distillation["temperature"]
        shown = [1.0] if isinstance(t, dict) else [1.0, t]
        sections.append(soft_target_section(splits, teacher, shown))
    if any("soft_loss" in entry for entry in history):
        sections.insert(1, Section("Training", figure=history_figure(history)))
    write_page(path, "A distilled student", sections)


def metric_rows(results: dict[str, dict[str, float]]) -> list[tuple[str, ...]]:
    """Models measured once, as a table: header, then one row for each."""
    return _rows({name: {k: Estimate(v, math.nan) for k, v in row.items()} for name, row in results.items()})


def arm_rows(teacher: dict[str, float], arms: dict[str, ArmResult]) -> list[tuple[str, ...]]:
    """The comparison as a table: header, teacher, then one row for each arm."""
    rows = {"teacher": {name: Estimate(value, math.nan) for name, value in teacher.items()}}
    rows |= {name: {metric: arm[metric] for metric in arm.metrics} for name, arm in arms.items()}
    return _rows(rows)


def _rows(results: dict[str, dict[str, Estimate]]) -> list[tuple[str, ...]]:
    header = ("", *COLUMNS.values())
    return [header] + [(name, *(_cell(metric, row.get(metric)) for metric in COLUMNS)) for name, row in results.items()]


def _cell(metric: str, value: Estimate | None) -> str:
    if value is None:
        return ""
    if metric == "parameters":
        return f"{value.mean:,.0f}"
    if metric == "milliseconds_per_batch":
        return f"{value.mean:.2f}"
    scale, digits = (100, 1) if metric in PERCENT else (1, 3)
    shown = f"{scale * value.mean:.{digits}f}"
    return shown if math.isnan(value.error) else f"{shown} ± {scale * value.error:.{digits}f}"


def comparison_figure(teacher: dict[str, float], arms: dict[str, ArmResult]) -> Any:
    """Test accuracy of every arm, with standard errors, and the table's other columns beside it."""
    names = list(arms)
    figure, axes = figure_of(8.6, 0.9 + 0.42 * len(names))
    for row, name in enumerate(names):
        accuracy = arms[name]["accuracy"]
        error = 0.0 if math.isnan(accuracy.error) else 100 * accuracy.error
        axes.errorbar(100 * accuracy.mean, row, xerr=error, fmt="o", color=STUDENT_COLOUR, capsize=3)
        text = f"{100 * accuracy.mean:.1f}" + (f" ± {error:.1f}" if error else "")
        nll = arms[name]["nll"].mean
        axes.annotate(
            f"{text} %   NLL {nll:.2f}", (1.02, row), xycoords=("axes fraction", "data"), va="center", fontsize=9
        )
    axes.axvline(100 * teacher["accuracy"], color=TEACHER_COLOUR, linestyle="--", linewidth=1)
    axes.annotate(
        f"teacher {100 * teacher['accuracy']:.1f} %",
        (100 * teacher["accuracy"], -0.62),
        color=TEACHER_COLOUR,
        fontsize=9,
        ha="right",
    )
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.9)
    axes.set_xlabel("test accuracy, % (T = 1; bars: standard error over seeds)")
    axes.grid(axis="x", alpha=0.3)
    return figure


def soft_target_figure(images: Tensor, logits: Tensor, names: Sequence[str], temperatures: Sequence[float]) -> Any:
    """A row for each image: the image, and the teacher's probabilities at each temperature.

    Args:
        images: (N, C, H, W).
        logits: (N, V), the teacher's.
        names: of the V classes.
        temperatures: one column each.
    """
    columns = 1 + len(temperatures)
    figure = plain_figure(1.2 + 2.3 * len(temperatures), 1.15 * len(images) + 0.7)
    for row, (image, row_logits) in enumerate(zip(images, logits, strict=True)):
        axes = figure.add_subplot(len(images), columns, row * columns + 1)
        shown = image.permute(1, 2, 0)
        shown = (shown - shown.min()) / (shown.max() - shown.min()).clamp(min=1e-6)
        axes.imshow((shown.squeeze(-1) if shown.shape[-1] == 1 else shown).numpy(), cmap="gray_r")
        axes.set_axis_off()
        for column, temperature in enumerate(temperatures):
            axes = figure.add_subplot(len(images), columns, row * columns + 2 + column)
            probabilities = (row_logits / temperature).softmax(-1)
            axes.bar(range(len(names)), probabilities.tolist(), color=STUDENT_COLOUR)
            axes.set_ylim(0, 1)
            axes.set_xticks(range(len(names)), names if row == len(images) - 1 else [""] * len(names), fontsize=7)
            if max(map(len, names)) > 2:
                axes.tick_params(axis="x", rotation=90)
            axes.set_yticks([0, 0.5, 1], ["0", "", "1"], fontsize=7)
            quiet(axes)
            if row == 0:
                axes.set_title(f"T = {temperature:g}", fontsize=10)
    return figure


def soft_target_section(splits: Splits, teacher: nn.Module, temperatures: Sequence[float]) -> Section:
    """The soft targets of the test images that the teacher is least sure of."""
    if splits.shape.image is None:
        return Section("Soft targets", lines=["Shown for images only."])
    figure = unsure_figure(splits, teacher, temperatures)
    return Section(
        "Soft targets", figure=figure, caption="The teacher's probabilities for test images it is unsure of."
    )


def unsure_figure(splits: Splits, teacher: nn.Module, temperatures: Sequence[float], images: int = 4) -> Any:
    """``soft_target_figure`` of the test images whose first class the teacher is least sure of."""
    some = splits.test.subset(torch.arange(min(500, len(splits.test))))
    logits = predict_logits(teacher, some)
    chosen = logits.softmax(-1).amax(-1).argsort()[:images]
    pixels = some.__getitems__(chosen.tolist())["pixel_values"]
    return soft_target_figure(pixels, logits[chosen], splits.label_names, sorted(set(temperatures)))


def history_figure(history: Sequence[dict[str, float]]) -> Any:
    """The logged parts of the loss over training."""
    figure, axes = figure_of(7.5, 3.0)
    for name, colour in (("soft_loss", STUDENT_COLOUR), ("hard_loss", TEACHER_COLOUR)):
        points = [(entry["step"], entry[name]) for entry in history if name in entry]
        axes.plot(*zip(*points, strict=True), label=name.replace("_", " "), color=colour)
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.legend(frameon=False)
    return figure


def save_figure(figure: Any, path: Path) -> None:
    """Write a figure as a picture; the suffix tells its format."""
    with atomic_write(path) as aside:
        figure.savefig(aside, format=path.suffix.removeprefix("."), dpi=150, bbox_inches="tight")


def figure_of(width: float, height: float) -> tuple[Any, Any]:
    """A figure with one pair of axes."""
    figure = plain_figure(width, height)
    axes = figure.add_subplot()
    quiet(axes)
    return figure, axes


def plain_figure(width: float, height: float) -> Any:
    """A figure without axes."""
    # Without pyplot there is no global state and no window: it runs anywhere.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def quiet(axes: Any) -> None:
    """Take the frame away where nothing is read off it."""
    axes.spines[["top", "right"]].set_visible(False)


def _svg(figure: Any) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", bbox_inches="tight")
    content = buffer.getvalue()
    return content[content.index("<svg") :]

"""Figures of runs and comparisons: accuracies, soft targets and losses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from limbeck.data import Examples, Splits
from limbeck.evaluation import ArmResult, aligned_outputs, predict_logits
from limbeck.report.drawing import STUDENT_COLOUR, TEACHER_COLOUR, as_drawn, hide_frame, new_axes, new_figure
from limbeck.report.tables import COLUMNS, is_share
from limbeck.tasks import Task, has_numbers, task_named

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CANDIDATES = 500
"""Test images among which the least certain ones are looked for."""


def comparison_figure(teacher: Mapping[str, float], arms: Mapping[str, ArmResult], metric: str = "accuracy") -> Figure:
    """Draw the test score of every arm with its standard error, and write the NLL beside it where it is known.

    Args:
        teacher: the teacher's metrics.
        arms: the result of each arm, by its name.
        metric: what the students are compared by, such as "accuracy"; or "agreement" on a test set without labels.

    Returns:
        The figure.
    """
    names = list(arms)
    scale, digits, unit = (100, 1, " %") if is_share(metric) else (1, 3, "")
    figure, axes = new_axes(8.6, 0.9 + 0.42 * len(names))
    for row, name in enumerate(names):
        reached = arms[name][metric]
        error = 0.0 if math.isnan(reached.error) else scale * reached.error
        axes.errorbar(scale * reached.mean, row, xerr=error, fmt="o", color=STUDENT_COLOUR, capsize=3)
        text = f"{scale * reached.mean:.{digits}f}" + (f" ± {error:.{digits}f}" if error else "") + unit
        text += f"   NLL {arms[name]['nll'].mean:.2f}" if "nll" in arms[name].metrics else ""
        axes.annotate(text, (1.02, row), xycoords=("axes fraction", "data"), va="center", fontsize=9)
    if metric in teacher:
        reached = scale * teacher[metric]
        axes.axvline(reached, color=TEACHER_COLOUR, linestyle="--", linewidth=1)
        axes.annotate(
            f"teacher {reached:.{digits}f}{unit}", (reached, -0.62), color=TEACHER_COLOUR, fontsize=9, ha="right"
        )
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.9)
    what = "agreement with the teacher, %" if metric == "agreement" else COLUMNS[metric]
    at = "T = 1; " if unit else ""
    axes.set_xlabel(f"test {what} ({at}bars: standard error over seeds and test examples)")
    axes.grid(axis="x", alpha=0.3)
    return figure


def soft_target_figure(
    task: Task, images: Tensor, logits: Tensor, names: Sequence[str], temperatures: Sequence[float]
) -> Figure:
    """Draw each image in a row of its own, followed by the teacher's probabilities at each temperature.

    Args:
        task: says which probabilities the logits stand for.
        images: (N, C, H, W), with 1 or 3 channels.
        logits: (N, V), the teacher's.
        names: the names of the V classes.
        temperatures: positive numbers; each has one column.

    Returns:
        The figure.
    """
    columns = 1 + len(temperatures)
    figure = new_figure(1.2 + 2.3 * len(temperatures), 1.15 * len(images) + 0.7)
    for row, (image, row_logits) in enumerate(zip(images, logits, strict=True)):
        _draw_image(figure.add_subplot(len(images), columns, row * columns + 1), image)
        is_last = row == len(images) - 1
        for column, temperature in enumerate(temperatures):
            axes = figure.add_subplot(len(images), columns, row * columns + 2 + column)
            _draw_probabilities(
                axes, task.probabilities(row_logits / temperature), names if is_last else [""] * len(names)
            )
            if row == 0:
                axes.set_title(f"T = {temperature:g}", fontsize=10)
    return figure


def _draw_image(axes: Any, image: Tensor) -> None:
    pixels = image.permute(1, 2, 0)
    pixels = (pixels - pixels.min()) / (pixels.max() - pixels.min()).clamp(min=1e-6)
    axes.imshow((pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels).numpy(), cmap="gray_r")
    axes.set_axis_off()


def _draw_probabilities(axes: Any, probabilities: Tensor, labels: Sequence[str]) -> None:
    axes.bar(range(len(labels)), probabilities.tolist(), color=STUDENT_COLOUR)
    axes.set_ylim(0, 1)
    axes.set_xticks(range(len(labels)), list(map(as_drawn, labels)), fontsize=7)
    if max(map(len, labels)) > 2:
        axes.tick_params(axis="x", rotation=90)
    axes.set_yticks([0, 0.5, 1], ["0", "", "1"], fontsize=7)
    hide_frame(axes)


def uncertain_images_figure(
    splits: Splits, teacher: nn.Module, temperatures: Sequence[float], *, images: int = 4
) -> Figure | None:
    """Draw the soft targets of the test images of which the teacher is least sure.

    Args:
        splits: the examples.
        teacher: the model.
        temperatures: positive numbers; each has one column, in increasing order.
        images: how many images to draw.

    Returns:
        The figure, or None if the examples are not images, or the teacher gives no probabilities.
    """
    if splits.shape.image is None or has_numbers(task_named(splits.task)):
        return None
    some, task = splits.test.subset(torch.arange(min(CANDIDATES, len(splits.test)))), task_named(splits.task)
    if task.unit == "pixel":
        return _pixels_figure(
            task, some.subset(torch.arange(min(CANDIDATES // 10, len(some)))), teacher, temperatures, images
        )
    logits = predict_logits(teacher, some)
    chosen = task.confidence(logits).argsort()[:images]
    pixels = some.__getitems__(chosen.tolist())["pixel_values"]
    return soft_target_figure(task, pixels, logits[chosen], splits.label_names, sorted(set(temperatures)))


def _pixels_figure(
    task: Task, examples: Examples, teacher: nn.Module, temperatures: Sequence[float], images: int
) -> Figure:
    """Draw the images of whose pixels a teacher is least sure: their labels, its decisions and its confidence at each T."""
    sure = [task.confidence(logits).flatten(1).mean(-1).cpu() for logits, _ in aligned_outputs(teacher, examples)]
    chosen = torch.cat(sure).argsort()[:images]
    some = examples.subset(chosen)
    batch, columns = some.as_one_batch(), sorted(set(temperatures))
    logits = torch.cat([logits.cpu() for logits, _ in aligned_outputs(teacher, some)])
    figure = new_figure(1.3 * (3 + len(columns)), 1.3 * len(chosen) + 0.4)
    for row, one in enumerate(logits):
        labels = batch["labels"][row].double().masked_fill(batch["labels"][row] < 0, torch.nan)
        drawn = [("image", None), ("labels", labels), ("teacher", task.decide(one))]
        drawn += [(f"T = {t:g}", task.confidence(one / t)) for t in columns]
        for column, (title, pixels) in enumerate(drawn):
            axes = figure.add_subplot(len(chosen), len(drawn), row * len(drawn) + column + 1)
            if pixels is None:
                _draw_image(axes, batch["pixel_values"][row])
            elif column < 3:
                axes.imshow(
                    pixels.numpy(), cmap="tab20", vmin=0, vmax=max(logits.shape[-1] - 1, 19), interpolation="nearest"
                )
            else:
                axes.imshow(pixels.numpy(), cmap="gray", vmin=0, vmax=1)
            axes.set_axis_off()
            if row == 0:
                axes.set_title(title, fontsize=9)
    return figure


def loss_figure(log: Sequence[Mapping[str, float]]) -> Figure | None:
    """Draw the soft and the hard term of the loss over training, and the share of the soft term in the gradient.

    Args:
        log: the entries of the trainer's log.

    Returns:
        The figure; None if the terms were logged less than twice.
    """
    lines = {name: _logged(log, name) for name in ("soft_loss", "hard_loss", "gradient_ratio")}
    if len(lines["soft_loss"]) < 2:
        return None
    ratios = lines.pop("gradient_ratio")
    figure = new_figure(7.5, 4.2 if ratios else 3.0)
    axes = (
        figure.subplots(2, 1, sharex=True, squeeze=False, height_ratios=(2, 1))
        if ratios
        else figure.subplots(1, 1, squeeze=False)
    )
    for (name, points), colour in zip(lines.items(), (STUDENT_COLOUR, TEACHER_COLOUR), strict=True):
        if any(loss for _, loss in points):  # a term without weight is logged as 0
            axes[0, 0].plot(*zip(*points, strict=True), label=name.replace("_", " "), color=colour)
    axes[0, 0].set_ylabel("loss (log scale)")
    axes[0, 0].set_yscale("log")
    axes[0, 0].legend(frameon=False)
    if ratios:
        shares = [(step, 100 * ratio / (1 + ratio)) for step, ratio in ratios]
        axes[1, 0].plot(*zip(*shares, strict=True), color=STUDENT_COLOUR)
        axes[1, 0].set_ylim(0, 100)
        axes[1, 0].set_ylabel("soft share of\nthe gradient, %")
    axes[-1, 0].set_xlabel("step")
    for one in axes.flat:
        hide_frame(one)
    return figure


def _logged(log: Sequence[Mapping[str, float]], name: str) -> list[tuple[float, float]]:
    """Return the steps and the values of an entry of the log."""
    return [(entry["step"], entry[name]) for entry in log if name in entry]

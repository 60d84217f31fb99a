"""What all figures share: their colours, empty axes, and how a figure is written."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limbeck.atomic_files import atomic_write

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STUDENT_COLOUR, TEACHER_COLOUR, GREY = "#3b6ea5", "#a5533b", "#888888"


def new_figure(width: float, height: float) -> Figure:
    """Make a figure without axes.

    Args:
        width: in inches.
        height: in inches.

    Returns:
        The figure.
    """
    # Without pyplot there is no global state and no window, so it works on every machine.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def new_axes(width: float, height: float) -> tuple[Figure, Any]:
    """Make a figure with one pair of axes.

    Args:
        width: in inches.
        height: in inches.

    Returns:
        The figure and its axes.
    """
    figure = new_figure(width, height)
    axes = figure.add_subplot()
    hide_frame(axes)
    return figure, axes


def hide_frame(axes: Any) -> None:
    """Remove the top and right lines of axes, which carry no scale.

    Args:
        axes: the axes of a figure.
    """
    axes.spines[["top", "right"]].set_visible(False)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as a picture.

    Args:
        figure: the figure.
        path: the file. Its suffix names the format: ``.png``, ``.svg`` or ``.pdf``.
    """
    with atomic_write(path) as aside:
        figure.savefig(aside, format=path.suffix.removeprefix("."), dpi=150, bbox_inches="tight")


def figure_as_svg(figure: Figure) -> str:
    """Draw a figure as SVG.

    Args:
        figure: the figure.

    Returns:
        An ``<svg>`` element for an HTML page.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", bbox_inches="tight")
    content = buffer.getvalue()
    return content[content.index("<svg") :]

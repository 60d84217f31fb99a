"""What all figures share: their colours, empty axes, and how a figure is written."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limbeck.atomic_files import atomic_write
from limbeck.outputs import one_line

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STUDENT_COLOUR, TEACHER_COLOUR, GREY = "#3b6ea5", "#a5533b", "#888888"
ON_PAGES = {"#000000": "currentColor", STUDENT_COLOUR: "var(--student)", TEACHER_COLOUR: "var(--teacher)"}
"""What stands for a colour of a figure in a page."""


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


def as_drawn(name: str) -> str:
    """Return the text that a figure shows as this name: matplotlib would read what stands between dollar signs as a formula.

    Args:
        name: any text, such as the name of a class.
    """
    return one_line(name).replace("$", r"\$")


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as a picture.

    Args:
        figure: the figure.
        path: the file. Its suffix names the format: ``.png``, ``.svg`` or ``.pdf``.
    """
    with atomic_write(path) as aside:
        _draw(figure, aside, path.suffix.removeprefix("."), dpi=150)


def figure_as_svg(figure: Figure) -> str:
    """Draw a figure as SVG.

    Args:
        figure: the figure.

    Returns:
        An ``<svg>`` element for an HTML page. Its lines and colours are those of the page, light or dark.
    """
    buffer = io.StringIO()
    _draw(figure, buffer, "svg", transparent=True)
    content = buffer.getvalue()
    for drawn, of_page in ON_PAGES.items():
        content = content.replace(drawn, of_page)
    return content[content.index("<svg") :]


def _draw(figure: Figure, target: Any, suffix: str, **settings: Any) -> None:
    """Write a figure to a file or a buffer. In SVG, texts stay texts, so that the reader's fonts show every script."""
    import matplotlib

    with matplotlib.rc_context({"svg.fonttype": "none"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph .* missing from font")  # such as emoji, which a box stands for
        figure.savefig(target, format=suffix, bbox_inches="tight", **settings)

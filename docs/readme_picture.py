"""Draw the README's picture from the results of the studies.

    python docs/readme_picture.py

The picture is SVG text that is written without matplotlib: so it is small and the same on every machine, and a test can check
that it is up to date.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from experiments.collect import Arms  # noqa: E402
from experiments.combinations import TEMPERATURES, of_width  # noqa: E402

PATH = Path(__file__).parent / "images" / "students_and_temperature.svg"
COLOURS = {16: "#b5492c", 32: "#d08a2e", 64: "#6a9a4b", 128: "#3b7ea5", 256: "#4b3b8f"}
"""The colour of each student that is shown, by its hidden units. The losses of smaller students are too large for the axis."""
WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 64, 590, 44, 340
LOWEST, HIGHEST = -5.0, 1.5


def x(temperature: float) -> float:
    """Return the horizontal position of a temperature, on a logarithmic axis."""
    span = math.log(TEMPERATURES[-1] / TEMPERATURES[0])
    return round(LEFT + (RIGHT - LEFT) * math.log(temperature / TEMPERATURES[0]) / span, 1)


def y(gain: float) -> float:
    """Return the vertical position of a gain, which is in points of accuracy."""
    return round(BOTTOM - (BOTTOM - TOP) * (gain - LOWEST) / (HIGHEST - LOWEST), 1)


def draw() -> str:
    """Return the picture as SVG."""
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        'role="img" font-family="Helvetica, Arial, sans-serif" font-size="13" fill="#222">',
        "<title>What the temperature does to students of several sizes</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        text(LEFT, 22, "Points of test accuracy over the same student without a teacher", size=14),
    ]
    for gain in range(math.ceil(LOWEST), math.floor(HIGHEST) + 1):
        dash = "" if gain == 0 else ' stroke-dasharray="2 4"'
        colour = "#444" if gain == 0 else "#bbb"
        lines.append(f'<path d="M{LEFT} {y(gain)}H{RIGHT}" stroke="{colour}"{dash}/>')
        lines.append(text(LEFT - 8, y(gain) + 4, f"{gain:+d}".replace("+0", "0").replace("-", "−"), anchor="end"))
    for temperature in TEMPERATURES:
        lines.append(text(x(temperature), BOTTOM + 20, f"{temperature:g}", anchor="middle"))
    lines.append(
        text((LEFT + RIGHT) / 2, BOTTOM + 44, "temperature T (the best of each student is marked)", anchor="middle")
    )
    arms = Arms()
    ends = []
    for width, colour in COLOURS.items():
        name = of_width(width)
        alone = arms(name, alpha=0.0).mean()
        gains = {t: float(arms(name, temperature=t).mean() - alone) for t in TEMPERATURES}
        best = max(gains, key=lambda t: gains[t])
        path = "L".join(f"{x(t)} {y(gain)}" for t, gain in gains.items())
        lines.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2.5"/>')
        lines.append(f'<circle cx="{x(best)}" cy="{y(gains[best])}" r="5.5" fill="{colour}"/>')
        ends.append((y(gains[TEMPERATURES[-1]]), width, colour))
    for at, width, colour in ends:
        lines.append(text(RIGHT + 12, at + 4, f"{width} hidden units", colour=colour))
    return "\n".join([*lines, "</svg>", ""])


def text(at_x: float, at_y: float, words: str, *, anchor: str = "start", size: int = 13, colour: str = "#222") -> str:
    """Return an SVG element that shows ``words``, with its ``anchor`` at a position."""
    place = f'x="{round(at_x, 1)}" y="{round(at_y, 1)}"'
    return f'<text {place} text-anchor="{anchor}" font-size="{size}" fill="{colour}">{words}</text>'


def write() -> None:
    """Write the picture into ``docs/images/``."""
    PATH.parent.mkdir(exist_ok=True)
    PATH.write_text(draw(), encoding="utf-8")
    print(PATH)


if __name__ == "__main__":
    write()

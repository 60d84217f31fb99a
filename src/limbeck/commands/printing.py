"""What commands print: tables, lines and lists of files."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import typer

from limbeck.outputs import one_line

if TYPE_CHECKING:
    from limbeck.inference import Prediction
    from limbeck.run.plan import Plan

NOTHING = "(nothing)"
"""What is shown where a model writes an empty text."""


def print_table(title: str, rows: Sequence[Sequence[str]]) -> None:
    """Print a table: the first column to the left, the others to the right; nothing if it has no rows.

    Args:
        title: printed above the table, in bold.
        rows: the cells; the first row is the header.
    """
    if not rows:
        return
    rows = [[one_line(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    typer.secho(f"\n{title}", bold=True)
    for row in rows:
        cells = [
            f"{cell:>{width}}" if i else f"{cell:<{width}}"
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        typer.echo("  ".join(cells).rstrip())


def print_lines(lines: Sequence[str]) -> None:
    """Print an empty line, then the lines; nothing if there are none.

    Args:
        lines: the texts.
    """
    if lines:
        typer.echo("")
    for line in lines:
        typer.echo(line)


def print_pairs(pairs: Mapping[str, object]) -> None:
    """Print an empty line, then names and what they stand for, in two columns.

    Args:
        pairs: the values by name, such as the files that a command wrote.
    """
    typer.echo("")
    width = max(map(len, pairs))
    for name, value in pairs.items():
        typer.echo(f"{name:<{width}}  {value}")


def print_plan(plan: Plan) -> None:
    """Print what a run is going to do, and then the warnings.

    Args:
        plan: the facts and the warnings.
    """
    if plan.facts:
        print_pairs(plan.facts)
    for warning in plan.warnings:
        typer.secho(f"Warning: {warning}", bold=True)


def print_prediction(prediction: Prediction, *, as_json: bool) -> None:
    """Print one prediction in one line.

    Args:
        prediction: that of an input that could be read.
        as_json: print it as a JSON object, with every probability.
    """
    if as_json:
        told = {name: value for name, value in dataclasses.asdict(prediction).items() if value or value == ""}
        typer.echo(json.dumps(told, ensure_ascii=False, default=str))
        return
    numbers = prediction.masked or [prediction.probabilities or prediction.shares]
    shown = " | ".join(map(_ranked, numbers))
    teacher = None if prediction.teacher is None else f"teacher: {prediction.teacher or NOTHING}"
    more = [cell for cell in (prediction.mask, teacher) if cell is not None]
    nothing = "" if any(numbers) else NOTHING
    cells = (
        " ".join(prediction.input.split()),
        prediction.label or nothing,
        *([shown] if shown or not more else []),
        *more,
    )
    typer.echo("\t".join(map(one_line, cells)))


def _ranked(probabilities: Mapping[str, float]) -> str:
    """Return the three most likely names with their probabilities."""
    ranked = sorted(probabilities.items(), key=lambda item: -item[1])[:3]
    return "  ".join(f"{name} {probability:.3f}" for name, probability in ranked)

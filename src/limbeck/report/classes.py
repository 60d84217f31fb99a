"""What a page tells about single classes and examples: gains, confusions, confidence and disagreements."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from limbeck.data import IGNORE_INDEX, Examples
from limbeck.evaluation import Estimate
from limbeck.report.details import Differing
from limbeck.report.drawing import GREY, STUDENT_COLOUR, TEACHER_COLOUR, hide_frame, new_figure
from limbeck.report.shown import show_examples
from limbeck.report.tables import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_ROWS = 20
"""The most classes that the table of gains has."""
CONFUSIONS = 10
"""The most pairs of classes that the table of confusions has."""
DIFFERING = 9
"""The most examples about which the models disagree."""
BINS, FEWEST = 10, 5
"""The groups of the reliability diagram, and the fewest examples of one that is drawn."""


def class_gain_table(
    names: Sequence[str], labels: Tensor, values: Mapping[str, np.ndarray], gain: tuple[str, str]
) -> Table:
    """Make a table of the accuracy in each class, and of what one model gains over another.

    Args:
        names: the names of the classes.
        labels: (N,) integers, of the test examples.
        values: for each model by its name (seeds, N), 1 where it is right and 0 where it is not.
        gain: the names of two models; the gain is that of the first over the second.

    Returns:
        A header, then one row for each class with a test example; of many those with the largest gains and losses.
    """
    first, second = (values[name] for name in gain)
    rows = []
    for number, name in enumerate(names):
        chosen = (labels == number).numpy()
        if chosen.any():
            told = (f"{100 * value[:, chosen].mean():.1f}" for value in values.values())
            difference = _estimate(first[:, chosen] - second[:, chosen])
            error = "" if math.isnan(difference.error) else f" ± {100 * difference.error:.1f}"
            row = (name, f"{int(chosen.sum()):,}", *told, f"{100 * difference.mean:+.1f}{error}")
            rows.append((abs(difference.mean), row))
    largest = sorted(rows, key=lambda row: row[0], reverse=True)[:MOST_ROWS]
    kept = [row for row in rows if row in largest]
    title = "class" if len(kept) == len(rows) else f"class (the {MOST_ROWS} of {len(rows)} that differ most)"
    header = (title, "test examples", *(f"{name}, %" for name in values), f"{gain[0]} over {gain[1]}, points")
    return [header, *(row for _, row in kept)]


def _estimate(differences: np.ndarray) -> Estimate:
    """Return the mean of (seeds, n) differences; for one seed, the error is that of the test examples alone."""
    return Estimate.of(differences[0].tolist()) if len(differences) == 1 else Estimate.of_examples(differences)


def confusion_table(names: Sequence[str], labels: Tensor, decisions: Mapping[str, Tensor]) -> Table:
    """Make a table of the classes that are taken for another one most often.

    Args:
        names: the names of the classes.
        labels: (N,) integers, of the test examples.
        decisions: for each model by its name (N,), the class that it decides. The first model's confusions are listed.

    Returns:
        A header, then one row for each pair; empty if the first model is always right.
    """
    counts = {
        name: Counter(
            (a, b) for a, b in zip(labels.tolist(), decided.tolist(), strict=True) if a not in (b, IGNORE_INDEX)
        )
        for name, decided in decisions.items()
    }
    first = next(iter(counts.values()))
    rows: Table = [("label", "taken for", *(f"{name}, times" for name in counts))]
    for (a, b), _ in first.most_common(CONFUSIONS):
        rows.append((names[int(a)], names[int(b)], *(f"{count[a, b]:,}" for count in counts.values())))
    return rows if len(rows) > 1 else []


def differing_examples(
    examples: Examples, names: Sequence[str], teacher: Tensor, student: Tensor, labels: Tensor | None
) -> list[Differing]:
    """Return the test examples about which student and teacher disagree most certainly.

    Args:
        examples: the N test examples.
        names: the names of the classes.
        teacher: (N, V), the teacher's logits.
        student: (N, V), the student's logits.
        labels: (N,) integers; None if they are not known.

    Returns:
        The examples, the one first on which both models give their own class the highest probabilities.
    """
    (sure, theirs), (own_sure, own) = teacher.softmax(-1).max(-1), student.softmax(-1).max(-1)
    certain = torch.where(theirs != own, sure * own_sure, -1.0)
    rows = certain.argsort(descending=True)[:DIFFERING]
    rows = rows[certain[rows] >= 0]

    def told(decided: Tensor, probability: Tensor, row: int) -> str:
        return f"{names[int(decided[row])]} ({100 * probability[row].item():.0f} %)"

    return [
        Differing(
            one,
            "" if labels is None else names[int(labels[row])],
            told(theirs, sure, row),
            told(own, own_sure, row),
        )
        for one, row in zip(show_examples(examples, rows) if len(rows) else [], rows.tolist(), strict=True)
    ]


def reliability_diagram(labels: Tensor, logits: Mapping[str, Tensor]) -> Figure:
    """Draw the share of right answers against the confidence at T = 1, and how many examples have it.

    Args:
        labels: (N,) integers, of the test examples.
        logits: (N, V) of each model by its name.

    Returns:
        The figure.
    """
    figure = new_figure(6.5, 4.2)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    above.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1)
    for place, ((name, z), colour) in enumerate(zip(logits.items(), (STUDENT_COLOUR, TEACHER_COLOUR), strict=False)):
        sure, decided = z.double().softmax(-1).max(-1)
        right, bin_of = (decided == labels).double(), (sure * BINS).ceil().long().clamp(1, BINS) - 1
        count = torch.bincount(bin_of, minlength=BINS)
        known = count >= FEWEST
        confidence, accuracy = (
            torch.zeros(BINS, dtype=torch.float64).index_add_(0, bin_of, x)[known] / count[known] for x in (sure, right)
        )
        error = (accuracy * (1 - accuracy) / count[known]).sqrt()
        above.errorbar(
            confidence.tolist(), accuracy.tolist(), error.tolist(), color=colour, marker="o", markersize=4, capsize=2,
            label=name,
        )  # fmt: skip
        middles = (torch.arange(BINS) + 0.3 + 0.4 * place) / BINS
        below.bar(middles.tolist(), count.tolist(), 0.36 / BINS, color=colour)
    above.set_ylabel("share of right answers")
    above.set_ylim(0, 1.02)
    above.legend(frameon=False)
    below.set_ylabel("examples")
    below.set_xlabel("confidence at T = 1")
    below.set_xlim(0, 1.02)
    hide_frame(above)
    hide_frame(below)
    return figure

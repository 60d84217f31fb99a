"""Labels that are numbers: read from a column, and standardised by the training examples."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from limbeck.data.examples import Examples, Splits
from limbeck.data.number_format import NumberFormat
from limbeck.errors import DataError


def hold_numbers(tables: dict[str, Any], column: str) -> bool:
    """Return True if a column holds numbers that are no classes: one of the training split has a fraction, or they are lists.

    Args:
        tables: a ``datasets.Dataset`` for each split, one of which is "train".
        column: the column with the labels.
    """
    feature = tables["train"].features[column]
    if not str(getattr(getattr(feature, "feature", feature), "dtype", "")).startswith("float"):
        return False
    if hasattr(feature, "feature"):
        return True
    values = tables["train"].data.column(column).drop_null().to_numpy()
    return bool(((values % 1 != 0) & (values == values)).any())


def encode_numbers(tables: dict[str, Any], column: str) -> tuple[dict[str, Tensor], list[str]]:
    """Return the labels of each split as numbers, and the name of each.

    Args:
        tables: a ``datasets.Dataset`` for each split, one of which is "train".
        column: the column with a number, or a list of numbers, for each example.

    Returns:
        (N, K) float32 for each split, NaN where a number is not known: at an empty cell, and in a split without the column.

    Raises:
        DataError: a cell holds something else, an infinite number, or another number of numbers than the others.
    """
    rows = {split: _rows(table, column, split) for split, table in tables.items()}
    width = next((len(row) for row in rows["train"] if row is not None), 0)
    if not width:
        raise DataError(f"data.label_column: column {column!r} of train has empty cells alone.")
    labels: dict[str, Tensor] = {}
    for split, values in rows.items():
        wrong = next((row for row in values if row is not None and len(row) != width), None)
        if wrong is not None:
            raise DataError(
                f"data.label_column: column {column!r} of {split} holds {len(wrong)} numbers in one row, and {width} in others."
            )
        missing = [math.nan] * width
        labels[split] = torch.tensor([missing if row is None else row for row in values]).reshape(-1, width)
    is_list = hasattr(tables["train"].features[column], "feature")
    return labels, [f"{column}[{i}]" for i in range(width)] if is_list else [column]


def _rows(table: Any, column: str, split: str) -> list[list[float] | None]:
    """Return the numbers of each example, and None for an empty cell."""
    if column not in table.features:
        return [None] * len(table)
    if names := getattr(table.features[column], "names", None):
        raise DataError(
            f"data.label_column: column {column!r} of {split} holds the classes {names[0]!r} and others, not numbers."
        )
    cells = list(table[column])
    if texts := [cell for cell in cells if isinstance(cell, str)]:  # one text makes texts of all numbers of a CSV file
        cells = [next((text for text in texts if not _is_finite(text)), texts[0])]
    return [None if cell is None else _numbers(cell, column, split) for cell in cells]


def _is_finite(text: str) -> bool:
    """Return True if a text is a finite number."""
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _numbers(cell: Any, column: str, split: str) -> list[float]:
    """Return one cell as a list of numbers."""
    numbers = [math.nan if number is None else number for number in (cell if isinstance(cell, list) else [cell])]
    wrong = [n for n in numbers if isinstance(n, bool) or not isinstance(n, int | float) or math.isinf(n)]
    if wrong:
        raise DataError(
            f"data.label_column: column {column!r} of {split} holds {wrong[0]!r}. Finite numbers are expected."
        )
    return [float(number) for number in numbers]


def standardise_numbers(splits: Splits) -> Splits:
    """Return splits whose labels are standardised by the labelled training examples, where the labels are numbers.

    A model then learns numbers of one size whatever their unit. ``preprocessing.target`` turns its outputs back.

    Args:
        splits: the examples, before labels are hidden.

    Raises:
        DataError: all labels are one number.
    """
    if splits.task != "regression":
        return splits
    known = splits.true_labels[splits.train.labelled].double()
    std, mean = torch.std_mean(known, 0, correction=0)
    if bool((std == 0).any()):
        name = splits.label_names[int((std == 0).nonzero()[0])]
        raise DataError(
            f"data.label_column: {name!r} is the same number in all training examples, so nothing can be learned."
        )
    target = NumberFormat(mean.tolist(), std.tolist())

    def converted(part: Examples) -> Examples:
        return part.with_labels(target(part.labels))

    return replace(
        splits,
        train=converted(splits.train),
        validation=converted(splits.validation),
        test=converted(splits.test),
        true_labels=target(splits.true_labels),
        preprocessing=replace(splits.preprocessing, target=target),
    )

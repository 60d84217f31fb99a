"""Labels: from a column of names, numbers or class labels to numbers from 0 that mean the same in every split."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from limbeck.data.examples import IGNORE_INDEX, WITHOUT_CLASSES, known_rows
from limbeck.errors import DataError

NO_LABEL = (-1, IGNORE_INDEX)
"""The numbers that stand for an unlabelled example: -1 in the data sets of the Hugging Face hub, -100 in PyTorch."""
SHOWN = 8
"""The most class names that a message shows."""


def encode_labels(tables: dict[str, Any], column: str) -> tuple[dict[str, Tensor], list[str]]:
    """Return the labels of each split as numbers, and the names of the classes.

    The order of the classes is that of the training split: of its ``ClassLabel``, or else sorted. Labels of another split are
    brought into this order by their names. Empty cells and -1 are examples without a label, and so is a split without the
    column. In a training split whose only labels are -1 and 1, both are classes.

    Args:
        tables: a ``datasets.Dataset`` for each split, one of which is "train".
        column: the column with the labels.

    Returns:
        (N,) int64 for each split, ``IGNORE_INDEX`` where there is no label; and the name of each class.

    Raises:
        DataError: a split has a label that the training split lacks, the classes of two splits cannot be compared, there are
            fewer than two classes, or the column holds numbers or lists that are no classes.
    """
    named = _class_names(tables["train"], column)
    names = named or _names_of(_plain_values(tables["train"], column, "train", (IGNORE_INDEX,)))
    no_label = NO_LABEL
    if "-1" in names and (named or names == ["-1", "1"]):
        no_label = (IGNORE_INDEX,)
    plain = {split: _plain_values(table, column, split, no_label) for split, table in tables.items()}
    names = named or _names_of(plain["train"])
    if len(names) < 2:
        found = f"has one class only, {names[0]!r}" if names else "has empty cells alone"
        raise DataError(f"data.label_column: column {column!r} of train {found}. Two classes or more are needed.")
    numbers = {name: number for number, name in enumerate(names)}
    are_numbers = all(name.lstrip("-").isdigit() for name in names)
    labels: dict[str, Tensor] = {}
    for split, values in plain.items():
        if named and not _class_names(tables[split], column) and not are_numbers:
            _check_that_names_are_given(values, split, names)
        unknown = next((value for value in values if value is not None and str(value) not in numbers), None)
        if unknown is not None:
            raise DataError(
                f"data.label_column: {split} has the label {unknown!r}, which train lacks. train has {shown_names(names)}."
            )
        labels[split] = torch.tensor(
            [IGNORE_INDEX if value is None else numbers[str(value)] for value in values], dtype=torch.long
        )
    return labels, names


def are_lists(tables: dict[str, Any], column: str) -> bool:
    """Return True if a column holds a list of classes for each example.

    Args:
        tables: a ``datasets.Dataset`` for each split, one of which is "train".
        column: the column with the labels.
    """
    return hasattr(tables["train"].features.get(column), "feature")


def encode_label_lists(tables: dict[str, Any], column: str) -> tuple[dict[str, Tensor], list[str]]:
    """Return the labels of each split, where an example has several classes or none, and the names of the classes.

    The classes are those of the training split: of its ``ClassLabel``, or else sorted. An empty list is an example that has no
    class. An empty cell is an example whose classes are not known, and so is a split without the column.

    Args:
        tables: a ``datasets.Dataset`` for each split, one of which is "train".
        column: the column with a list of classes for each example.

    Returns:
        (N, C) float32 for each split: 1 for each class of an example, 0 for the others, ``IGNORE_INDEX`` where that is not
        known; and the name of each class.

    Raises:
        DataError: a split has a class that the training split lacks, or the lists hold no classes.
    """
    lists = {split: _lists_of_names(table, column, split) for split, table in tables.items()}
    declared = getattr(tables["train"].features[column].feature, "names", None)
    found = {name for row in lists["train"] for name in row or ()}
    names = list(declared or sorted(found, key=int if all(name.isdigit() for name in found) else None))
    if not names:
        raise DataError(f"data.label_column: the lists in column {column!r} of train name no class.")
    numbers = {name: number for number, name in enumerate(names)}
    labels: dict[str, Tensor] = {}
    for split, rows in lists.items():
        labels[split] = torch.zeros(len(rows), len(names))
        for i, row in enumerate(rows):
            unknown = next((name for name in row or () if name not in numbers), None)
            if unknown is not None:
                raise DataError(
                    f"data.label_column: {split} has the label {unknown!r}, which train lacks. train has {shown_names(names)}."
                )
            labels[split][i, [numbers[name] for name in row or ()]] = 1
            if row is None:
                labels[split][i] = IGNORE_INDEX
    return labels, names


def _lists_of_names(table: Any, column: str, split: str) -> list[list[str] | None]:
    """Return the names of the classes of each example, and None for an empty cell."""
    if column not in table.features:
        return [None] * len(table)
    inner = getattr(table.features[column], "feature", None)
    named = list(getattr(inner, "names", None) or ())
    if str(getattr(inner, "dtype", "")).startswith(("float", "list")) or hasattr(inner, "feature"):
        raise DataError(
            f"data.label_column: the lists in column {column!r} of {split} hold no names or numbers of classes."
        )
    rows = list(table[column])
    odd = next((i for i, row in enumerate(rows) if any(x is None or not str(x).strip() for x in row or ())), None)
    if odd is not None:
        raise DataError(
            f"data.label_column: row {odd} of {split} has a list in column {column!r} with an entry that is empty: "
            f"{rows[odd]!r}. Leave the entry out; for an example of which nothing is known, leave the whole cell empty."
        )
    return [None if row is None else [str(named[i] if named else i) for i in row] for row in rows]


def notes_on_labels(labels: dict[str, Tensor], names: Sequence[str], task: str) -> list[str]:
    """Return a sentence for each split with examples that have no label.

    Args:
        labels: what ``encode_labels`` returned for each split.
        names: the names of the classes.
        task: what the labels are for.
    """
    notes, marks = [], "" if task in WITHOUT_CLASSES else ", or -1"
    for split, values in labels.items():
        count = int((~known_rows(values, task)).sum())
        if count:
            doubt = " If -1 is a class here, give it a name." if sorted(names) == ["0", "1"] else ""
            notes.append(f"{count} of {len(values)} examples of {split} have no label (an empty cell{marks}).{doubt}")
    return notes


def _class_names(table: Any, column: str) -> list[str] | None:
    """Return the names of a ``ClassLabel`` column; None for other columns, and where there is no such column."""
    names = getattr(table.features.get(column), "names", None)
    return None if names is None else list(names)


def _plain_values(table: Any, column: str, split: str, no_label: Sequence[int]) -> list[Any]:
    """Return the class of each example by its name or number, and None where it has no label."""
    if column not in table.features:
        return [None] * len(table)
    values, names = list(table[column]), _class_names(table, column)
    if names is None:
        return [_plain(value, column, split, no_label) for value in values]
    by_number: dict[Any, Any] = {**dict(enumerate(names)), None: None, **dict.fromkeys(NO_LABEL)}
    wrong = next((value for value in values if value not in by_number), None)
    if wrong is not None:
        raise DataError(f"data.label_column: {split} has the label {wrong}, and its column {len(names)} classes.")
    return [by_number[value] for value in values]


def _plain(value: Any, column: str, split: str, no_label: Sequence[int]) -> Any:
    """Return one cell of a column without class names: a bool, an int or a text; None if it says that there is no label."""
    if isinstance(value, float):
        if math.isnan(value):
            return None
        if not value.is_integer():
            raise DataError(
                f"data.label_column: column {column!r} of {split} holds numbers such as {value:g}, which are no "
                "classes. If they are what a model should predict, set task: regression."
            )
        value = int(value)  # a column of integers with empty cells is read as floats
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if not isinstance(value, bool | int | str):
        raise DataError(
            f"data.label_column: column {column!r} of {split} holds {type(value).__name__}, expected a class for each example."
        )
    return None if str(value) in map(str, no_label) else value


def _names_of(values: Sequence[Any]) -> list[str]:
    """Return the names of the different classes among some values, sorted."""
    classes = sorted({value for value in values if value is not None}, key=lambda value: (str(type(value)), value))
    return [str(value) for value in classes]


def _check_that_names_are_given(values: Sequence[Any], split: str, names: Sequence[str]) -> None:
    """Refuse plain numbers in a split, where the training split has named classes: which number is which is not known."""
    number = next((value for value in values if isinstance(value, int) and str(value) not in names), None)
    if number is not None:
        raise DataError(
            f"data.label_column: {split} has plain numbers such as {number}, where train has named classes "
            f"({shown_names(names)}). Which number is which class is not known: write the names, or the same ClassLabel, "
            "into the column."
        )


def shown_names(names: Sequence[str]) -> str:
    """Return the names as they stand in a message, a long list cut short.

    Args:
        names: of classes.
    """
    shown = ", ".join(map(repr, names[:SHOWN]))
    return shown if len(names) <= SHOWN else f"{shown} and {len(names) - SHOWN} more"

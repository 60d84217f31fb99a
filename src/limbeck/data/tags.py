"""Tags: from a column with a list for each example to a number for each word, which means the same in every split."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from limbeck.data.examples import IGNORE_INDEX
from limbeck.data.labels import NO_LABEL, shown_names
from limbeck.data.words import Tags
from limbeck.errors import DataError


def encode_tags(
    tables: dict[str, Any], words: str, column: str
) -> tuple[dict[str, Tensor], list[str], dict[str, Tags]]:
    """Return the tags of each split as numbers, and the names of the classes.

    The classes are those of the training split: of its ``ClassLabel``, or else sorted. An empty cell, or a split without the
    column, is an example without tags. None, -1 and -100 are a word without one.

    Args:
        tables: a ``datasets.Dataset`` for each split, one of which is "train".
        words: the column with the words.
        column: the column with a tag for each word.

    Returns:
        (N,) int64 for each split, 0 for an example with tags and ``IGNORE_INDEX`` for one without; the names of the classes;
        and the tags of each split.

    Raises:
        DataError: a row has not one tag for each word, a split has a tag that the training split lacks, or there are fewer
            than two.
    """
    named = {split: _names_of_rows(table, column) for split, table in tables.items()}
    for split, rows in named.items():
        lengths = zip(rows, tables[split][words] if words in tables[split].features else rows, strict=True)
        wrong = next(
            (i for i, (tags, row) in enumerate(lengths) if tags is not None and len(tags) != len(row or ())), None
        )
        if wrong is not None:
            raise DataError(f"data.label_column: row {wrong} of {split} has not one tag for each of its words.")
    declared = getattr(tables["train"].features[column].feature, "names", None)
    found = {name for row in named["train"] for name in row or () if name is not None}
    names = list(declared or sorted(found, key=int if all(name.isdigit() for name in found) else None))
    if len(names) < 2:
        raise DataError(f"data.label_column: column {column!r} of train has {len(names)} tags. Two or more are needed.")
    numbers = {None: IGNORE_INDEX, **{name: number for number, name in enumerate(names)}}
    for split, rows in named.items():
        unknown = next((name for row in rows for name in row or () if name not in numbers), None)
        if unknown is not None:
            raise DataError(
                f"data.label_column: {split} has the tag {unknown!r}, which train lacks. train has {shown_names(names)}."
            )
    tags = {
        split: [None if row is None else [numbers[name] for name in row] for row in rows]
        for split, rows in named.items()
    }
    labels = {split: torch.tensor([IGNORE_INDEX if row is None else 0 for row in rows]) for split, rows in tags.items()}
    return labels, names, tags


def _names_of_rows(table: Any, column: str) -> list[list[str | None] | None]:
    """Return the name of the tag of each word, None for a word without one; and None for an example without tags."""
    if column not in table.features:
        return [None] * len(table)
    named = list(getattr(getattr(table.features[column], "feature", None), "names", None) or ())

    def name(tag: Any) -> str | None:
        return None if tag is None or tag in NO_LABEL else str(named[tag] if named else tag)

    return [None if row is None else [name(tag) for tag in row] for row in table[column]]

"""Groups of examples that belong together, such as those of one patient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def number_groups(column: str, train: Any, more: Any = None) -> Tensor:
    """Return the number of the group of each training example: (N,) int64.

    An example whose cell is empty is a group of its own.

    Args:
        column: the column of ``train`` that names the group.
        train: the training examples, a ``datasets.Dataset``.
        more: the data set that comes after them, if there is one. It may lack the column.
    """
    cells = list(train[column])
    if more is not None:
        cells += list(more[column]) if column in more.features else [None] * len(more)
    numbers: dict[Any, int] = {}
    names = ((row,) if cell is None or cell != cell else cell for row, cell in enumerate(cells))
    return torch.tensor([numbers.setdefault(name, len(numbers)) for name in names])


def notes_on_groups(column: str, tables: dict[str, Any]) -> list[str]:
    """Return a sentence for each other split that shares groups with the training split.

    Args:
        column: the column that names the group.
        tables: a ``datasets.Dataset`` for each split, one of which is "train".
    """
    ours, notes = set(tables["train"][column]) - {None}, []
    for split, table in tables.items():
        shared = ours & set(table[column]) if split != "train" and column in table.features else set()
        if shared:
            example = min(map(str, shared))
            notes.append(
                f"Groups of {split} that are in train too: {len(shared)}, such as {example}. Results may be too good."
            )
    return notes

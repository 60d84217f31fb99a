"""From the rows of a data set to the batches that the trainer reads, in the few forms that people use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import DataCollatorWithPadding, default_data_collator

from limbeck.errors import ArgumentTypeError
from limbeck.losses import IGNORE_INDEX

INPUT = "x"
"""The name of the input of a row that is a pair. A model is given a single input by position, so any name would do."""


class Collate:
    """A data collator whose batches are dictionaries with ``labels`` in -100 and inputs in the dtype of the student.

    Args:
        collate: the user's collator or Transformers' own.
        label_column: the column of the labels, if it has another name than ``labels``.
        ignore_index: a label that stands for no label, beside -100.
        dtype: the dtype that inputs in float64 are converted to; None leaves them.
    """

    def __init__(
        self,
        collate: Callable[[list[Any]], Any],
        *,
        label_column: str | None = None,
        ignore_index: int = IGNORE_INDEX,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.collate, self.label_column, self.ignore_index, self.dtype = collate, label_column, ignore_index, dtype

    def __call__(self, rows: list[Any]) -> dict[str, Any]:
        """Return the batch of some rows.

        Raises:
            ArgumentTypeError: the collator returns something that is no batch.
        """
        is_theirs = self.collate is default_data_collator or isinstance(self.collate, DataCollatorWithPadding)
        if is_theirs and isinstance(rows, Mapping):  # a data set that returns whole batches, as ``Examples``
            batch = rows
        else:
            are_pairs = is_theirs and len(rows) > 0 and not isinstance(rows[0], Mapping)
            batch = self.collate([_named(row) for row in rows] if are_pairs else rows)
        batch = _named(batch)
        if not isinstance(batch, Mapping):
            raise ArgumentTypeError(
                "data_collator",
                f"expected a dictionary of tensors, or a pair (inputs, labels), got {type(batch).__name__}.",
            )
        named = dict(batch)
        for name in (self.label_column, "label", "label_ids"):
            if name in named and "labels" not in named:
                named["labels"] = named.pop(name)
        return {name: self._as_read(name, value) for name, value in named.items()}

    def _as_read(self, name: str, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        is_probability = value.is_floating_point() and self.ignore_index in (0, 1)
        if name == "labels" and self.ignore_index != IGNORE_INDEX and not is_probability:
            return torch.where(value == self.ignore_index, IGNORE_INDEX, value)
        return (
            value.to(self.dtype)
            if value.dtype == torch.float64 and self.dtype is not None and name != "labels"
            else value
        )


def _named(value: Any) -> Any:
    """Return a pair (inputs, labels) as a dictionary, and anything else as it is."""
    if isinstance(value, tuple | list) and len(value) == 2:
        return {INPUT: value[0], "labels": value[1]}
    return value

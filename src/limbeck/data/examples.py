"""A set of examples: labels, and a function that loads the inputs of some rows as one batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from limbeck.data.preprocessing import Inputs
from limbeck.models import DataShape

IGNORE_INDEX = -100

LoadRows = Callable[[list[int]], dict[str, Any]]


class Examples(Dataset[dict[str, Any]]):
    """Labels in memory, inputs loaded a batch at a time.

    A batch has the inputs, ``labels`` and ``example_id``, the row number that stays the same in every subset.

    A ``DataLoader`` asks it for whole batches, which come ready to be fed to a model; give it ``identity_collate`` for
    ``collate_fn``.

    Args:
        load: maps row numbers to a batch of inputs, such as ``{"pixel_values": (N, C, H, W)}``.
        labels: (rows,) integers; ``IGNORE_INDEX`` for an example without one.
        rows: which of the loader's rows these examples are; by default as many as there are labels.
    """

    def __init__(self, load: LoadRows, labels: Tensor, rows: Tensor | None = None) -> None:
        self.load = load
        self.labels = labels.long()
        self.rows = torch.arange(len(labels)) if rows is None else rows

    def __len__(self) -> int:
        return len(self.labels)

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Any]:
        chosen = torch.as_tensor(indices, dtype=torch.long)
        rows = self.rows[chosen]
        return {**self.load(rows.tolist()), "labels": self.labels[chosen], "example_id": rows}

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return {name: value[0] for name, value in self.__getitems__([index]).items()}

    def subset(self, indices: Tensor) -> Examples:
        """The examples at ``indices``, in that order."""
        return Examples(self.load, self.labels[indices], self.rows[indices])

    def with_labels(self, labels: Tensor) -> Examples:
        """The same inputs with other labels."""
        if len(labels) != len(self):
            raise ValueError(f"labels: expected one for each of {len(self)} examples, got {len(labels)}.")
        return Examples(self.load, labels, self.rows)

    def all(self) -> dict[str, Any]:
        """Everything as one batch."""
        return self.__getitems__(range(len(self)))


def identity_collate(batch: Any) -> Any:
    """The ``collate_fn`` for ``Examples``, whose batches are ready."""
    return batch


class TensorRows:
    """Loads rows of a tensor that is in memory."""

    def __init__(self, name: str, values: Tensor) -> None:
        self.name, self.values = name, values

    def __call__(self, rows: list[int]) -> dict[str, Any]:
        return {self.name: self.values[rows]}


@dataclass(frozen=True)
class Splits:
    """Training, validation and test examples, kept apart: choices are made on validation, results told on test.

    In ``train`` the examples whose label was hidden carry ``IGNORE_INDEX``; ``true_labels`` has them all, for a teacher that
    is trained on them.
    """

    train: Examples
    validation: Examples
    test: Examples
    shape: DataShape
    inputs: Inputs
    true_labels: Tensor
    notes: list[str] = field(default_factory=list)
    """What was decided for the user, such as a validation set carved out of training."""

    @property
    def label_names(self) -> list[str]:
        """What the classes are called."""
        return self.inputs.label_names

    @property
    def labelled(self) -> Tensor:
        """bool (train,), True where the label is known."""
        return self.train.labels != IGNORE_INDEX

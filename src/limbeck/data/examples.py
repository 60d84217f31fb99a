"""What a data set becomes: labels in memory, with inputs that are loaded a batch at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.utils.data import Dataset

from limbeck.data.preprocessing import Preprocessing
from limbeck.errors import ArgumentError, DataError
from limbeck.losses import IGNORE_INDEX
from limbeck.models import DataShape

WITHOUT_CLASSES = ("regression", "embeddings")
"""The tasks whose labels are numbers, any of which may be true: what is not known is NaN."""

LoadRows = Callable[[list[int]], dict[str, Any]]
"""A function from row numbers of a data set to a batch of inputs, such as ``{"pixel_values": (N, C, H, W)}``."""


@runtime_checkable
class HasSourceBytes(Protocol):
    """A loader that can tell the bytes which an input is loaded from, where they are cheaper to read than to decode."""

    def source_bytes(self, rows: list[int]) -> Iterable[bytes]:
        """Yield the bytes that the input of each row is loaded from, such as an image file's.

        Args:
            rows: row numbers of the data set, ascending.
        """
        ...


class _Batch(dict[str, Any]):
    """A whole batch, which says what it is where somebody takes it for a list of rows."""

    def __missing__(self, key: Any) -> Any:
        if isinstance(key, int):
            raise DataError(
                "collate_fn: Examples return whole batches, and the default function joins rows. Give the DataLoader "
                "collate_fn=limbeck.data.identity_collate."
            )
        raise KeyError(key)


class Examples(Dataset[dict[str, Any]]):
    """A data set with labels in memory, whose inputs are loaded a batch at a time.

    A batch has the inputs, ``labels`` and ``example_id``. The id of an example is its row number in the data set that was read;
    it stays the same in every subset. A ``DataLoader`` asks for whole batches, which can be fed to a model as they are: give it
    ``collate_fn=identity_collate``.

    Where an example has a label for each pixel or token, the loader returns these ``labels`` with the inputs, and ``mask``,
    True at the positions that can have one. Here is then kept which examples are labelled.

    Args:
        load: a function from row numbers to a batch of inputs, such as ``TensorRows``.
        labels: (N,) integers, or (N, C) floats with 1 for each class of an example and 0 for the others; ``IGNORE_INDEX`` for
            an example without a label. In regression (N, K) floats, NaN for an example without a label; of embeddings (N, 0).
            If the loader returns labels, any number but ``IGNORE_INDEX`` says that they are known.
        ids: (N,) int64, the row number of each example; by default 0 to N - 1.
        task: what the labels are for: the name of one of ``limbeck.tasks.TASKS``.
    """

    def __init__(
        self, load: LoadRows, labels: Tensor, ids: Tensor | None = None, *, task: str = "classification"
    ) -> None:
        self.load = load
        self.labels = labels if labels.is_floating_point() else labels.long()
        self.task = task
        self.ids = torch.arange(len(labels)) if ids is None else ids

    def __len__(self) -> int:
        return len(self.labels)

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Any]:
        chosen = torch.as_tensor(indices, dtype=torch.long)
        ids = self.ids[chosen]
        batch = self.load(ids.tolist())
        if "labels" not in batch:
            return _Batch(batch, labels=self.labels[chosen], example_id=ids)
        known = self.labelled[chosen].reshape(-1, *[1] * (batch["labels"].dim() - 1))
        labels = torch.where(known, batch["labels"], IGNORE_INDEX)
        # where an example has no label, all of its positions learn from the teacher
        mask = batch["mask"] & ((labels != IGNORE_INDEX) | ~known)
        return _Batch(batch, labels=labels, mask=mask, example_id=ids)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return {name: value[0] for name, value in self.__getitems__([index]).items()}

    @property
    def labelled(self) -> Tensor:
        """Return a bool tensor (N,), True where the label is known."""
        return known_rows(self.labels, self.task)

    @property
    def tokenizer(self) -> Any:
        """Return the tokenizer that made the token ids of texts; None where it is not known, or the inputs are not texts."""
        return getattr(self.load, "tokenizer", None)

    def subset(self, indices: Tensor) -> Examples:
        """Return some of the examples; they keep their ids.

        Args:
            indices: positions in this data set, in the order that is wanted.

        Returns:
            The examples at these positions.
        """
        return Examples(self.load, self.labels[indices], self.ids[indices], task=self.task)

    def with_labels(self, labels: Tensor) -> Examples:
        """Return the same examples with other labels.

        Args:
            labels: as those of the constructor.

        Returns:
            Examples with the same inputs and ids.

        Raises:
            ArgumentError: there is not one label for each example.
        """
        if len(labels) != len(self):
            raise ArgumentError("labels", f"expected one for each of {len(self)} examples, got {len(labels)}.")
        return Examples(self.load, labels, self.ids, task=self.task)

    def drawn_anew(self) -> Examples:
        """Return the same examples for training: what is random in them, such as masked tokens, is drawn anew each time."""
        draw = getattr(self.load, "drawn_anew", None)
        return self if draw is None else Examples(draw(), self.labels, self.ids, task=self.task)

    def begin_epoch(self, seed: int, epoch: int) -> None:
        """Draw what is random in the examples of an epoch, such as masked tokens, by its number and the seed of the run.

        Args:
            seed: the seed of the run.
            epoch: the number of the epoch, from 0 on.
        """
        if (begin := getattr(self.load, "begin_epoch", None)) is not None:
            begin(seed, epoch)

    def with_decisions(self, decisions: Mapping[int, Tensor]) -> Examples:
        """Return the same examples, all labelled: those without a label with what a teacher decided.

        Args:
            decisions: by the id of an example, the class of each of its positions that count.

        Returns:
            Examples with the same inputs and ids.
        """
        unlabelled = set(self.ids[~self.labelled].tolist())
        load = DecidedLabels(self.load, {number: row for number, row in decisions.items() if number in unlabelled})
        return Examples(load, torch.zeros_like(self.labels), self.ids, task=self.task)

    def as_one_batch(self) -> dict[str, Any]:
        """Return all examples as one batch."""
        return self.__getitems__(range(len(self)))


def missing_label(task: str) -> float:
    """Return what stands for a label that is not known.

    Args:
        task: the name of one of ``limbeck.tasks.TASKS``.
    """
    return math.nan if task in WITHOUT_CLASSES else IGNORE_INDEX


def known_rows(labels: Tensor, task: str) -> Tensor:
    """Return a bool tensor (N,), True at the examples that have a label: some class of several, or all numbers.

    Args:
        labels: as those of ``Examples``.
        task: what they are for.
    """
    if task in WITHOUT_CLASSES:
        return ~labels.isnan().any(-1)
    known = labels != IGNORE_INDEX
    return known if known.dim() == 1 else known.any(-1)


def identity_collate(batch: Any) -> Any:
    """Return the batch as it is: the ``collate_fn`` of a ``DataLoader`` of ``Examples``, which make whole batches.

    Args:
        batch: what ``Examples`` returned.

    Returns:
        The same object.
    """
    return batch


class DecidedLabels:
    """A loader that puts what a teacher decided in the place of the labels of some rows.

    Args:
        load: a loader that returns ``labels`` and ``mask``.
        decisions: by the row, the class of each position in ``mask``.
    """

    def __init__(self, load: LoadRows, decisions: Mapping[int, Tensor]) -> None:
        self.load, self.decisions = load, decisions

    def __call__(self, rows: list[int]) -> dict[str, Any]:
        batch = self.load(rows)
        labels = batch["labels"].clone()
        for place, row in enumerate(rows):
            if row in self.decisions:
                labels[place][batch["mask"][place]] = self.decisions[row].to(labels.dtype)
        return {**batch, "labels": labels}


class TensorRows:
    """A loader of rows of a tensor in memory, for ``Examples``.

    Args:
        name: the name of the input, as the model's forward calls it.
        values: (rows, ...) the input of every row.

    Example:
        >>> examples = Examples(TensorRows("pixel_values", torch.zeros(5, 1, 8, 8)), torch.arange(5))
        >>> examples[2]["pixel_values"].shape
        torch.Size([1, 8, 8])
    """

    def __init__(self, name: str, values: Tensor) -> None:
        self.name, self.values = name, values

    def __call__(self, rows: list[int]) -> dict[str, Any]:
        return {self.name: self.values[rows]}


@dataclass
class Source:
    """A data set as it was read, before it is split and before labels are hidden."""

    splits: dict[str, Examples]
    """The splits that the data set has: "train", and perhaps "validation" and "test"."""
    shape: DataShape
    """The number of classes and the size of an image."""
    preprocessing: Preprocessing
    """How a new image or text becomes a batch."""
    notes: list[str] = field(default_factory=list)
    """What was decided for the user."""
    groups: Tensor | None = None
    """(train,) int64, the number of the group of each training example; None where examples do not belong together."""


@dataclass(frozen=True)
class Splits:
    """Training, validation and test examples, kept apart: choices are made on validation, results are reported on test."""

    train: Examples
    """The training examples. An example without a label, or whose label was hidden, has the label ``IGNORE_INDEX``."""
    validation: Examples
    """The validation examples, all labelled."""
    test: Examples
    """The test examples: all labelled, or none of them (``has_test_labels``)."""
    shape: DataShape
    """The number of classes and the size of an image, which a model is built for."""
    preprocessing: Preprocessing
    """How a new image or text becomes a batch; it is saved beside a student."""
    true_labels: Tensor
    """(train,) int64, every training label, also the hidden ones: a teacher is trained on them. ``IGNORE_INDEX`` for an example
    that has none in the data set itself."""
    notes: list[str] = field(default_factory=list)
    """What was decided for the user, such as a validation set drawn from the training examples."""

    @property
    def label_names(self) -> list[str]:
        """Return the names of the classes."""
        return self.preprocessing.label_names

    @property
    def output_names(self) -> list[str]:
        """Return the names of the classes; of numbers with their unit, as a store keeps them."""
        target = self.preprocessing.target
        if target is None:
            return self.label_names
        units = zip(self.label_names, target.mean, target.std, strict=True)
        return [f"{name} (standardised by {mean:.6g} and {std:.6g})" for name, mean, std in units]

    @property
    def task(self) -> str:
        """Return what the labels are for: the name of one of ``limbeck.tasks.TASKS``."""
        return self.train.task

    @property
    def labelled(self) -> Tensor:
        """Return a bool tensor (train,), True where the label is known."""
        return self.train.labelled

    @property
    def has_test_labels(self) -> bool:
        """Return True if the test examples have labels; if not, students can be compared with the teacher alone."""
        return bool(self.test.labelled.any())

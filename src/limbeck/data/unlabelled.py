"""A transfer set of the user's own: training examples without labels, out of another data set."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from limbeck.data.examples import missing_label
from limbeck.data.table_files import TEXT_TYPES
from limbeck.errors import DataError


def join_unlabelled(train: Any, more: Any, columns: list[str]) -> Any:
    """Put the examples of another data set after the training examples.

    Args:
        train: the training examples, a ``datasets.Dataset``.
        more: the other data set.
        columns: the columns of the inputs.

    Returns:
        A ``datasets.Dataset`` of these columns.

    Raises:
        DataError: the other data set lacks a column, or has something else in it.
    """
    import datasets
    import pyarrow

    features = {name: _common_feature(name, train.features, more.features) for name in columns}
    parts = []
    for part in (train, more):
        try:
            parts.append(part.select_columns(columns).cast(datasets.Features(features)))
        except (pyarrow.ArrowException, ValueError, TypeError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise DataError(f"data.unlabelled: its columns do not fit the training examples: {reason}") from None
    return datasets.concatenate_datasets(parts)


def with_unlabelled(labels: Tensor, more: int, task: str) -> Tensor:
    """Return labels with those of examples without a label after them.

    Args:
        labels: (N,), or (N, C) where an example has several labels.
        more: how many examples without a label there are.
        task: what the labels are for.
    """
    return torch.cat([labels, labels.new_full((more, *labels.shape[1:]), missing_label(task))])


def _common_feature(name: str, ours: Any, theirs: Any) -> Any:
    """Return the type that holds a column of both data sets."""
    import datasets

    if name not in theirs:
        raise DataError(f"data.unlabelled: no column {name!r}; there are {', '.join(theirs)}.")
    here, there = _kind(ours[name]), _kind(theirs[name])
    if ours[name] == theirs[name] or there == "null" or (here, there) == ("Image", "texts"):
        return ours[name]
    if here == there == "numbers":
        return datasets.Value("float64")
    if here != there or here == "ClassLabel":
        raise DataError(f"data.unlabelled: column {name!r} holds {there}, and that of the training examples {here}.")
    return ours[name]


def _kind(feature: Any) -> str:
    """Return what a column holds: texts, numbers, null for nothing at all, or else the name of its type."""
    if type(feature).__name__ != "Value":
        return type(feature).__name__
    if feature.dtype in TEXT_TYPES:
        return "texts"
    is_number = feature.dtype.startswith(("int", "uint", "float", "decimal", "bool"))
    return "numbers" if is_number else feature.dtype

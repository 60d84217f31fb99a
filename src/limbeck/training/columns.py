"""Which columns of a data set the models can use."""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn

ALWAYS_KEPT = frozenset({"labels", "label", "label_ids", "mask", "example_id"})
"""Columns that no model's ``forward`` takes and that targets or teachers need."""


def drop_unused_columns(dataset: Any, models: list[nn.Module | None]) -> Any:
    """Return a ``datasets.Dataset`` without the columns that no model takes.

    The Trainer does the same, but for its one model only.

    Args:
        dataset: a ``datasets.Dataset``, or a dictionary of them. Any other data set is returned as it is.
        models: the student and the teacher; None for a teacher whose inputs are not known.

    Returns:
        The data set with the columns that a model's ``forward`` names and those in ``ALWAYS_KEPT``. It keeps all of its
        columns if no model names any of them, since a single input is passed by position.
    """
    if isinstance(dataset, dict):
        return {name: drop_unused_columns(part, models) for name, part in dataset.items()}
    columns = getattr(dataset, "column_names", None)
    if not columns or not hasattr(dataset, "remove_columns"):
        return dataset
    taken = {name for model in models if model is not None for name in inspect.signature(model.forward).parameters}
    if not taken & set(columns):
        return dataset
    return dataset.remove_columns([name for name in columns if name not in taken | ALWAYS_KEPT])

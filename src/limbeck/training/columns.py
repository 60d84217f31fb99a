"""Which columns of a data set the models can use."""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn

KEPT = frozenset({"labels", "label", "label_ids", "mask", "example_id"})


def drop_unused_columns(dataset: Any, models: list[nn.Module | None]) -> Any:
    """Drop the columns of a ``datasets.Dataset`` that neither model takes, as the Trainer does for its one model.

    Other data sets, and models whose forward names none of the columns, are left alone.
    """
    if isinstance(dataset, dict):
        return {name: drop_unused_columns(part, models) for name, part in dataset.items()}
    columns = getattr(dataset, "column_names", None)
    if not columns or not hasattr(dataset, "remove_columns"):
        return dataset
    taken = {name for model in models if model is not None for name in inspect.signature(model.forward).parameters}
    if not taken & set(columns):
        return dataset
    return dataset.remove_columns([name for name in columns if name not in taken | KEPT])

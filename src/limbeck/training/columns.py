"""Which columns of a data set the models can use."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from torch import nn

from limbeck.models.forward import input_names
from limbeck.teachers import Teacher

ALWAYS_KEPT = frozenset({"labels", "label", "label_ids", "mask", "example_id"})
"""Columns that no model's ``forward`` takes and that targets or teachers need."""


def drop_unused_columns(
    dataset: Any, student: nn.Module, teacher: Teacher | None, *, also_kept: Collection[str] = ()
) -> Any:
    """Return a data set of ``datasets`` without the columns that neither model takes.

    The Trainer does the same, but for its one model only.

    Args:
        dataset: a ``datasets.Dataset``, or a streaming ``IterableDataset``. Any other data set is returned as it is.
        student: the model that is trained.
        teacher: its teacher. If its ``columns`` are not known, all columns are kept that do not hold text.
        also_kept: more names that are kept, as that of the labels.

    Returns:
        The data set with the columns that the student's ``forward`` names, those of the teacher, and ``ALWAYS_KEPT``. It keeps
        all of its columns if the student names none of them, since a single input is passed by position.
    """
    if not hasattr(dataset, "remove_columns") or not hasattr(dataset, "column_names"):
        return dataset
    features = dataset.features or next(iter(dataset.take(1)), None)  # a stream may not know its columns beforehand
    unused = unused_columns(features or {}, student, teacher, also_kept=also_kept)
    return dataset.remove_columns(unused) if unused else dataset


def unused_columns(
    columns: Mapping[str, Any], student: nn.Module, teacher: Teacher | None, *, also_kept: Collection[str] = ()
) -> list[str]:
    """Return the names of the columns that ``drop_unused_columns`` drops.

    Args:
        columns: the names, each with what ``datasets`` knows about it or with a value of it.
        student: as in ``drop_unused_columns``, and so are the others.
        teacher: the teacher.
        also_kept: more names that are kept.
    """
    taken = input_names(student)
    if not taken & set(columns):
        return []
    kept = taken | ALWAYS_KEPT | set(also_kept)
    read = set() if teacher is None else teacher.columns
    return [
        name
        for name, what in columns.items()
        if name not in kept and (_is_text(what) if read is None else name not in read)
    ]


def teacher_only_columns(dataset: Any, student: nn.Module, teacher: Teacher | None) -> frozenset[str]:
    """Return the entries of a batch that are there for the teacher alone.

    Args:
        dataset: the data set after ``drop_unused_columns``.
        student: the model that is trained.
        teacher: its teacher.
    """
    if teacher is None:
        return frozenset()
    present = teacher.columns if teacher.columns is not None else getattr(dataset, "column_names", None)
    return frozenset(present or ()) - input_names(student) - ALWAYS_KEPT


def _is_text(what: Any) -> bool:
    """Return True for a feature of ``datasets`` or a value that holds text, which no tensor can."""
    return isinstance(what, str | bytes) or str(getattr(what, "dtype", "")) in ("string", "large_string", "binary")

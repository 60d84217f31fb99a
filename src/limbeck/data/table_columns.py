"""Rows of a table in the columns of a ``datasets.Dataset``: read as they are, and turned into values once they are split."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from limbeck.data.config import DataConfig
from limbeck.data.examples import Examples, Splits, TensorRows
from limbeck.data.tables import INPUTS, TableFormat
from limbeck.errors import DataError


class TableRows:
    """The rows of a table as they were read: the loader of examples until ``standardise`` has seen which are for training.

    Args:
        frame: a ``pandas.DataFrame`` of the columns to read.
    """

    def __init__(self, frame: Any) -> None:
        self.frame = frame

    def __call__(self, rows: list[int]) -> dict[str, Any]:
        return {INPUTS: self.frame.iloc[rows]}


def columns_to_read(config: DataConfig, columns: list[str], others: set[str]) -> list[str]:
    """Return the columns of a table that are inputs.

    Args:
        config: names them, or those to leave out.
        columns: all columns of the table.
        others: those that hold labels or groups.

    Raises:
        DataError: a column is named that does not exist or holds labels, or none is left.
    """
    there = ", ".join(columns)
    for key in ("columns", "exclude"):
        unknown = [name for name in getattr(config, key) or () if name not in columns]
        if unknown:
            raise DataError(f"data.{key}: no column {unknown[0]!r}; there are {there}.")
    taken = [name for name in config.columns or () if name in others]
    if taken:
        raise DataError(f"data.columns: {taken[0]!r} holds the labels or the groups, and is no input. Leave it out.")
    read = [name for name in config.columns or columns if name not in {*others, *config.exclude}]
    if not read:
        raise DataError(f"data.columns: no column is left for the inputs; there are {there}.")
    return read


def as_frame(table: Any, columns: list[str]) -> Any:
    """Return columns of a ``datasets.Dataset`` as a ``pandas.DataFrame``; a ``ClassLabel`` by its names.

    Args:
        table: the data set, which has these columns.
        columns: their names.
    """
    frame = table.select_columns(columns).with_format(None).to_pandas()
    for name in columns:
        if names := getattr(table.features[name], "names", None):
            frame[name] = frame[name].map(dict(enumerate(names)))
    return frame[columns]


def standardise(splits: Splits) -> Splits:
    """Return splits whose inputs are values, by a format that the labelled training examples alone decide.

    Args:
        splits: the examples, before labels are hidden.

    Returns:
        The splits of a table, with its format in ``preprocessing``; those of images and texts as they are.

    Raises:
        DataError: a column is empty, or holds neither numbers nor categories, or something else in another split.
    """
    if not isinstance(splits.train.load, TableRows):
        return splits
    known = splits.train.ids[splits.train.labelled].numpy()
    table = TableFormat.fit(splits.train.load.frame.iloc[known])
    values: dict[Any, TensorRows] = {}

    def converted(split: str, part: Examples) -> Examples:
        rows: Any = part.load
        if rows not in values:
            try:
                values[rows] = TensorRows(INPUTS, table(rows.frame))
            except DataError as error:
                raise DataError(f"data.columns: {split}: {error}") from None
        return Examples(values[rows], part.labels, part.ids, task=part.task)

    return replace(
        splits,
        train=converted("train", splits.train),
        validation=converted("validation", splits.validation),
        test=converted("test", splits.test),
        shape=replace(splits.shape, features=table.features),
        preprocessing=replace(splits.preprocessing, table=table),
    )

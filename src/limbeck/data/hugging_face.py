"""Read a data set with the ``datasets`` library: from the Hugging Face hub, from disk, from files or from folders of images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from limbeck.data.config import (
    READ_BY_FILES,
    READ_BY_HUB,
    READ_BY_IMAGES,
    READ_BY_TABLES,
    READ_BY_TEXTS,
    DataConfig,
    check_all_are_read,
)
from limbeck.data.examples import Examples, LoadRows, Source
from limbeck.data.groups import notes_on_groups, number_groups
from limbeck.data.image_columns import ColumnImages, survey_images
from limbeck.data.images import ImageFormat
from limbeck.data.labels import are_lists, encode_label_lists, encode_labels, notes_on_labels
from limbeck.data.numbers import encode_numbers, hold_numbers
from limbeck.data.preprocessing import Preprocessing
from limbeck.data.table_columns import TableRows, as_frame, columns_to_read
from limbeck.data.texts import Texts, load_tokenizer
from limbeck.data.unlabelled import join_unlabelled, with_unlabelled
from limbeck.errors import ArgumentError, DataError
from limbeck.models import DataShape

FILE_FORMATS = {".csv": "csv", ".jsonl": "json", ".json": "json", ".parquet": "parquet"}
TEXT_COLUMNS = ("text", "sentence", "content", "review", "title")
LABEL_COLUMNS = ("label", "labels", "class", "category", "target")
SPLIT_NAMES = {"train": "train", "validation": "validation", "valid": "validation", "dev": "validation", "test": "test"}
"""How a split is called in the wild, and here. Splits of other names are not read."""


Made = tuple[dict[str, LoadRows], DataShape, Preprocessing, list[str]]
"""A loader for each split, the shape, how a new input becomes a batch, and what was decided for the user."""


def read_with_datasets(config: DataConfig, task: str = "auto") -> Source:
    """Read the data set that a config names with the ``datasets`` library.

    Args:
        config: the name of the data set, its columns, and how images or texts are read.
        task: what the labels are for, or "auto" to see it by the labels.

    Returns:
        Its splits. Images are decoded when a batch is loaded, texts are tokenised now.

    Raises:
        DataError: it cannot be found or read, a column is missing, a label is unknown in training, or a setting has no effect.
    """
    path, kinds = Path(config.name), {*READ_BY_IMAGES, *READ_BY_TEXTS, *READ_BY_TABLES}
    of_place = READ_BY_FILES if path.is_file() else () if path.is_dir() else READ_BY_HUB
    place = "a file" if path.is_file() else "a folder" if path.is_dir() else "no file"
    check_all_are_read(config, {*kinds, *of_place}, f"{config.name}, which is {place}")  # before a hub is asked
    tables = _load_tables(config)
    columns = tables["train"].features
    task, label_column, labels, names = _read_labels(config, tables, task)
    notes, groups = notes_on_labels(labels, names, task), None
    kind, inputs = _find_inputs(config, columns, label_column)
    check_all_are_read(config, (*KINDS[kind].read, *of_place), kind)
    for column in inputs:
        _check_that_all_have(tables, column, KINDS[kind].key)
    more = None if config.unlabelled is None else _load_unlabelled(config.unlabelled)
    if config.group_column is not None:
        group_column = find_column(config.group_column, (), columns, "data.group_column")
        groups = number_groups(group_column, tables["train"], more)
        notes += notes_on_groups(group_column, tables)
    if more is not None:
        tables["train"] = join_unlabelled(tables["train"], more, inputs)
        labels["train"] = with_unlabelled(labels["train"], len(more), task)
        notes.append(f"{len(more)} training examples come from {config.unlabelled}; labels there are not read.")
    loaders, shape, preprocessing, decided = KINDS[kind].make(tables, inputs, names, config)
    splits = {split: Examples(loaders[split], labels[split], task=task) for split in tables}
    return Source(splits, shape, replace(preprocessing, task=task), notes + decided, groups)


def _read_labels(
    config: DataConfig, tables: dict[str, Any], task: str
) -> tuple[str, str | None, dict[str, Tensor], list[str]]:
    """Return the task, the column of its labels, the labels of each split, and the names of the outputs that they are for."""
    if task == "embeddings":
        given = [key for key in ("label_column", "labelled") if getattr(config, key) is not None]
        if given:
            raise DataError(*(f"data.{key}: embeddings have no labels. Leave it out." for key in given))
        return task, None, {split: torch.zeros(len(table), 0) for split, table in tables.items()}, []
    column = find_column(config.label_column, LABEL_COLUMNS, tables["train"].features, "data.label_column")
    if task == "regression" or (task == "auto" and hold_numbers(tables, column)):
        return "regression", column, *encode_numbers(tables, column)
    if are_lists(tables, column):
        return "multi_label", column, *encode_label_lists(tables, column)
    return "classification", column, *encode_labels(tables, column)


def image_format(config: DataConfig, size: tuple[int, int], channels: int) -> ImageFormat:
    """Return the format of a data set's images.

    Args:
        config: says by what pixels are normalised.
        size: height and width in pixels.
        channels: 1 or 3.

    Raises:
        DataError: ``data.mean`` or ``data.std`` has another number of values than there are channels.
    """
    try:
        return ImageFormat(size, channels, config.mean, config.std)
    except ArgumentError as error:
        raise DataError(f"data.{error}") from None


def _make_images(tables: dict[str, Any], columns: list[str], names: list[str], config: DataConfig) -> Made:
    import datasets

    (column,) = columns
    for split, table in tables.items():
        feature = table.features[column]
        if type(feature).__name__ != "Image":
            kind = type(table[0][column]).__name__
            raise DataError(f"data.image_column: column {column!r} of {split} holds {kind}, not images.")
        if not feature.decode:
            tables = tables | {split: table.cast_column(column, datasets.Image())}
    notes, channels = [], config.channels
    size = None if config.image_size is None else (config.image_size, config.image_size)
    if size is None or channels is None:  # else nothing is left to decide, and a large set need not be looked at
        survey = survey_images(tables, column)
        channels = channels or survey.channels
        if size is None:
            first = tables["train"][0][column]
            size = first.height, first.width
        notes = survey.notes(
            size, size_is_chosen=config.image_size is not None, channels_are_chosen=config.channels is not None
        )
    image = image_format(config, size, channels)
    loaders: dict[str, LoadRows] = {split: ColumnImages(table, column, image) for split, table in tables.items()}
    return (
        loaders,
        DataShape(len(names), (channels, size[0], size[1])),
        Preprocessing(names, image, column=column),
        notes,
    )


def _make_texts(tables: dict[str, Any], columns: list[str], names: list[str], config: DataConfig) -> Made:
    tokenizer, loaders = load_tokenizer(config.tokenizer), dict[str, LoadRows]()
    for split, table in tables.items():
        cells = [list(table[column]) for column in columns]
        texts = cells[0] if len(cells) == 1 else list(zip(*cells, strict=True))
        loaders[split] = Texts(texts, tokenizer, config.max_length)
    column = columns[0] if len(columns) == 1 else columns
    preprocessing = Preprocessing(names, tokenizer=tokenizer, max_length=config.max_length, column=column)
    return loaders, DataShape(len(names)), preprocessing, []


def _find_inputs(config: DataConfig, columns: Any, label_column: str | None) -> tuple[str, list[str]]:
    """Return the kind of the inputs, a key of ``KINDS``, and the columns that hold them."""
    images = tuple(name for name, feature in columns.items() if type(feature).__name__ == "Image")
    named_as_table = config.columns is not None or bool(config.exclude)
    if config.image_column is not None or (images and not named_as_table):
        return "images", [find_column(config.image_column, images, columns, "data.image_column")]
    usual = any(name in columns for name in TEXT_COLUMNS)
    if not named_as_table and (config.tokenizer or config.text_column or usual):
        given = config.text_column if isinstance(config.text_column, tuple) else [config.text_column]
        return "texts", [find_column(name, TEXT_COLUMNS, columns, "data.text_column") for name in given]
    others = {name for name in (label_column, config.group_column) if name}
    return "a table", columns_to_read(config, list(columns), others)


def _make_table(tables: dict[str, Any], columns: list[str], names: list[str], _config: DataConfig) -> Made:
    loaders: dict[str, LoadRows] = {split: TableRows(as_frame(table, columns)) for split, table in tables.items()}
    return loaders, DataShape(len(names)), Preprocessing(names), []


@dataclass(frozen=True)
class _Kind:
    """What is particular to one kind of inputs."""

    read: tuple[str, ...]
    """The settings that are read."""
    key: str
    """The setting that names the columns."""
    make: Callable[[dict[str, Any], list[str], list[str], DataConfig], Made]
    """Return loaders, shape, preprocessing and notes, from the tables, their columns of inputs and the names of the classes."""


KINDS = {
    "images": _Kind(READ_BY_IMAGES, "image_column", _make_images),
    "texts": _Kind(READ_BY_TEXTS, "text_column", _make_texts),
    "a table": _Kind(READ_BY_TABLES, "columns", _make_table),
}
"""The kinds of inputs, as messages call them."""


def _load_unlabelled(name: str) -> Any:
    """Return the ``datasets.Dataset`` that ``data.unlabelled`` names."""
    try:
        return _load_tables(DataConfig(name))["train"]
    except DataError as error:
        raise DataError(*(fault.replace("data.name:", "data.unlabelled:", 1) for fault in error.faults)) from None


def _load_tables(config: DataConfig) -> dict[str, Any]:
    """Return a ``datasets.Dataset`` for each split, under the names that splits have here."""
    import datasets
    from datasets.exceptions import DatasetsError

    path = Path(config.name)
    try:
        if path.is_file():
            loaded = _load_files(config)
        elif path.is_dir() and any((path / name).exists() for name in ("dataset_dict.json", "state.json")):
            loaded = datasets.load_from_disk(str(path))
        elif path.is_dir():
            loaded = datasets.load_dataset("imagefolder", data_dir=str(path))
        else:
            loaded = datasets.load_dataset(config.name, config.subset)
    except (OSError, ValueError, DatasetsError) as error:
        reason = str(error).strip().splitlines()[0]
        raise DataError(
            f"data.name: {config.name!r} cannot be read: {reason} Expected digits, fashion-mnist, a Hugging Face id, a data "
            f"set saved to disk, a {'/'.join(FILE_FORMATS)} file, or a folder with one folder of images for each class."
        ) from None
    by_name: dict[Any, Any] = dict(loaded) if isinstance(loaded, dict) else {"train": loaded}
    tables = {str(name): table for name, table in by_name.items()}
    if "train" not in tables:
        raise DataError(f"data.name: {config.name!r} has no split 'train', only {', '.join(tables)}.")
    return {SPLIT_NAMES[name]: table for name, table in tables.items() if name in SPLIT_NAMES}


def _load_files(config: DataConfig) -> Any:
    import datasets

    given = {"train": config.name, "validation": config.validation, "test": config.test}
    files = {split: name for split, name in given.items() if name is not None}
    for split, name in files.items():
        if not Path(name).is_file():
            raise DataError(f"data.{split}: no file {name}.")
    suffix = Path(config.name).suffix
    if suffix not in FILE_FORMATS:
        raise DataError(f"data.name: {config.name} is not one of {', '.join(FILE_FORMATS)}.")
    # one by one: the labels of one file may be missing, or be numbers with empty cells, which are read as another type
    return {
        split: datasets.load_dataset(FILE_FORMATS[suffix], data_files={split: name}, split=split, **_options(suffix))
        for split, name in files.items()
    }


def load_file(path: Path) -> Iterator[dict[str, Any]]:
    """Read a CSV, JSONL or Parquet file row by row.

    Args:
        path: the file; its suffix, one of ``FILE_FORMATS``, tells its format.

    Returns:
        An iterator over the rows, each a dictionary of its cells by column.

    Raises:
        DataError: the file cannot be read.
    """
    import datasets
    from datasets.exceptions import DatasetsError

    suffix = path.suffix.lower()
    try:
        yield from datasets.load_dataset(FILE_FORMATS[suffix], data_files=str(path), split="train", **_options(suffix))
    except (OSError, ValueError, DatasetsError) as error:
        raise DataError(f"{path}: cannot be read: {str(error).strip().splitlines()[0]}") from None


def _options(suffix: str) -> dict[str, Any]:
    """Return the options for a file format: pandas would read a class called "None" or "NA" as an empty cell."""
    return {"keep_default_na": False, "na_values": [""]} if suffix == ".csv" else {}


def _check_that_all_have(tables: dict[str, Any], column: str, key: str) -> None:
    """Check that every split has the column that was found in the training split."""
    for split, table in tables.items():
        if column not in table.features:
            raise DataError(f"data.{key}: {split} has no column {column!r}; there are {', '.join(table.features)}.")


def find_column(given: str | None, usual: tuple[str, ...], columns: Any, key: str) -> str:
    """Find the column that holds something.

    Args:
        given: the column that the user names; None to find it by its name.
        usual: the names that such a column usually has.
        columns: the columns that there are.
        key: the config's key, or the file, for messages.

    Returns:
        The given column, or the first one with a usual name.

    Raises:
        DataError: there is no such column.
    """
    if given is not None and given not in columns:
        raise DataError(f"{key}: no column {given!r}; there are {', '.join(columns)}.")
    found = given or next((name for name in usual if name in columns), None)
    if found is None:
        raise DataError(f"{key}: none of the columns {', '.join(columns)} has a usual name; name it.")
    return found

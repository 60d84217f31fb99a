"""Read a data set with the ``datasets`` library: from the Hugging Face hub, from disk, from files or from folders of images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch

from limbeck.data.columns import find_column
from limbeck.data.config import (
    BUILT_IN,
    READ_BY_FILES,
    READ_BY_HUB,
    READ_BY_IMAGES,
    READ_BY_MASKS,
    READ_BY_TABLES,
    READ_BY_TEXTS,
    DataConfig,
    check_all_are_read,
    check_files_are_there,
)
from limbeck.data.examples import WITHOUT_CLASSES, Examples, LoadRows, Source
from limbeck.data.groups import notes_on_groups, number_groups
from limbeck.data.image_columns import ColumnImages, survey_images
from limbeck.data.images import ImageFormat
from limbeck.data.labels import are_lists, encode_label_lists, encode_labels, notes_on_labels
from limbeck.data.masks import MASK, MaskedImages, encode_masks, read_folders
from limbeck.data.numbers import encode_numbers, hold_numbers
from limbeck.data.preprocessing import Preprocessing
from limbeck.data.table_columns import TableRows, as_frame, columns_to_read
from limbeck.data.table_files import FILE_FORMATS, load_files, reason_of, with_flat_columns
from limbeck.data.tags import encode_tags
from limbeck.data.texts import Texts, load_tokenizer
from limbeck.data.unlabelled import join_unlabelled, with_unlabelled
from limbeck.data.words import Words
from limbeck.errors import ArgumentError, DataError, closest
from limbeck.models import DataShape

TEXT_COLUMNS = ("text", "sentence", "content", "review", "title")
LABEL_COLUMNS = ("label", "labels", "class", "category", "target")
WORD_COLUMNS = ("tokens", "words")
TAG_COLUMNS = ("tags", "ner_tags", "pos_tags", *LABEL_COLUMNS)
MASK_COLUMNS = (*LABEL_COLUMNS, MASK, "masks", "annotation", "annotations", "segmentation", "segmentation_mask")
SPLIT_NAMES = {
    **{"train": "train", "training": "train", "validation": "validation", "valid": "validation", "val": "validation"},
    **{"dev": "validation", "test": "test", "testing": "test"},
}
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
    path, kinds = Path(config.name), {*READ_BY_IMAGES, *READ_BY_MASKS, *READ_BY_TEXTS, *READ_BY_TABLES}
    of_place = READ_BY_FILES if path.is_file() else () if path.is_dir() else READ_BY_HUB
    place = "a file" if path.is_file() else "a folder" if path.is_dir() else "no file"
    check_files_are_there(config)
    check_all_are_read(config, {*kinds, *of_place}, f"{config.name}, which is {place}")  # before a hub is asked
    tables = load_tables(config)
    columns = tables["train"].features
    words = [] if task in WITHOUT_CLASSES else _word_columns(config, columns)
    label_column = _label_column(config, columns, bool(words), task)
    kind, inputs = ("words", words) if words else _find_inputs(config, columns, label_column)
    task, mask, tags = _task_of(tables, kind, label_column, task), None, None
    if task == "dense_prediction":
        labels, names, mask = encode_masks(tables, inputs[0], label_column, config.classes, config.ignore_index)
    elif task == "token_classification":
        labels, names, tags = encode_tags(tables, inputs[0], label_column)
    elif task == "embeddings":
        labels, names = {split: torch.zeros(len(table), 0) for split, table in tables.items()}, []
    else:
        encode = {"multi_label": encode_label_lists, "regression": encode_numbers}.get(task, encode_labels)
        labels, names = encode(tables, label_column)
    notes, groups = notes_on_labels(labels, names, task), None
    check_all_are_read(config, (*KINDS[kind].read, *of_place, *(READ_BY_MASKS if mask else ())), kind)
    for column in inputs:
        _check_that_all_have(tables, column, KINDS[kind].key)
    more = None if config.unlabelled is None else _load_unlabelled(config.unlabelled)
    if config.group_column is not None:
        group_column = find_column(config.group_column, (), columns, "data.group_column")
        groups = number_groups(group_column, tables["train"], more)
        notes += notes_on_groups(group_column, tables)
    masks = dict(tables)
    if more is not None:
        tables["train"] = join_unlabelled(tables["train"], more, inputs)
        labels["train"] = with_unlabelled(labels["train"], len(more), task)
        notes.append(f"{len(more)} training examples come from {config.unlabelled}; labels there are not read.")
    loaders, shape, preprocessing, decided = KINDS[kind].make(tables, inputs, names, config)
    if mask is not None:
        assert preprocessing.image is not None
        mask = replace(mask, size=preprocessing.image.size)
        loaders = {split: MaskedImages(loaders[split], masks[split], label_column, mask) for split in tables}
        preprocessing = replace(preprocessing, values=list(mask.values))
    if tags is not None:
        loaders = {split: cast(Words, loaders[split]).with_tags(tags[split]) for split in tables}
    splits = {split: Examples(loaders[split], labels[split], task=task) for split in tables}
    return Source(splits, shape, replace(preprocessing, task=task), notes + decided, groups)


def _label_column(config: DataConfig, columns: Any, are_words: bool, task: str) -> str:
    """Return the column of labels; "" for embeddings, which have none."""
    if task == "embeddings":
        given = [key for key in ("label_column", "labelled") if getattr(config, key) is not None]
        if given:
            raise DataError(*(f"data.{key}: embeddings have no labels. Leave it out." for key in given))
        return ""
    usual = MASK_COLUMNS if len(_image_columns(columns)) > 1 else TAG_COLUMNS if are_words else LABEL_COLUMNS
    return find_column(config.label_column, usual, columns, "data.label_column")


def _task_of(tables: dict[str, Any], kind: str, label_column: str, task: str) -> str:
    """Return what labels are for: the name of one of ``limbeck.tasks.TASKS``. What a config says is followed for numbers."""
    if task in WITHOUT_CLASSES:
        return task
    if kind == "words":
        if not are_lists(tables, label_column):
            raise DataError(
                f"data.label_column: column {label_column!r} holds one class, and texts are lists of words. Expected a list "
                "with a tag for each word."
            )
        return "token_classification"
    if label_column in _image_columns(tables["train"].features):
        return "dense_prediction"
    if task == "auto" and hold_numbers(tables, label_column):
        return "regression"
    return "multi_label" if are_lists(tables, label_column) else "classification"


def _image_columns(columns: Any) -> tuple[str, ...]:
    return tuple(name for name, feature in columns.items() if type(feature).__name__ == "Image")


def _word_columns(config: DataConfig, columns: Any) -> list[str]:
    """Return the column with the words of each text, which are given as lists; empty if there is none."""
    named = [config.text_column] if isinstance(config.text_column, str) else list(config.text_column or WORD_COLUMNS)
    lists = [
        name for name in named if str(getattr(getattr(columns.get(name), "feature", None), "dtype", "")) == "string"
    ]
    is_table = config.columns is not None or bool(config.exclude)
    tagged = [name for name in TAG_COLUMNS if hasattr(columns.get(name), "feature")]
    texts = [name for name in named if getattr(columns.get(name), "dtype", None) == "string" and name in WORD_COLUMNS]
    if texts and tagged and not lists and config.label_column in (None, *tagged):
        raise DataError(
            f"data.text_column: {texts[0]} holds texts, and {tagged[0]} a list of tags. Expected a list of words, such as "
            '["Ada", "saw", "Rome"].'
        )
    return [] if is_table else lists[:1]


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
        mean, std = 0.0 if config.mean is None else config.mean, 1.0 if config.std is None else config.std
        return ImageFormat(size, channels, mean, std)
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
    given = config.image_size
    size = (given, given) if isinstance(given, int) else given
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


def _make_words(tables: dict[str, Any], columns: list[str], names: list[str], config: DataConfig) -> Made:
    tokenizer, (column,) = load_tokenizer(config.tokenizer), columns
    loaders, notes = dict[str, LoadRows](), []
    for split, table in tables.items():
        loaders[split] = words = Words(list(table[column]), tokenizer, config.max_length)
        if cut := words.without_token([len(row) for row in table[column]]):
            notes.append(
                f"{cut} words of {split} do not count: they have no token, or stand after {config.max_length} tokens."
            )
    preprocessing = Preprocessing(names, tokenizer=tokenizer, max_length=config.max_length, column=column)
    return loaders, DataShape(len(names)), preprocessing, notes


def _find_inputs(config: DataConfig, columns: Any, label_column: str) -> tuple[str, list[str]]:
    """Return the kind of the inputs, a key of ``KINDS``, and the columns that hold them."""
    images = tuple(name for name in _image_columns(columns) if name != label_column)
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
    "words": _Kind(READ_BY_TEXTS, "text_column", _make_words),
    "a table": _Kind(READ_BY_TABLES, "columns", _make_table),
}
"""The kinds of inputs, as messages call them."""


def _load_unlabelled(name: str) -> Any:
    """Return the ``datasets.Dataset`` that ``data.unlabelled`` names."""
    try:
        return load_tables(DataConfig(name))["train"]
    except DataError as error:
        raise DataError(*(fault.replace("data.name:", "data.unlabelled:", 1) for fault in error.faults)) from None


def load_tables(config: DataConfig) -> dict[str, Any]:
    """Load the data set that a config names.

    Args:
        config: the name of the data set, and the files of its splits.

    Returns:
        A ``datasets.Dataset`` for each split, under the names that splits have here.

    Raises:
        DataError: it cannot be found or read, or has no training split.
    """
    import datasets
    from datasets.exceptions import DatasetsError

    path = Path(config.name)
    try:
        if config.masks is not None:
            return read_folders(path, Path(config.masks), SPLIT_NAMES)
        if path.is_file():
            loaded = load_files(config)
        elif path.is_dir() and any((path / name).exists() for name in ("dataset_dict.json", "state.json")):
            loaded = datasets.load_from_disk(str(path))
        elif path.is_dir():
            loaded = datasets.load_dataset("imagefolder", data_dir=str(path))
        else:
            loaded = datasets.load_dataset(config.name, config.subset)
    except (OSError, ValueError, DatasetsError) as error:
        close = closest(config.name, BUILT_IN)
        meant = "" if close is None else f" Did you mean {close}?"
        raise DataError(
            f"data.name: {config.name!r} cannot be read: {reason_of(error)} Expected {', '.join(BUILT_IN)}, a Hugging Face id, "
            f"a data set saved to disk, a {'/'.join(FILE_FORMATS)} file, or a folder with one folder of images for each "
            f"class.{meant}"
        ) from None
    by_name: dict[Any, Any] = dict(loaded) if isinstance(loaded, dict) else {"train": loaded}
    tables = {str(name): table for name, table in by_name.items()}
    if "train" not in tables:
        raise DataError(f"data.name: {config.name!r} has no split 'train', only {', '.join(tables)}.")
    return {SPLIT_NAMES[name]: with_flat_columns(table) for name, table in tables.items() if name in SPLIT_NAMES}


def _check_that_all_have(tables: dict[str, Any], column: str, key: str) -> None:
    """Check that every split has the column that was found in the training split."""
    for split, table in tables.items():
        if column not in table.features:
            raise DataError(f"data.{key}: {split} has no column {column!r}; there are {', '.join(table.features)}.")

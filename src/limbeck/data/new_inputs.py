"""New inputs to predict: images and texts, out of files, folders, tables and the standard input."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from limbeck.data.hugging_face import FILE_FORMATS, TEXT_COLUMNS, find_column, load_file
from limbeck.errors import DataError

STANDARD_INPUT = "-"
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff")
TEXT_SUFFIX = ".txt"
IMAGE_COLUMNS = ("image", "file", "file_name", "path")


@dataclass(frozen=True)
class NewInput:
    """One image or text to predict."""

    name: str
    """The file or the text; of an image inside a table, the table's file and the row."""
    content: Any
    """What ``Preprocessing`` takes: the name of an image file, a PIL image, or a text."""
    columns: dict[str, Any] = field(default_factory=dict)
    """The other columns of the row, where the input stands in a table."""


def read_new_inputs(given: Sequence[str | Path], *, is_image: bool, column: str | None = None) -> Iterator[NewInput]:
    """Read the images or texts that the given names stand for.

    A folder stands for all files in it, at any depth, that can be read. A CSV, JSONL or Parquet file stands for its rows, and
    a ``.txt`` file for its lines. "-" stands for the lines of the standard input: a text each, or the name of an image file.

    Args:
        given: files, folders, "-", and texts where the inputs are texts.
        is_image: whether the inputs are images; else they are texts.
        column: the column of tables that holds the input. By default it is found by its name.

    Returns:
        An iterator over the inputs, in the order in which they are given. Files of a folder come in the order of their names.

    Raises:
        DataError: a name looks like a file and there is no such file, a file cannot be read, or a table has no such column.
    """
    if faults := [fault for name in given if (fault := _fault(str(name), is_image=is_image))]:
        raise DataError(*faults)
    return (item for name in given for item in _read(str(name), is_image=is_image, column=column))


def _fault(name: str, *, is_image: bool) -> str | None:
    """Return what is wrong with a name that stands for nothing."""
    path, kinds = Path(name), _suffixes(is_image=is_image)
    if name == STANDARD_INPUT or path.is_dir():
        return None
    if path.is_file():
        known = path.suffix.lower() in kinds
        return None if known else f"{name}: expected a folder or one of {', '.join(kinds)}."
    if is_image:
        return f"{name}: no such file. Expected an image, a folder of images, a table with a column of images, or '-'."
    if path.suffix.lower() in (*kinds, *IMAGE_SUFFIXES) or name.startswith(("./", "../", "/", "~/")):
        return (
            f"{name}: no such file. If this is a text, give it on the standard input: echo TEXT | limbeck predict RUN -"
        )
    return None


def _suffixes(*, is_image: bool) -> tuple[str, ...]:
    return (*IMAGE_SUFFIXES, *FILE_FORMATS) if is_image else (TEXT_SUFFIX, *FILE_FORMATS)


def _read(name: str, *, is_image: bool, column: str | None) -> Iterator[NewInput]:
    """Yield what one name stands for."""
    path = Path(name)
    if name == STANDARD_INPUT:
        yield from _lines(sys.stdin.read())
    elif path.is_dir():
        # in a folder of images, a table tells about the images
        known = IMAGE_SUFFIXES if is_image else _suffixes(is_image=False)
        for file in sorted(file for file in path.rglob("*") if file.suffix.lower() in known and file.is_file()):
            yield from _read(str(file), is_image=is_image, column=column)
    elif path.suffix.lower() in FILE_FORMATS and path.is_file():
        yield from _rows(path, column, is_image=is_image)
    elif path.suffix.lower() == TEXT_SUFFIX and path.is_file():
        try:
            yield from _lines(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{name}: not a file of UTF-8 text ({error}).") from None
    else:
        yield NewInput(name, name)


def _lines(text: str) -> Iterator[NewInput]:
    return (NewInput(line, line) for line in text.splitlines() if line.strip())


def _rows(path: Path, column: str | None, *, is_image: bool) -> Iterator[NewInput]:
    """Yield the inputs of a table. A cell with the name of an image file names it as seen from the table's folder."""
    usual = IMAGE_COLUMNS if is_image else TEXT_COLUMNS
    for number, row in enumerate(load_file(path)):
        found = find_column(None, (column, *usual) if column else usual, row, str(path))
        content, others = row[found], {name: value for name, value in row.items() if name != found}
        if not is_image:
            yield NewInput(content if isinstance(content, str) else f"{path}, row {number}", content, others)
        elif isinstance(content, str):
            yield NewInput(content, path.parent / content, others)
        else:
            yield NewInput(f"{path}, row {number}", content, others)

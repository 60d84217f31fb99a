"""New inputs to predict: images, texts and rows of tables, out of files, folders, tables and the standard input."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from limbeck.data.hugging_face import TEXT_COLUMNS, WORD_COLUMNS, find_column
from limbeck.data.table_files import FILE_FORMATS, load_file
from limbeck.errors import DataError

STANDARD_INPUT = "-"
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff")
TEXT_SUFFIX = ".txt"
IMAGE_COLUMNS = ("image", "file", "file_name", "path")
Kind = Literal["image", "text", "row"]
SUFFIXES: dict[Kind, tuple[str, ...]] = {
    "image": (*IMAGE_SUFFIXES, *FILE_FORMATS),
    "text": (TEXT_SUFFIX, *FILE_FORMATS),
    "row": tuple(FILE_FORMATS),
}
"""The files that hold inputs of each kind."""


@dataclass(frozen=True)
class NewInput:
    """One image, text or row to predict."""

    name: str
    """The file or the text; of an image or a row inside a table, the table's file and the row."""
    content: Any
    """What ``Preprocessing`` takes: the name of an image file, a PIL image, a text, or the cells of a row by column, where the
    student reads a table or pairs of texts; or the ``DataError`` that says why it cannot be read."""
    columns: dict[str, Any] = field(default_factory=dict)
    """The other columns of the row, where the input stands in a table."""


def read_new_inputs(
    given: Sequence[str | Path],
    *,
    is_image: bool,
    column: str | Sequence[str] | None = None,
    named: str | None = None,
) -> Iterator[NewInput]:
    """Read the images, texts or rows that the given names stand for.

    A folder stands for all files in it, at any depth, that can be read. A CSV, JSONL or Parquet file stands for its rows, and
    a ``.txt`` file for its lines. "-" stands for the lines of the standard input: a text each, or the name of an image file.

    Args:
        given: files, folders, "-", and texts where the inputs are texts.
        is_image: whether the inputs are images; else they are texts or rows.
        column: the column of tables that holds the input. By default it is found by its name. A list of columns asks for the
            cells of a row, which stand nowhere but in a table.
        named: the column that the user names, which every table must have; it goes before ``column``.

    Returns:
        An iterator over the inputs, in the order in which they are given. Files of a folder come in the order of their names. A
        name that stands for nothing has the error as its content.

    Raises:
        DataError: no name stands for anything, a file cannot be read or holds no such inputs, or a table has no such column.
    """
    kind = "row" if column is not None and not isinstance(column, str) else "image" if is_image else "text"
    faults = {str(name): fault for name in given if (fault := _fault(str(name), kind))}
    if all(str(name) in faults for name in given):
        raise DataError(*faults.values())

    def read(name: str) -> Iterator[NewInput]:
        return iter([NewInput(name, DataError(faults[name]))]) if name in faults else _read(name, kind, column, named)

    return (item for name in given for item in read(str(name)))


def _fault(name: str, kind: Kind) -> str | None:
    """Return what is wrong with a name that stands for nothing."""
    path, kinds = Path(name), SUFFIXES[kind]
    if not name.strip():
        return "an empty name or text. Expected a text, a file, a folder or '-'."
    if kind == "row" and not path.exists():
        return f"{name}: no such file. The student reads rows with several columns: expected a folder or {', '.join(kinds)}."
    if name == STANDARD_INPUT or path.is_dir():
        return None
    if path.is_file():
        known = path.suffix.lower() in kinds
        return None if known else f"{name}: expected a folder or one of {', '.join(kinds)}."
    if kind == "image":
        return f"{name}: no such file. Expected an image, a folder of images, a table with a column of images, or '-'."
    if path.suffix.lower() in (*kinds, *IMAGE_SUFFIXES) or name.startswith(("./", "../", "/", "~/")):
        return (
            f"{name}: no such file. If this is a text, give it on the standard input: echo TEXT | limbeck predict RUN -"
        )
    return None


def _read(name: str, kind: Kind, column: str | Sequence[str] | None, named: str | None) -> Iterator[NewInput]:
    """Yield what one name stands for."""
    path = Path(name)
    if name == STANDARD_INPUT:
        yield from _lines(sys.stdin.read())
    elif path.is_dir():
        # in a folder of images, a table tells about the images
        known = IMAGE_SUFFIXES if kind == "image" else SUFFIXES[kind]
        for file in sorted(file for file in path.rglob("*") if file.suffix.lower() in known and file.is_file()):
            yield from _read(str(file), kind, column, named)
    elif path.suffix.lower() in FILE_FORMATS and path.is_file():
        yield from _rows(path, kind, column, named)
    elif path.suffix.lower() == TEXT_SUFFIX and path.is_file():
        try:
            yield from _lines(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{name}: not a file of UTF-8 text ({error}).") from None
    else:
        yield NewInput(name, name)


def _lines(text: str) -> Iterator[NewInput]:
    return (NewInput(line, line) for line in text.splitlines() if line.strip())


def _rows(path: Path, kind: Kind, column: str | Sequence[str] | None, named: str | None) -> Iterator[NewInput]:
    """Yield the inputs of a table. A cell with the name of an image file names it as seen from the table's folder."""
    for number, row in enumerate(load_file(path)):
        if isinstance(row, DataError):
            yield NewInput(str(path), row)
        else:
            yield input_of_row(row, f"{path}, row {number}", kind, column, named, source=str(path), folder=path.parent)


def input_of_row(
    row: Mapping[str, Any],
    name: str,
    kind: Kind,
    column: str | Sequence[str] | None = None,
    named: str | None = None,
    *,
    source: str,
    folder: Path | None = None,
) -> NewInput:
    """Return the input that stands in a row of a table.

    Args:
        row: the cells by column.
        name: what the row is called.
        kind: what the inputs are.
        column: as in ``read_new_inputs``, and so is the next one.
        named: the column that the user names.
        source: the table, for messages.
        folder: the folder from which image files are named; by default the working directory.

    Raises:
        DataError: there is no such column.
    """
    if column is not None and not isinstance(column, str):
        cells = {wanted: row[find_column(wanted, (), row, source)] for wanted in column}
        return NewInput(name, cells, {other: value for other, value in row.items() if other not in cells})
    usual = IMAGE_COLUMNS if kind == "image" else (*TEXT_COLUMNS, *WORD_COLUMNS)
    found = find_column(named, (column, *usual) if column else usual, row, source)
    content, others = row[found], {other: value for other, value in row.items() if other != found}
    if kind == "text":
        return NewInput(content if isinstance(content, str) else name, content, others)
    if isinstance(content, str):
        return NewInput(content, (folder or Path()) / content, others)
    return NewInput(name, content, others)

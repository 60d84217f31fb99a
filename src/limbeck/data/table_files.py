"""Read CSV, JSON, JSONL and Parquet files with the ``datasets`` library."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from limbeck.data.config import DataConfig
from limbeck.errors import DataError

TEXT_TYPES = ("string", "large_string")
FILE_FORMATS = {".csv": "csv", ".jsonl": "json", ".json": "json", ".parquet": "parquet"}


def load_files(config: DataConfig) -> dict[str, Any]:
    """Read the files that a config names.

    Args:
        config: names the file of the training split, and those of the others.

    Returns:
        A ``datasets.Dataset`` for each split.

    Raises:
        DataError: a file is missing, or of an unknown format.
    """
    given = {"train": config.name, "validation": config.validation, "test": config.test}
    files = {split: name for split, name in given.items() if name is not None}
    for split, name in files.items():
        if not Path(name).is_file():
            raise DataError(f"data.{split}: no file {name}.")
    suffix = Path(config.name).suffix
    if suffix not in FILE_FORMATS:
        raise DataError(f"data.name: {config.name} is not one of {', '.join(FILE_FORMATS)}.")
    # one by one: the labels of one file may be missing, or be numbers with empty cells, which are read as another type
    return {split: _read_table(name, split, suffix) for split, name in files.items()}


def load_file(path: Path) -> Iterator[dict[str, Any] | DataError]:
    """Read a CSV, JSONL or Parquet file row by row.

    Args:
        path: the file; its suffix, one of ``FILE_FORMATS``, tells its format.

    Returns:
        An iterator over the rows, each a dictionary of its cells by column. A line of a JSONL file that cannot be read is the
        error that says why.

    Raises:
        DataError: the file cannot be read.
    """
    from datasets.exceptions import DatasetsError

    suffix = path.suffix.lower()
    try:
        yield from with_flat_columns(_read_table(str(path), "train", suffix))
    except (OSError, ValueError, DatasetsError) as error:
        if suffix != ".jsonl":
            raise DataError(f"{path}: cannot be read: {reason_of(error)}") from None
        yield from _json_lines(path)


def _read_table(name: str, split: str, suffix: str) -> Any:
    """Return the ``datasets.Dataset`` in a file. NaN beside numbers is a number that is not known, in a CSV file too."""
    import datasets
    import pyarrow

    table = datasets.load_dataset(FILE_FORMATS[suffix], data_files={split: name}, split=split, **_options(suffix))
    texts = [column for column, feature in table.features.items() if getattr(feature, "dtype", "") in TEXT_TYPES]
    for column in texts if suffix == ".csv" else ():
        with suppress(pyarrow.ArrowInvalid):  # a text that is no number
            table = table.cast_column(column, datasets.Value("float64"))
    return table


def with_flat_columns(table: Any) -> Any:
    """Return a data set in which a column of dictionaries has become a column for each key, such as ``translation.en``.

    Args:
        table: a ``datasets.Dataset``.
    """
    from datasets import Translation

    nested = any(isinstance(feature, dict | Translation) for feature in table.features.values())
    return table.with_format(None).flatten() if nested else table  # a format would hide the new columns


def _json_lines(path: Path) -> Iterator[dict[str, Any] | DataError]:
    """Yield the object on each line of a JSONL file with the columns of all lines, or the error of a line without one."""
    rows: list[dict[str, Any] | DataError] = []
    try:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if line.strip():
                rows.append(_json_object(line, f"{path}, line {number}"))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
    columns = dict.fromkeys(name for row in rows if isinstance(row, dict) for name in row)
    return (columns | row if isinstance(row, dict) else row for row in rows)


def _json_object(line: str, place: str) -> dict[str, Any] | DataError:
    try:
        row = json.loads(line)
    except ValueError as error:
        return DataError(f"{place}: no JSON ({error}).")
    return row if isinstance(row, dict) else DataError(f"{place}: expected an object as {{...}}, got {line[:40]!r}.")


def reason_of(error: BaseException) -> str:
    """Return the first line of what an error says, or of its first cause, where ``datasets`` hides that.

    Args:
        error: any error.
    """
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _options(suffix: str) -> dict[str, Any]:
    """Return the options for a file format: pandas would read a class called "None" or "NA" as an empty cell."""
    return {"keep_default_na": False, "na_values": [""]} if suffix == ".csv" else {}

"""Find a column of a data set by its name."""

from __future__ import annotations

from typing import Any

from limbeck.errors import DataError


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

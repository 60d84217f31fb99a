"""Tables: how rows of numbers and categories become the values that a model takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from limbeck.errors import DataError

MOST_CATEGORIES = 1000
"""The most different texts of a column of categories."""
FEWEST_TEXTS = 10
"""A column with more different texts than this holds no categories if most of its cells differ."""
INPUTS = "inputs"
"""The name of the values of a row in a batch."""


@dataclass(frozen=True)
class TableFormat:
    """How a row of a table becomes values: numbers are standardised, and each category has a value that is 0 or 1.

    The numbers come first. An empty cell of numbers becomes 0, which is their mean. An empty cell of categories is a category
    of its own if the training examples have one. A category that they lack has 0 in all values of its column.
    """

    numbers: dict[str, list[float]]
    """For each column of numbers, the mean, which is subtracted, and the standard deviation, which is divided by."""
    categories: dict[str, list[str]]
    """For each column of categories, its texts; "" stands for an empty cell."""

    @property
    def columns(self) -> list[str]:
        """Return the columns that are read, in the order of the values."""
        return [*self.numbers, *self.categories]

    @property
    def features(self) -> int:
        """Return the number of values of a row."""
        return len(self.numbers) + sum(map(len, self.categories.values()))

    @classmethod
    def fit(cls, frame: Any) -> TableFormat:
        """Find out which columns hold numbers and which hold categories, and how they are spread.

        Args:
            frame: the training examples, a ``pandas.DataFrame`` of the columns to read.

        Returns:
            The format.

        Raises:
            DataError: a column is empty, or holds neither finite numbers nor categories; one line for each.
        """
        from sklearn.preprocessing import OneHotEncoder, StandardScaler

        faults = [f"data.columns: {fault}" for name in frame if (fault := _fault(frame[name], name))]
        if faults:
            raise DataError(*faults)
        numbers: dict[str, list[float]] = {}
        categories: dict[str, list[str]] = {}
        for name in frame:
            if _holds_numbers(frame[name]):
                scaler: Any = StandardScaler().fit(_as_numbers(frame[name], name)[:, None])
                numbers[name] = [float(scaler.mean_[0]), float(scaler.scale_[0])]
            else:
                encoder: Any = OneHotEncoder().fit(frame[name].fillna("").to_numpy(object)[:, None])
                categories[name] = encoder.categories_[0].tolist()
        return cls(numbers, categories)

    def __call__(self, frame: Any) -> Tensor:
        """Turn rows into values.

        Args:
            frame: a ``pandas.DataFrame`` that has at least the columns of this format.

        Returns:
            (N, features) float32.

        Raises:
            DataError: a column is missing, there is a text where the training examples have numbers, or a number where they
                have texts.
        """
        from sklearn.preprocessing import OneHotEncoder

        make_encoder: Any = OneHotEncoder
        missing = [name for name in self.columns if name not in frame]
        if missing:
            raise DataError(f"no column {missing[0]!r}; there are {', '.join(map(str, frame.columns))}.")
        parts = [np.zeros((len(frame), 0))]
        for name, (mean, std) in self.numbers.items():
            parts.append(np.nan_to_num((_as_numbers(frame[name], name) - mean) / std)[:, None])
        for name, known in self.categories.items():
            encoder = make_encoder(categories=[known], handle_unknown="ignore", sparse_output=False)
            parts.append(encoder.fit_transform(_as_categories(frame[name], name, known)[:, None]))
        return torch.from_numpy(np.concatenate(parts, 1, dtype=np.float32))

    def rows(self, values: Tensor) -> Any:
        """Turn values back into rows, up to rounding.

        Args:
            values: (N, features), as ``__call__`` returns them.

        Returns:
            A ``pandas.DataFrame`` of the columns. A cell of numbers that was empty has the mean. A category that the
            training examples lack, and a cell without one, is empty.
        """
        import pandas

        columns: dict[str, Any] = {}
        found = values.double().numpy()
        for i, (name, (mean, std)) in enumerate(self.numbers.items()):
            columns[name] = found[:, i] * std + mean
        start = len(self.numbers)
        for name, known in self.categories.items():
            part = found[:, start : start + len(known)]
            columns[name] = [known[row.argmax()] or None if row.any() else None for row in part]
            start += len(known)
        return pandas.DataFrame(columns)


def _holds_numbers(values: Any) -> bool:
    """Return True if the cells of a column that are not empty are numbers or bools."""
    from pandas.api.types import is_numeric_dtype

    return is_numeric_dtype(values.dropna().infer_objects().dtype)


def _fault(values: Any, name: str) -> str | None:
    """Return what is wrong with a column of the training examples, or None."""
    known, remedy = values.dropna(), f"Leave it out: data.exclude: [{name}]."
    if known.empty:
        return f"column {name!r} is empty in the training examples. {remedy}"
    if _holds_numbers(values):
        return (
            f"column {name!r} holds infinite numbers. Leave such cells empty."
            if np.isinf(known.astype(float)).any()
            else None
        )
    if not all(isinstance(value, str) for value in known):
        kind = next(type(value).__name__ for value in known if not isinstance(value, str))
        return f"column {name!r} holds {kind}, neither numbers nor categories. {remedy}"
    different = known.nunique()
    if different > MOST_CATEGORIES or (different > FEWEST_TEXTS and 2 * different > len(known)):
        return (
            f"column {name!r} has {different} different texts in {len(known)} rows: texts or names, no categories. Set "
            f"data.tokenizer and data.text_column if the texts are the input. {remedy}"
        )
    return None


def _as_numbers(values: Any, name: str) -> Any:
    """Return a column as an array (N,) of float64, NaN where a cell is empty."""
    import pandas
    from pandas.api.types import is_numeric_dtype

    try:
        if not is_numeric_dtype(values.dtype):
            values = pandas.to_numeric(values.map(lambda cell: None if cell == "" else cell))
        numbers = values.to_numpy(np.float64, na_value=np.nan)
    except (ValueError, TypeError):
        wrong = next(_not_numbers(values), None)
        raise DataError(f"column {name!r} holds {wrong!r}. Numbers are expected, as in training.") from None
    if np.isinf(numbers).any():
        raise DataError(f"column {name!r} holds infinite numbers. Leave such cells empty.")
    return numbers


def _not_numbers(values: Any) -> Iterator[Any]:
    """Yield the cells that are no numbers."""
    for value in values:
        try:
            float(value or 0)
        except (ValueError, TypeError):
            yield value


def _as_categories(values: Any, name: str, known: list[str]) -> Any:
    """Return a column as an array (N,) of texts, "" where a cell is empty."""
    texts = values.astype(object).where(values.notna(), "")
    for value in texts:
        if not isinstance(value, str) and str(value) not in known:
            shown = ", ".join(map(repr, known[:3]))
            raise DataError(f"column {name!r} holds {value!r}. Texts such as {shown} are expected, as in training.")
    return texts.map(str).to_numpy(object)

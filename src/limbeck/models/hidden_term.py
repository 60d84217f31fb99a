"""The settings of a term of the loss that compares the hidden states of two language models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from limbeck.field_checks import check_fields


@dataclass(frozen=True)
class HiddenTerm:
    """The settings of the term of hidden states: loss = soft and hard terms + weight * distance.

    Raises:
        ArgumentError: a field has another type or is out of range.
    """

    weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    """The weight of the term, which is added to the others."""
    layers: list[Annotated[int, Field(ge=0)]] | None = None
    """The teacher's layer for each layer of the student, from 0 on, as in [9, 19, 29]. By default they are spaced evenly, and
    the last layer of the student has the last one of the teacher."""
    distance: Literal["mse", "cosine"] = "mse"
    """"mse", the mean over the width of the squared difference; or "cosine", 1 minus the cosine."""

    def __post_init__(self) -> None:
        check_fields(self)


def even_layers(count: int, total: int) -> list[int]:
    """Return evenly spaced layers of a teacher for the layers of a student; the last layers are a pair.

    Args:
        count: the layers of the student.
        total: the layers of the teacher.

    Example:
        >>> even_layers(3, 30)
        [9, 19, 29]
    """
    return [round((i + 1) * total / count) - 1 if total >= count else i * total // count for i in range(count)]

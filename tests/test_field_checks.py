from dataclasses import dataclass, field
from typing import Annotated, Literal

import pytest
from pydantic import Field

from limbeck.errors import ArgumentError
from limbeck.field_checks import check_fields


@dataclass(frozen=True)
class Inner:
    size: int = 1


@dataclass(frozen=True)
class Checked:
    count: Annotated[int, Field(gt=0)] = 1
    kind: Literal["a", "b"] | None = None
    values: float | tuple[float, ...] = 0.0
    inner: Inner = field(default_factory=Inner)

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class Derived(Checked):
    name: str = ""


def test_what_fits_is_left_as_it_is():
    given = dict(count=3, kind="b", values=(1, 2.5), inner=Inner(4))
    checked = Checked(**given)
    assert all(getattr(checked, name) is value for name, value in given.items())


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("count", 0, "should be greater than 0, got 0."),
        ("count", True, "should be a valid integer, got True."),
        ("count", "3", "should be a valid integer, got '3'."),
        ("kind", "c", "should be 'a' or 'b', got 'c'."),
        ("values", "x", "should be a valid number or should be a valid tuple, got 'x'."),
        ("inner", {"size": 1}, "should be an instance of Inner, got {'size': 1}."),
        ("name", 3, "should be a valid string, got 3."),
    ],
)
def test_what_does_not_fit_is_named(argument, value, message):
    with pytest.raises(ArgumentError) as caught:
        Derived(**{argument: value})
    assert (caught.value.argument, caught.value.message) == (argument, message)

"""Check that the fields of a dataclass have the types and ranges of their annotations.

A config that is built in Python is then refused for the same reasons as one that is read from YAML.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Sequence
from functools import cache
from typing import Any

from limbeck.errors import ArgumentError

if typing.TYPE_CHECKING:
    from pydantic import TypeAdapter


def check_fields(instance: Any, error_type: type[ArgumentError] = ArgumentError) -> None:
    """Compare each field of a dataclass with its annotation; call it in ``__post_init__``.

    Args:
        instance: the dataclass instance. Its annotations may carry ranges, as in ``Annotated[int, Field(gt=0)]``.
        error_type: the error to raise.

    Raises:
        ArgumentError: a field has another type than its annotation, or is out of range. Nothing is converted.
    """
    from pydantic import ValidationError

    for name, adapter in _adapters(type(instance)).items():
        try:
            adapter.validate_python(getattr(instance, name), strict=True)
        except ValidationError as error:
            message = expectation(error.errors())
            raise error_type(name, message if message.endswith((".", "?")) else f"{message}.") from None


def expectation(details: Sequence[Any]) -> str:
    """Return what pydantic expected of one value and what it got, as in "should be greater than 0, got -1".

    Args:
        details: what ``ValidationError.errors()`` says about the value; more than one for a union.
    """
    causes = [detail.get("ctx", {}).get("error") for detail in details]
    if all(isinstance(cause, ArgumentError) for cause in causes):
        return " ".join(cause.message for cause in causes)
    expected = dict.fromkeys(_plain(detail["msg"]) for detail in details)
    return f"{' or '.join(expected)}, got {details[0]['input']!r}"


def _plain(message: str) -> str:
    return message.removeprefix("Value error, ").replace("Input should", "should").replace("an object", "a section")


@cache
def _adapters(cls: type[Any]) -> dict[str, TypeAdapter[Any]]:
    from pydantic import TypeAdapter

    hints = typing.get_type_hints(cls, include_extras=True)
    return {field.name: TypeAdapter(hints[field.name]) for field in dataclasses.fields(cls)}

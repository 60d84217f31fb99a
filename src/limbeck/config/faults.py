"""The faults of a config, one line for each: where the key was written, the key, what is expected and what was given."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ValidationError

from limbeck.errors import ArgumentError, suggestion
from limbeck.field_checks import expectation

KeyPath = tuple[str | int, ...]
"""The keys that lead to a value, from the top of the config."""


@dataclass(frozen=True)
class Origin:
    """Where each key of a config was written. All origins are equal, so that configs are compared by their values alone."""

    name: str = field(default="", compare=False)
    """The name of the config's file, or another name for it; empty for a config that was made in Python."""
    lines: Mapping[KeyPath, int] = field(default_factory=dict, compare=False)
    """The line of each key in the file, from 1."""
    overrides: Mapping[KeyPath, str] = field(default_factory=dict, compare=False)
    """The text of each override, by the keys that it sets."""

    def line(self, path: KeyPath) -> int:
        """Return the line of a key, or of the nearest section around it that was written; 0 if there is none.

        Args:
            path: the keys that lead to the key.
        """
        return next((self.lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in self.lines), 0)

    def place(self, path: KeyPath) -> str:
        """Return the file and line of a key, or the override that set it.

        Args:
            path: the keys that lead to the key.
        """
        prefixes = [path[:length] for length in range(len(path), -1, -1)]
        for prefix in prefixes:  # an override replaces the whole section that the file has there
            if prefix in self.overrides:
                return f"--set {self.overrides[prefix]}"
        return next((f"{self.name}:{self.lines[prefix]}" for prefix in prefixes if prefix in self.lines), self.name)

    def fault(self, path: KeyPath, message: str) -> str:
        """Return the line of an error: where a key was written, the key, and what is wrong with it.

        Args:
            path: the keys that lead to the key.
            message: what is wrong.
        """
        place = self.place(path)
        return f"{place}{'  ' if place else ''}{'.'.join(map(str, path))}: {message}"


def validation_faults(
    error: ValidationError, prefix: tuple[str, ...], values: Any, schema: type[Any], origin: Origin
) -> list[str]:
    """Return one line for each key at fault, in the order of the file.

    Args:
        error: what pydantic found. It reports each branch of a union by itself, which are one fault here.
        prefix: the keys that lead to the part of the config that was validated.
        values: the whole config, as it was written.
        schema: the pydantic model that the part was validated by.
        origin: where each key was written.
    """
    grouped: dict[KeyPath, list[Any]] = {}
    for detail in error.errors():
        path: KeyPath = prefix + detail["loc"]
        if detail["type"] != "missing":
            path = _written(values, path)
        cause = detail.get("ctx", {}).get("error")
        if isinstance(cause, ArgumentError) and cause.argument:
            path += tuple(cause.argument.split("."))
        grouped.setdefault(path, []).append(detail)
    return [
        origin.fault(path, _message(details, path[len(prefix) :], schema))
        for path, details in sorted(grouped.items(), key=lambda item: origin.line(item[0]))
    ]


def _message(details: Sequence[Any], path: KeyPath, schema: type[Any]) -> str:
    """Return what is wrong with one key."""
    kinds = {detail["type"] for detail in details}
    if kinds <= {"extra_forbidden", "unexpected_keyword_argument"}:
        return "unknown key" + _suggestion(path, schema)
    if kinds == {"missing"}:
        return "missing"
    return expectation(details)


def _written(values: Any, path: KeyPath) -> KeyPath:
    """Return the part of ``path`` that the user wrote, without the names of a union's branches that pydantic adds."""
    for i, key in enumerate(path):
        try:
            values = values[key]
        except (KeyError, IndexError, TypeError):
            return path[:i]
    return path


def _suggestion(path: KeyPath, schema: type[Any]) -> str:
    """Return the known key that is most like the last one of ``path``, or else the list of the known keys."""
    for key in path[:-1]:
        annotation = typing.get_type_hints(schema).get(str(key))
        candidates = [annotation, *typing.get_args(annotation)]
        schema = next((candidate for candidate in candidates if _is_section(candidate)), schema)
    known = list(schema.model_fields) if issubclass(schema, BaseModel) else [f.name for f in dataclasses.fields(schema)]
    return suggestion(path[-1], known)


def _is_section(candidate: Any) -> bool:
    return isinstance(candidate, type) and (issubclass(candidate, BaseModel) or dataclasses.is_dataclass(candidate))

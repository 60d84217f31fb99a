"""From YAML to a ``Config``, with every fault told at once and its line; and back."""

from __future__ import annotations

import dataclasses
import difflib
import enum
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from limbeck.atomic_files import atomic_write
from limbeck.config.schema import Config
from limbeck.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class _Origin:
    """Where each key of a config was written."""

    name: str
    lines: Mapping[tuple[str | int, ...], int]
    overrides: Mapping[tuple[str, ...], str]

    def line(self, path: tuple[str | int, ...]) -> int:
        return next((self.lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in self.lines), 0)

    def place(self, path: tuple[str | int, ...]) -> str:
        for length in range(len(path), -1, -1):
            prefix = path[:length]
            if prefix in self.overrides:
                return f"--set {self.overrides[prefix]}"  # pyright: ignore[reportArgumentType]
            if prefix in self.lines:
                return f"{self.name}:{self.lines[prefix]}"
        return self.name


def load_config(path: str | Path, overrides: Sequence[str] = (), *, training: bool = True) -> Config:
    """Read a YAML file, with ``key=value`` overrides, into a ``Config``.

    Args:
        path: the file.
        overrides: such as ``"distillation.temperature=2"``; values are YAML.
        training: check the ``training`` sections too, which needs Transformers.

    Raises:
        ConfigError: with one line for each fault: the file and line (or the override), the key, what was given and what is
            expected.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}). Expected a YAML file.") from None
    values, lines = _parse(text, str(path))
    return _validate(values, _Origin(str(path), lines, _apply(values, overrides)), training)


def config_from(values: Mapping[str, Any], overrides: Sequence[str] = (), *, name: str = "config") -> Config:
    """The same from a mapping."""
    copied = _copy(values)
    return _validate(copied, _Origin(name, {}, _apply(copied, overrides)), training=True)


def write_config(config: Config, path: str | Path) -> None:
    """Write a config, with every default filled in, so that it can be read again."""
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # pyright: ignore[reportAttributeAccessIssue]
    with atomic_write(Path(path)) as aside, aside.open("w", encoding="utf-8") as file:
        yaml.dump(config.model_dump(), file)


def _validate(values: dict[str, Any], origin: _Origin, training: bool) -> Config:
    faults: list[str] = []
    config = None
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        faults += _faults(error, (), values, Config, origin)
    if training:
        teacher = values.get("teacher")
        sections: dict[tuple[str, ...], Any] = {("training",): values.get("training")}
        if isinstance(teacher, dict):
            sections["teacher", "training"] = teacher.get("training")
        for path, section in sections.items():
            if isinstance(section, dict):
                faults += _training_faults(section, path, values, origin)
    if faults or config is None:
        raise ConfigError(*faults)
    return config


def _training_faults(
    section: dict[str, Any], path: tuple[str, ...], values: dict[str, Any], origin: _Origin
) -> list[str]:
    model = training_model()
    try:
        model.model_validate(section)
    except ValidationError as error:
        return _faults(error, path, values, model, origin)
    return []


_training_model: type[BaseModel] | None = None


def training_model() -> type[BaseModel]:
    """A strict schema of ``transformers.TrainingArguments``, which itself checks no types."""
    global _training_model
    if _training_model is None:
        from transformers import TrainingArguments

        hints = typing.get_type_hints(TrainingArguments)
        fields: dict[str, Any] = {
            field.name: (_without_free_text(hints[field.name]), None)
            for field in dataclasses.fields(TrainingArguments)
            if field.init
        }
        config = ConfigDict(extra="forbid", strict=True, arbitrary_types_allowed=True, protected_namespaces=())
        _training_model = create_model("TrainingArguments", __config__=config, **fields)
    return _training_model


def _without_free_text(hint: Any) -> Any:
    """``SchedulerType | str`` takes any text; narrow it to the texts that the enumeration knows."""
    for choice in typing.get_args(hint):
        if isinstance(choice, type) and issubclass(choice, enum.Enum):
            return Literal[tuple(member.value for member in choice)]
    return hint


def _faults(
    error: ValidationError,
    prefix: tuple[str, ...],
    values: Any,
    model: type[BaseModel],
    origin: _Origin,
) -> list[str]:
    """One line for each key at fault; the branches of a union are one fault."""
    grouped: dict[tuple[str | int, ...], list[Any]] = {}
    for detail in error.errors():
        path: tuple[str | int, ...] = prefix + detail["loc"]
        if detail["type"] != "missing":
            path = _existing(values, path)
        grouped.setdefault(path, []).append(detail)
    lines = []
    for path, details in sorted(grouped.items(), key=lambda item: origin.line(item[0])):
        key = ".".join(map(str, path))
        kinds = {detail["type"] for detail in details}
        if kinds == {"extra_forbidden"}:
            message = "unknown key" + _suggestion(path[len(prefix) :], model)
        elif kinds == {"missing"}:
            message = "missing"
        else:
            expected = " or ".join(dict.fromkeys(_expected(detail["msg"]) for detail in details))
            message = f"{expected}, got {details[0]['input']!r}"
        lines.append(f"{origin.place(path)}  {key}: {message}")
    return lines


def _expected(message: str) -> str:
    return message.removeprefix("Value error, ").replace("Input should", "should")


def _existing(values: Any, path: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """The part of ``path`` that the user wrote: pydantic adds the names of a union's branches."""
    for i, key in enumerate(path):
        try:
            values = values[key]
        except (KeyError, IndexError, TypeError):
            return path[:i]
    return path


def _suggestion(path: Sequence[str | int], model: type[BaseModel]) -> str:
    for key in path[:-1]:
        field = model.model_fields.get(str(key))
        candidates = [] if field is None else [field.annotation, *typing.get_args(field.annotation)]
        model = next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), model)
    known = list(model.model_fields)
    close = difflib.get_close_matches(str(path[-1]), known, n=1)
    if close:
        return f", did you mean {close[0]}?"
    return f"; known are {', '.join(known)}" if len(known) <= 25 else ""


def _parse(text: str, name: str) -> tuple[dict[str, Any], dict[tuple[str | int, ...], int]]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        values = YAML(typ="safe", pure=True).load(text)
        tree = YAML(typ="rt").load(text)
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = name if mark is None else f"{name}:{mark.line + 1}"
        problem = getattr(error, "problem", None) or str(error)
        raise ConfigError(f"{place}  not YAML: {problem}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{name}: expected keys and values, got {type(values).__name__}.")
    lines: dict[tuple[str | int, ...], int] = {}
    _collect_lines(tree, (), lines)
    return values, lines


def _collect_lines(node: Any, path: tuple[str | int, ...], lines: dict[tuple[str | int, ...], int]) -> None:
    from ruamel.yaml.comments import CommentedMap, CommentedSeq

    if isinstance(node, CommentedMap):
        items: Any = [(key, value, node.lc.key(key)) for key, value in node.items()]
    elif isinstance(node, CommentedSeq):
        items = [(key, value, node.lc.item(key)) for key, value in enumerate(node)]
    else:
        return
    for key, value, position in items:
        lines[(*path, key)] = position[0] + 1
        _collect_lines(value, (*path, key), lines)


def _apply(values: dict[str, Any], overrides: Sequence[str]) -> dict[tuple[str, ...], str]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    applied = {}
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator or not key:
            raise ConfigError(f"--set {override}: expected key=value, such as distillation.temperature=2")
        try:
            value = YAML(typ="safe", pure=True).load(text)
        except YAMLError:
            raise ConfigError(f"--set {override}: {text!r} is not YAML.") from None
        *parents, last = key.split(".")
        section = values
        for parent in parents:
            if not isinstance(section.get(parent), dict):
                section[parent] = {}
            section = section[parent]
        section[last] = value
        applied[(*parents, last)] = override
    return applied


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value

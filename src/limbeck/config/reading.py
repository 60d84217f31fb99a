"""From YAML to a ``Config``, with every fault told at once and its line; and back."""

from __future__ import annotations

import dataclasses
import enum
import json
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from limbeck.atomic_files import atomic_write
from limbeck.config.faults import Origin, validation_faults
from limbeck.config.schema import Config
from limbeck.errors import ConfigError


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
    return _validate(values, Origin(str(path), lines, _apply(values, overrides)), training)


def config_from(values: Mapping[str, Any], overrides: Sequence[str] = (), *, name: str = "config") -> Config:
    """The same from a mapping."""
    copied = _copy(values)
    return _validate(copied, Origin(name, {}, _apply(copied, overrides)), training=True)


def write_config(config: Config, path: str | Path) -> None:
    """Write a config, with every default filled in, so that it can be read again."""
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # pyright: ignore[reportAttributeAccessIssue]
    with atomic_write(Path(path)) as aside, aside.open("w", encoding="utf-8") as file:
        yaml.dump(config.model_dump(), file)


def _validate(values: dict[str, Any], origin: Origin, training: bool) -> Config:
    faults: list[str] = []
    config = None
    try:
        # As JSON, strict types still take what YAML can write: mappings for dataclasses, lists for tuples.
        config = Config.model_validate_json(json.dumps(values, default=str))
    except ValidationError as error:
        faults += validation_faults(error, (), values, Config, origin)
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
    section: dict[str, Any], path: tuple[str, ...], values: dict[str, Any], origin: Origin
) -> list[str]:
    model = training_model()
    try:
        model.model_validate(section)
    except ValidationError as error:
        return validation_faults(error, path, values, model, origin)
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


def _apply(values: dict[str, Any], overrides: Sequence[str]) -> dict[tuple[str | int, ...], str]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    applied: dict[tuple[str | int, ...], str] = {}
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

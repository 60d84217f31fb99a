"""From YAML to a ``Config``, with every fault and its line reported at once; and from a ``Config`` to YAML."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from limbeck.atomic_files import atomic_write
from limbeck.config.faults import KeyPath, Origin, validation_faults
from limbeck.config.language import with_task_of_models
from limbeck.config.schema import Config
from limbeck.config.training_arguments import training_faults
from limbeck.errors import ArgumentError, ConfigError
from limbeck.models import ModelConfig, model_faults


def load_config(path: str | Path, overrides: Sequence[str] = (), *, training: bool = True) -> Config:
    """Read a config from a YAML file.

    Args:
        path: the file.
        overrides: keys that replace those of the file, such as ``"distillation.temperature=2"``. Values are YAML.
        training: check what a training needs as well: the names and settings of the models, which imports a function that one
            of them names, and the ``training`` sections, which imports Transformers.

    Returns:
        The config, with every default filled in.

    Raises:
        ConfigError: the file cannot be read, or the config has faults. There is one line for each fault: the file and the line
            (or the override), the key, what was given and what is expected.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}). Expected a YAML file.") from None
    values, lines = _parse(text, str(path))
    return _validate(values, Origin(str(path), lines, _apply_overrides(values, overrides)), training)


def config_from(values: Mapping[str, Any], overrides: Sequence[str] = (), *, name: str = "config") -> Config:
    """Make a config from a mapping.

    Args:
        values: sections and keys, as in a YAML file. It is left as it is.
        overrides: keys that replace those of the mapping, such as ``"distillation.temperature=2"``. Values are YAML.
        name: what the mapping is called in the lines of an error.

    Returns:
        The config, with every default filled in.

    Raises:
        ConfigError: the config has faults; there is one line for each.
    """
    copied = _with_text_keys(values)
    return _validate(copied, Origin(name, {}, _apply_overrides(copied, overrides)), training=True)


def write_config(config: Config, path: str | Path) -> None:
    """Write a config with every default filled in, so that it can be read again.

    Args:
        config: the config.
        path: the YAML file to write; a file that is there is replaced.
    """
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # pyright: ignore[reportAttributeAccessIssue]
    values = config.model_dump()
    # ruamel.yaml loses the character U+0085 unless it escapes every character beyond ASCII.
    yaml.allow_unicode = "\x85" not in json.dumps(values, ensure_ascii=False, default=str)
    with atomic_write(Path(path)) as aside, aside.open("w", encoding="utf-8") as file:
        yaml.dump(values, file)


def _validate(values: dict[str, Any], origin: Origin, training: bool) -> Config:
    """Return the config that ``values`` describe, or raise all of their faults at once."""
    faults: list[str] = []
    config = None
    try:
        # As JSON, strict types still take what YAML can write: mappings for dataclasses, lists for tuples.
        config = Config.model_validate_json(json.dumps(values, default=_as_yaml_value), context=origin)
    except ValidationError as error:
        faults += validation_faults(error, (), values, Config, origin)
    if training:
        faults += _model_faults(values, origin)
        teacher = values.get("teacher")
        sections: dict[tuple[str, ...], Any] = {("training",): values.get("training")}
        if isinstance(teacher, dict):
            sections["teacher", "training"] = teacher.get("training")
        for path, section in sections.items():
            if isinstance(section, dict):
                faults += training_faults(section, path, values, origin)
    if faults or config is None:
        raise ConfigError(*faults)
    return with_task_of_models(config) if training else config


def _model_faults(values: dict[str, Any], origin: Origin) -> list[str]:
    """Return one line for each fault of the models' names and settings; what has a wrong type is told elsewhere."""
    faults = []
    for section in ("student", "teacher"):
        try:
            keys = {
                field.name: values[section][field.name]
                for field in fields(ModelConfig)
                if field.name in values[section]
            }
            model = ModelConfig(**keys)
        except (ArgumentError, TypeError, KeyError):
            continue
        found = model_faults(model) if model.model else {}
        faults += [origin.fault((section, *key.split(".")), message) for key, message in found.items()]
    return faults


def _as_yaml_value(value: Any) -> Any:
    """Return what JSON should hold in place of a value of another type; only dates, which YAML can write, become text."""
    if isinstance(value, datetime.date):
        return value.isoformat()
    raise ConfigError(
        f"{value!r} ({type(value).__name__}): not a value that a config can hold. Expected numbers, texts, true, false, null, "
        "and mappings and lists of these. A NumPy number becomes one by .item()."
    )


def _parse(text: str, name: str) -> tuple[dict[str, Any], dict[KeyPath, int]]:
    """Return the values of a YAML text, and the line of each key."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    lines: dict[KeyPath, int] = {}
    try:
        values = YAML(typ="safe", pure=True).load(text)
        _collect_lines(YAML(typ="safe", pure=True).compose(text), (), lines)
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = name if mark is None else f"{name}:{mark.line + 1}"
        problem = getattr(error, "problem", None) or str(error)
        said = ", ".join(filter(None, [getattr(error, "context", None), problem]))
        hint = ". Indent with spaces, not with tabs." if "'\\t'" in said else ""
        raise ConfigError(f"{place}  not YAML: {' '.join(said.split())}{hint}") from None
    except RecursionError:
        raise ConfigError(f"{name}: an alias stands inside of what it names. Write the values out.") from None
    if not isinstance(values, dict):
        raise ConfigError(
            f"{name}: expected keys and values, got {'nothing' if values is None else type(values).__name__}."
        )
    return _with_text_keys(values), lines


def _collect_lines(node: Any, path: KeyPath, lines: dict[KeyPath, int]) -> None:
    """Add the line of each key of a YAML node, which stands at ``path``, to ``lines``.

    A key that ``<<`` merges has the line where it was written.
    """
    from ruamel.yaml.nodes import MappingNode, SequenceNode

    if len(path) > 100:
        raise RecursionError
    if isinstance(node, SequenceNode):
        for index, item in enumerate(node.value):
            lines[(*path, index)] = item.start_mark.line + 1
            _collect_lines(item, (*path, index), lines)
    if not isinstance(node, MappingNode):
        return
    is_merge = {id(key): key.tag == "tag:yaml.org,2002:merge" for key, _ in node.value}
    for key, value in sorted(node.value, key=lambda item: not is_merge[id(item[0])]):  # a key's own value comes last
        if is_merge[id(key)]:
            for source in reversed(value.value if isinstance(value, SequenceNode) else [value]):
                _collect_lines(source, path, lines)
            continue
        keys = (*path, str(key.value))
        lines[keys] = key.start_mark.line + 1
        _collect_lines(value, keys, lines)


def _apply_overrides(values: dict[str, Any], overrides: Sequence[str]) -> dict[KeyPath, str]:
    """Write each override into ``values``, and return its text by the keys that it sets."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    applied: dict[KeyPath, str] = {}
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
        for i, parent in enumerate(parents):
            if not isinstance(section.get(parent), dict):
                section[parent] = {}
                applied[tuple(parents[: i + 1])] = override
            section = section[parent]
        section[last] = _with_text_keys(value)
        applied[(*parents, last)] = override
    return applied


def _with_text_keys(value: Any) -> Any:
    """Return a copy whose mappings have text keys: YAML reads ``1: x`` as a number, and every key of a config is text."""
    if isinstance(value, Mapping):
        return {str(key): _with_text_keys(item) for key, item in value.items()}
    return [_with_text_keys(item) for item in value] if isinstance(value, list | tuple) else value

"""The config of a run: its schema, and how a YAML file becomes one with every fault told at once, with its line."""

from __future__ import annotations

import dataclasses
import difflib
import enum
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, field_validator, model_validator

from limbeck.errors import ConfigError
from limbeck.files import written_whole

PositiveInt = Annotated[int, Field(gt=0)]
Temperature = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """A part of the config: unknown keys are faults, and nothing is converted silently."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class AugmentationConfig(Section):
    """Random views of an image, the same for teacher and student."""

    shift: Annotated[int, Field(ge=0)] = 0
    """Pixels."""
    flip: bool = False
    mixup: Annotated[float, Field(ge=0)] = 0.0
    """The Beta distribution's parameter; 0 for none."""


class DataConfig(Section):
    """Which examples, and which of their labels are known."""

    name: str = "digits"
    """"digits", "fashion-mnist", a Hugging Face id, a data set saved to disk, a CSV, JSONL or Parquet file, or a folder with
    one folder of images for each class."""
    folder: str | None = None
    """Where the IDX files of Fashion-MNIST are."""
    validation: str | None = None
    """The file with validation examples, beside a ``name`` that is a file."""
    test: str | None = None
    labelled: PositiveInt | Annotated[float, Field(gt=0, lt=1)] | None = None
    """How many true labels are known: a number, or a share below 1; all by default."""
    transfer: Literal["all", "labelled"] = "all"
    """Which examples the student trains on: the others too, unlabelled, or the labelled ones alone."""
    text_column: str | None = None
    label_column: str | None = None
    image_column: str | None = None
    image_size: PositiveInt | None = None
    channels: Literal[1, 3] | None = None
    mean: float | list[float] = 0.0
    """Taken from each channel of the pixels, which go from 0 to 1."""
    std: Annotated[float, Field(gt=0)] | list[Annotated[float, Field(gt=0)]] = 1.0
    tokenizer: str | None = None
    """The Hugging Face id or folder of the tokenizer that teacher and student share."""
    max_length: PositiveInt = 128
    augmentation: AugmentationConfig = AugmentationConfig()


class ModelConfig(Section):
    """A model by name."""

    model: str
    """"mlp", "cnn", "resnet", ``package.module:function``, a folder that Limbeck wrote, or a Hugging Face id or folder."""
    settings: dict[str, Any] = {}
    from_scratch: bool = False
    """Of a Hugging Face model, take the architecture alone."""


class TeacherConfig(ModelConfig):
    """The teacher: a model, or a store of what one said; with ``training`` it is trained first, on every true label."""

    model: str = ""
    cache: str | None = None
    """The folder or URL of a store that ``limbeck cache build`` wrote: the student is trained from it, no teacher is run."""
    training: dict[str, Any] | None = None
    augmentation: AugmentationConfig | None = None
    """While the teacher itself is trained; by default as for the student."""

    @model_validator(mode="after")
    def _something(self) -> TeacherConfig:
        if not self.model and self.cache is None:
            raise ValueError("needs a model, or a cache of what one said")
        return self


class DistillationConfig(Section):
    """The objective."""

    temperature: Temperature = 4.0
    teacher_temperature: Temperature | None = None
    alpha: Share = 0.9
    divergence: str = "forward_kl"
    beta: Share = 0.5
    skew: Annotated[float, Field(ge=0, lt=1)] = 0.1
    compensate: bool | Literal["curvature"] = True

    @property
    def target_temperature(self) -> float:
        """The teacher's T."""
        return self.teacher_temperature or self.temperature

    @field_validator("divergence")
    @classmethod
    def _known(cls, name: str) -> str:
        from limbeck.losses import DIVERGENCES

        if name not in DIVERGENCES:
            raise ValueError(f"should be one of {', '.join(DIVERGENCES)}")
        return name


class CacheConfig(Section):
    """What ``limbeck cache build`` keeps of each example."""

    format: Literal["dense", "topk", "sampled", "hidden"] = "dense"
    dtype: Literal["float32", "float16", "bfloat16", "int8"] = "float16"
    k: PositiveInt = 64
    temperatures: list[Temperature] | None = None
    """At which a top-k list can be used; by default the distillation's own."""
    draws: PositiveInt = 12
    views: PositiveInt = 1
    """Of each image, made by ``data.augmentation``; 1 for the image as it is."""
    shard_rows: PositiveInt | None = None
    """Examples in a file; by default as many as make 128 MB."""


class CompareConfig(Section):
    """What ``limbeck compare`` trains: every arm with every seed."""

    seeds: PositiveInt = 5
    """How many; they are seed, seed + 1, ..., and draw the known labels too."""
    temperatures: Annotated[list[Temperature], Field(min_length=1)] = [1.0, 4.0]


class Config(Section):
    """A run."""

    out: str = "runs/distilled"
    """The run's folder."""
    seed: Annotated[int, Field(ge=0)] = 0
    data: DataConfig = DataConfig()
    teacher: TeacherConfig
    student: ModelConfig
    distillation: DistillationConfig = DistillationConfig()
    training: dict[str, Any] = {}
    """Arguments of ``transformers.TrainingArguments``."""
    compare: CompareConfig = CompareConfig()
    cache: CacheConfig = CacheConfig()


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
    with written_whole(Path(path)) as aside, aside.open("w", encoding="utf-8") as file:
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

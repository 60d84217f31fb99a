"""The keys of a config, section by section: their types, defaults and meaning."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from limbeck.store import CacheConfig

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

    @property
    def is_on(self) -> bool:
        """Whether a student sees anything but the image as it is."""
        return bool(self.shift or self.flip or self.mixup)


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


def _known(divergence: str) -> str:
    from limbeck.losses import DIVERGENCES

    if divergence not in DIVERGENCES:
        raise ValueError(f"should be one of {', '.join(DIVERGENCES)}")
    return divergence


class DistillationConfig(Section):
    """The objective."""

    temperature: Any = 4.0
    """A number; "auto" to let ``limbeck temperature search`` choose it first; or a policy, as in {policy: linear, start: 8}."""
    teacher_temperature: Temperature | None = None
    alpha: Share = 0.9
    divergence: str = "forward_kl"
    beta: Share = 0.5
    skew: Annotated[float, Field(ge=0, lt=1)] = 0.1
    compensate: bool | Literal["curvature"] = True

    @property
    def target_temperature(self) -> float | None:
        """The teacher's T; None where a policy changes it."""
        if isinstance(self.temperature, dict):
            return self.temperature.get("temperature", 4.0) if self.temperature["policy"] == "teacher_only" else None
        return self.teacher_temperature or (None if self.temperature == "auto" else self.temperature)

    @field_validator("temperature")
    @classmethod
    def _number_or_policy(cls, value: Any) -> Any:
        if isinstance(value, dict):
            from limbeck.temperature import policy_from

            try:
                policy_from(value)
            except ValueError as error:
                raise ValueError(str(error).removeprefix("temperature").lstrip(".: ")) from None
            return value
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if value != "auto" and not (number and 0 < value < math.inf):
            raise ValueError("should be greater than 0, or auto, or a policy as in {policy: linear, start: 8, end: 1}")
        return float(value) if number else value

    @field_validator("divergence")
    @classmethod
    def _is_known(cls, name: str) -> str:
        return _known(name)


class SearchConfig(Section):
    """What ``limbeck temperature search`` tries; the defaults take 12 trainings."""

    temperatures: Annotated[list[Temperature], Field(min_length=3)] = [
        0.5,
        1.0,
        1.5,
        2.0,
        3.0,
        4.0,
        6.0,
        8.0,
        12.0,
        20.0,
    ]
    seeds: Annotated[int, Field(ge=2)] = 3
    """Of each temperature, at most."""
    batches: list[PositiveInt] = [3, 2]
    """How many promising students are trained, in each of the rounds after the first."""
    alphas: list[Share] = []
    """Other values of alpha, tried at the chosen temperature."""
    divergences: list[str] = []
    """Other divergences, likewise; they are compensated for their curvature."""

    @field_validator("divergences")
    @classmethod
    def _are_known(cls, names: list[str]) -> list[str]:
        return [_known(name) for name in names]


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
    search: SearchConfig = SearchConfig()
    cache: CacheConfig = CacheConfig()

"""The keys of a config, section by section: their types, defaults and meaning."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from limbeck.data import Augmentation, DataConfig
from limbeck.errors import ArgumentError
from limbeck.models import ModelConfig
from limbeck.store import CacheConfig
from limbeck.temperature import SearchPlan

PositiveInt = Annotated[int, Field(gt=0)]
Temperature = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]


class StrictModel(BaseModel):
    """A part of the config: unknown keys are faults, and nothing is converted silently."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


@dataclass(frozen=True)
class TeacherConfig(ModelConfig):
    """The teacher: a model, or a store of a teacher's outputs. With ``training`` it is trained first, on every true label."""

    model: str = ""
    """As for the student. It may be left out where there is a cache."""
    cache: str | None = None
    """The folder or URL of a store that ``limbeck cache build`` wrote. The student is trained from it; no
    teacher is run."""
    training: dict[str, Any] | None = None
    """Arguments of ``transformers.TrainingArguments`` for training the teacher; by default the model is used as it is."""
    augmentation: Augmentation | None = None
    """Random views while the teacher itself is trained; by default the same as for the student."""

    def __post_init__(self) -> None:
        if not self.model and self.cache is None:
            raise ValueError("needs a model, or a cache of what one said")


def _known(divergence: str) -> str:
    from limbeck.losses import DIVERGENCES

    if divergence not in DIVERGENCES:
        raise ValueError(f"should be one of {', '.join(DIVERGENCES)}")
    return divergence


class DistillationConfig(StrictModel):
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
                policy_from(value, argument="")
            except ArgumentError as error:
                raise ValueError(str(error) if error.argument else error.message) from None
            return value
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if value != "auto" and not (number and 0 < value < math.inf):
            raise ValueError("should be greater than 0, or auto, or a policy as in {policy: linear, start: 8, end: 1}")
        return float(value) if number else value

    @field_validator("divergence")
    @classmethod
    def _is_known(cls, name: str) -> str:
        return _known(name)


class CompareConfig(StrictModel):
    """What ``limbeck compare`` trains: every arm with every seed."""

    seeds: PositiveInt = 5
    """How many; they are seed, seed + 1, ..., and draw the known labels too."""
    temperatures: Annotated[list[Temperature], Field(min_length=1)] = [1.0, 4.0]


class Config(StrictModel):
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
    search: SearchPlan = SearchPlan()
    cache: CacheConfig = CacheConfig()

"""The keys of a config, section by section: their types, defaults and meaning.

The sections ``data`` and ``student``, and the augmentation, are the dataclasses of ``limbeck.data`` and ``limbeck.models``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationInfo, field_validator, model_validator

from limbeck.config.faults import Origin
from limbeck.data import Augmentation, DataConfig
from limbeck.errors import ArgumentError
from limbeck.losses import DEFAULT_ALPHA, DEFAULT_TEMPERATURE
from limbeck.losses.divergences import resolve_divergence
from limbeck.models import ModelConfig
from limbeck.models.hidden_term import HiddenTerm
from limbeck.models.shrink import TeacherLayers
from limbeck.own_code import is_own
from limbeck.store import CacheConfig
from limbeck.tasks import TASKS
from limbeck.temperature import SearchPlan
from limbeck.temperature.policies import POLICY_SETS_BOTH

PositiveInt = Annotated[int, Field(gt=0)]
Temperature = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class StrictModel(BaseModel):
    """A part of the config. Unknown keys are faults, and no value is converted to another type."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


FILE_KEYS = ("sklearn", "onnx")
"""The keys that name a teacher by a file of another library."""


@dataclass(frozen=True)
class TrainedConfig(ModelConfig):
    """A model that is trained already, of any kind.

    Raises:
        ArgumentError: a field has another type, or several models are named.
    """

    model: str = ""
    """The teacher's model, which is named as the student's. It may be left out if there is a ``cache``, or a file below."""
    sklearn: str | None = None
    """A fitted estimator or pipeline of scikit-learn, in place of a model: a classifier with ``predict_proba``, or a regressor
    that predicts numbers in the unit of the labels. It is the file that ``skops.io.dump`` wrote."""
    trusted: list[str] = field(default_factory=list)
    """The types in the file of ``sklearn`` that are loaded although skops does not know them, as package.Class. Loading them
    may run code of theirs."""
    onnx: str | None = None
    """An ONNX file with a dynamic batch axis, in place of a model. Its inputs are given the entries of a batch that have their
    names; a file with one input takes whatever the batch has. ``outputs`` says what it returns."""
    outputs: Literal["logits", "probabilities"] = "logits"
    """What the teacher returns: "logits"; or "probabilities", rows in [0, 1] that sum to 1, whose logarithms serve as logits. A
    store keeps logits in either case."""

    @property
    def key(self) -> str:
        """Return the key that names the model: "model", or the kind of file that it is in."""
        return next((key for key in FILE_KEYS if getattr(self, key) is not None), "model")

    @property
    def name(self) -> str:
        """Return the name of the model, or of the file that it is in."""
        return getattr(self, self.key)

    def __post_init__(self) -> None:
        super().__post_init__()
        named = [key for key in ("model", *FILE_KEYS) if getattr(self, key)]
        if len(named) > 1:
            raise ArgumentError(
                named[-1], f"stands beside {named[0]}, and one of them is the teacher. Leave out the other."
            )
        if self.trusted and self.sklearn is None:
            raise ArgumentError("trusted", "has no effect without the file of an estimator in sklearn. Leave it out.")


@dataclass(frozen=True)
class MemberConfig(TrainedConfig):
    """One of several teachers.

    Raises:
        ArgumentError: a field has another type, or there is no model.
    """

    weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    """Its weight in the average; the weights are divided by their sum."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.name:
            raise ArgumentError("model", "missing. Name a model, or a file in sklearn or onnx.")


@dataclass(frozen=True)
class TeacherConfig(TrainedConfig):
    """The teacher: a model, a fitted estimator, several of them, or a store of a teacher's outputs.

    Raises:
        ArgumentError: a field has another type, there is neither a model nor a store, there are two kinds of models, or
            a teacher of probabilities or an estimator or an ensemble is to be trained.
    """

    ensemble: Annotated[list[MemberConfig], Field(min_length=2)] | None = None
    """Several trained teachers in place of one, each with a ``model``, ``sklearn`` or ``onnx`` and, if it is to count more or
    less, a ``weight``. Their columns are matched with the data's classes by name, each by itself."""
    average: Literal["logits", "probabilities"] = "probabilities"
    """What is averaged over the ensemble: probabilities, at the temperature of the loss; or logits, which need none."""
    cache: str | None = None
    """The folder or URL of a store that ``limbeck cache build`` wrote. The student is then trained from the store, and no
    teacher is run."""
    training: dict[str, Any] | None = None
    """Arguments of ``transformers.TrainingArguments``, with which the teacher is trained first, on every true label. By default
    the teacher is used as it is."""
    augmentation: Augmentation | None = None
    """The random changes to images while the teacher itself is trained. By default they are those of ``data.augmentation``."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.name and self.cache is None and self.ensemble is None:
            raise ArgumentError("model", "missing. Name a model, or in cache a store of a teacher's outputs.")
        if self.ensemble is not None and self.name:
            raise ArgumentError(
                "ensemble", f"stands beside {self.key}. Leave that out, or make it one of the ensemble."
            )
        if self.training is not None and (self.key != "model" or self.ensemble is not None):
            raise ArgumentError("training", "is for one model of PyTorch, and these are trained already. Leave it out.")
        if self.training is not None and self.outputs == "probabilities":
            raise ArgumentError(
                "outputs",
                "probabilities are for a teacher that is trained already; one that is trained here has to return logits.",
            )

    @property
    def models(self) -> list[TrainedConfig]:
        """Return the models that are run: those of the ensemble, or the one."""
        return [self] if self.ensemble is None else [*self.ensemble]


@dataclass(frozen=True)
class StudentConfig(ModelConfig):
    """The student: a model, or some layers of the teacher.

    Raises:
        ArgumentError: a field has another type, or there is no model.
    """

    model: str = ""
    """The student's model, which is named as the teacher's. With ``from_teacher`` it may be left out."""
    from_teacher: TeacherLayers | None = None
    """The layers of the teacher, a language model, that the student begins with. Its embeddings and its head are kept."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.model and self.from_teacher is None:
            raise ArgumentError("model", "missing. Name a model, or layers of a language model in from_teacher.")
        if self.from_teacher is not None and self.from_scratch:
            raise ArgumentError(
                "from_scratch", "has no effect beside from_teacher, whose weights are kept. Leave it out."
            )


class DistillationConfig(StrictModel):
    """The objective: alpha * soft term + (1 - alpha) * hard term.

    Classes of the user's own are imported when a run is opened for training, and not here: the config of a run's folder, which
    may come from somebody else, is read without running any code that it names.
    """

    temperature: Any = DEFAULT_TEMPERATURE
    """The temperature of teacher and student in the soft term: a number; "auto", which lets ``limbeck temperature search``
    choose it first; or a policy that changes it in training, such as {policy: linear, start: 8, end: 1}. ``policy`` may also be
    a class of your own, package.module:Class. The default for language models is 1: at a higher T most of the soft term is
    about tokens that never come next, and a small student has no capacity to spare for them."""
    teacher_temperature: Temperature | None = None
    """The teacher's temperature, if it is to differ from the student's. By default both have ``temperature``."""
    alpha: Fraction = DEFAULT_ALPHA
    """The weight of the soft term, from 0 (hard labels alone) to 1 (soft targets alone)."""
    divergence: str | dict[str, Any] = "forward_kl"
    """The divergence of the soft term: "forward_kl", "reverse_kl", "jsd", "skew_kl", "skew_reverse_kl", "tvd", "logit_mse", one
    that was registered, or a class of your own as package.module:Class; or a mapping of its name and its own parameters, as in
    {name: jsd, beta: 0.3}."""
    distance: Literal["mse", "cosine"] | None = None
    """The soft term of regression and of embeddings, which take no temperature: "mse", the default, or "cosine"."""
    beta: Fraction = 0.5
    """The weight of the teacher's distribution in the mixture of "jsd"; at 0.5 the divergence is symmetric."""
    skew: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """How much of the first distribution is mixed into the second one: the teacher's into the student's in "skew_kl", the
    student's into the teacher's in "skew_reverse_kl"."""
    compensate: bool | Literal["curvature"] = True
    """True multiplies the soft term by C(T), which is T squared for most divergences, so that the temperature does not change
    the size of its gradient. False leaves C(T) out. "curvature" also makes the gradients of different divergences alike."""
    alignment: Literal["uld"] | None = None
    """"uld" lets a causal language model learn from one with another tokenizer: the soft term compares the sorted probabilities
    of both models, and the n-th token of a document is paired with the n-th of the teacher's (Boizard et al., 2024). It takes
    the place of ``divergence``. By default other tokenizers are refused."""
    hidden: HiddenTerm | None = None
    """A term that brings the hidden states of two language models together, layer by layer; none by default. It needs the
    teacher itself, because a store keeps no layers."""
    fused_loss: bool | Literal["auto"] = "auto"
    """Whether the loss of a causal language model includes the projection to the vocabulary, so that logits are never whole.
    "auto" does so wherever both models are seen to end in a linear layer, and says why where they do not."""

    @property
    def target_temperature(self) -> float | None:
        """Return the teacher's temperature; None if it changes in training or is not chosen yet."""
        if isinstance(self.temperature, dict):
            return (
                self.temperature.get("temperature", DEFAULT_TEMPERATURE)
                if self.temperature["policy"] == "teacher_only"
                else None
            )
        return self.teacher_temperature or (None if self.temperature == "auto" else self.temperature)

    @field_validator("temperature")
    @classmethod
    def _number_or_policy(cls, value: Any) -> Any:
        if isinstance(value, dict):
            from limbeck.temperature import policy_from

            if is_own(value.get("policy")):
                return value
            try:
                policy_from(value, argument="")
            except ArgumentError as error:
                raise ArgumentError(error.argument, error.message) from None
            return value
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if value != "auto" and not (number and 0 < value < math.inf):
            raise ValueError("should be greater than 0, or auto, or a policy as in {policy: linear, start: 8, end: 1}")
        return float(value) if number else value

    @field_validator("teacher_temperature")
    @classmethod
    def _no_policy_beside_it(cls, teacher_temperature: float | None, info: ValidationInfo) -> float | None:
        if teacher_temperature is not None and isinstance(info.data.get("temperature"), dict):
            raise ArgumentError("", POLICY_SETS_BOTH)
        return teacher_temperature

    @field_validator("alignment")
    @classmethod
    def _replaces_the_divergence(cls, alignment: str | None, info: ValidationInfo) -> str | None:
        if alignment is not None and info.data.get("divergence", "forward_kl") != "forward_kl":
            raise ArgumentError("", "uld has a distance of its own. Leave out divergence, or this.")
        return alignment

    @field_validator("divergence")
    @classmethod
    def _is_known(cls, divergence: str | dict[str, Any]) -> str | dict[str, Any]:
        if is_own(divergence.get("name") if isinstance(divergence, dict) else divergence):
            return divergence
        try:
            resolve_divergence(divergence)
        except ArgumentError as error:
            raise ArgumentError("" if error.argument == "divergence" else error.argument, error.message) from None
        return divergence


class CompareConfig(StrictModel):
    """What ``limbeck compare`` trains: a student of each kind with each seed."""

    seeds: PositiveInt = 5
    """The number of seeds. They are ``seed``, ``seed`` + 1 and so on, and also draw which labels are known."""
    temperatures: Annotated[list[Temperature], Field(min_length=1)] = [1.0, 4.0]
    """The temperatures of the students that are trained with soft targets."""


class Config(StrictModel):
    """A run: its data, teacher and student, and how the student is trained."""

    out: str = "runs/distilled"
    """The folder that the run is written to."""
    seed: Annotated[int, Field(ge=0)] = 0
    """The seed of the student's first weights, of the order of examples, and of which labels are known."""
    task: str = "auto"
    """What the labels are for: "classification"; "multi_label", where each example has a list of classes; "regression", where
    it has a number or a list of them; "dense_prediction", where it has a mask; "token_classification", where each of its words
    has a tag; "causal_lm", where each token of a text has the next one; "masked_lm", where some tokens of a text are masked; or
    "encoder_decoder", where each text has a target. "auto" sees it by the labels, takes numbers without a fraction for classes,
    and sees the last three by the teacher. "embeddings" needs no labels."""
    data: DataConfig = DataConfig()
    """Which examples are used, and how they are read."""
    teacher: TeacherConfig
    """The model whose outputs the student learns, or a store of them."""
    student: StudentConfig
    """The model that is trained."""
    distillation: DistillationConfig = DistillationConfig()
    """The objective that the student minimises."""
    training: dict[str, Any] = {}
    """Arguments of ``transformers.TrainingArguments``, with which the student is trained."""
    compare: CompareConfig = CompareConfig()
    """What ``limbeck compare`` trains."""
    search: SearchPlan = SearchPlan()
    """What ``limbeck temperature search`` tries."""
    cache: CacheConfig = CacheConfig()
    """What ``limbeck cache build`` keeps of the teacher's outputs."""

    @field_validator("task")
    @classmethod
    def _is_a_task(cls, name: str) -> str:
        name = name.replace("-", "_")
        if name != "auto" and name not in TASKS:
            raise ValueError(f"should be auto, or one of {', '.join(TASKS)}")
        return name

    @model_validator(mode="after")
    def _name_the_student(self) -> Config:
        if not self.student.model:
            if not self.teacher.model:
                raise ArgumentError("student.model", "missing: from_teacher needs the model whose layers are kept, and no "
                                    "single one is named in teacher.model.")  # fmt: skip
            object.__setattr__(self, "student", replace(self.student, model=self.teacher.model))
        return self

    _origin: Origin = PrivateAttr(default_factory=Origin)

    def model_post_init(self, context: Any, /) -> None:
        """Keep where each key was written, which ``load_config`` and ``config_from`` pass as pydantic's context."""
        if isinstance(context, Origin):
            self._origin = context

    def fault(self, key: str, message: str) -> str:
        """Return the line of an error about a key, with the file and the line where it was written.

        Args:
            key: the key with its sections, such as "teacher.model".
            message: what is wrong with it, and what is expected.

        Returns:
            The line, such as "run.yaml:3  teacher.model: missing".
        """
        return self._origin.fault(tuple(key.split(".")), message)

"""The settings of a distillation run: those of ``transformers.TrainingArguments`` and those of the loss."""

from __future__ import annotations

import copy
import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainingArguments

from limbeck.errors import ArgumentError
from limbeck.losses import (
    DEFAULT_ALPHA,
    DEFAULT_TEMPERATURE,
    FAMILIES,
    IGNORE_INDEX,
    DistanceLoss,
    DistillationLoss,
    UniversalLogitLoss,
)
from limbeck.losses.distance import NO_TEMPERATURE
from limbeck.models.hidden_term import HiddenTerm
from limbeck.temperature import Policy, policy_from
from limbeck.temperature.policies import POLICY_SETS_BOTH

if TYPE_CHECKING:
    Parsed = Any
else:
    Parsed = str
"""The annotation of a setting of several types, which ``HfArgumentParser`` reads from the command line as a text."""

LOSS_SETTINGS = (
    "temperature", "teacher_temperature", "alpha", "divergence", "beta", "skew", "compensate", "label_smoothing_factor",
    "class_weights", "distance", "alignment",
)  # fmt: skip
"""The settings that describe the loss."""


@dataclass
class DistillationArguments(TrainingArguments):
    """``transformers.TrainingArguments`` with the settings of the distillation loss.

    ``label_smoothing_factor`` is the label smoothing of the hard term. A wrong setting of the loss raises an error when the
    arguments are made, not at the first training step.

    Args:
        temperature: T > 0, by which the logits of both models are divided in the soft term; or a policy that changes T: a
            mapping with ``policy``, one of ``limbeck.temperature.POLICIES``, and that policy's settings; or a ``Policy``.
        teacher_temperature: the teacher's T, if it differs from the student's; by default both are ``temperature``.
        alpha: weight of the soft term, in [0, 1]. The hard term has 1 - alpha. 0 trains on labels alone, without a teacher.
        divergence: the soft term's divergence: a name, one of ``limbeck.losses.DIVERGENCES``; a mapping with ``name`` and the
            divergence's own parameters, as in ``{"name": "jsd", "beta": 0.3}``; or a ``Divergence``.
        beta: weight of the teacher in the mixture of ``jsd``, in [0, 1]. Other divergences ignore it.
        skew: weight of the first distribution in the mixture of ``skew_kl`` and ``skew_reverse_kl``, in [0, 1). Other
            divergences ignore it.
        compensate: True multiplies the soft term by C(T), which keeps the size of its gradient independent of T; False does
            not; "curvature" also gives all smooth divergences the same size of gradient at high T.
        distance: the soft term of the tasks "regression" and "embeddings", which take no temperature: "mse", by default, the
            mean squared difference of outputs; or "cosine", 1 minus the cosine of their angle.
        alignment: "uld" for a teacher whose tokenizer is not the student's: the soft term then compares sorted probabilities,
            as ``limbeck.losses.UniversalLogitLoss`` does, at the tokens that ``limbeck.models.Retokenised`` pairs. By default
            other tokenizers are refused.
        hidden: the settings of a term that compares the hidden states of two language models layer by layer, as a mapping with
            the fields of ``HiddenTerm``: ``weight``, ``layers`` and ``distance``. By default there is none.
        task: how outputs meet labels: one of ``limbeck.tasks.TASKS``, such as "multi_label"; or "auto", which recognises the
            student: models of Transformers by their classes, through adapters and subclasses; a module of your own by its
            first labels. What is not recognised is refused.
        class_weights: the weight of each class in the hard term, one number for each; by default all are 1.
        ignore_index: a label that stands for no label. -100 always does.
        fused_loss: whether the loss of a causal language model includes the projection to the vocabulary, so that logits are
            never whole, in training and evaluation. "auto" does so wherever both models are seen to end in a linear layer, and
            says why where they do not; True makes that an error; False never does.
        teacher_outputs: what a teacher that is a module or a callable returns: "logits"; or "probabilities", rows in [0, 1]
            that sum to 1, whose logarithms serve as logits. A probability of 0 stays 0 at every temperature.
        teacher_dtype: dtype to which a teacher that is a module is converted: "float32", "bfloat16" or "float16"; by default
            it keeps its own.

    Raises:
        ArgumentError: a setting of the loss is outside its range.

    Example:
        >>> import tempfile
        >>> from limbeck import DistillationArguments
        >>> args = DistillationArguments(tempfile.mkdtemp(), temperature=2.0, alpha=0.9, max_steps=100)
        >>> args.objective()
        DistillationLoss(temperature=2.0, alpha=0.9, divergence=ForwardKL())
    """

    temperature: Parsed = field(
        default=DEFAULT_TEMPERATURE,
        metadata={
            "help": "Temperature T > 0 of the soft term, for both models; or a policy that changes it: "
            "{'policy': one of limbeck.temperature.POLICIES, and its settings}."
        },
    )
    teacher_temperature: float | None = field(
        default=None, metadata={"help": "The teacher's temperature, if it differs from the student's."}
    )
    alpha: float = field(
        default=DEFAULT_ALPHA,
        metadata={"help": "Weight of the soft term, in [0, 1]. 0 trains on labels alone, without a teacher."},
    )
    divergence: Parsed = field(
        default="forward_kl",
        metadata={
            "help": "Divergence of the soft term: one of limbeck.losses.DIVERGENCES, {'name': one of them, and "
            "its parameters}, or a Divergence."
        },
    )
    beta: float = field(default=0.5, metadata={"help": "Weight of the teacher in the mixture of jsd, in [0, 1]."})
    skew: float = field(
        default=0.1,
        metadata={"help": "Weight of the first distribution in the mixture of the skew divergences, in [0, 1)."},
    )
    compensate: Parsed = field(
        default=True,
        metadata={"help": "Whether the soft term is multiplied by its compensation C(T): True, False or 'curvature'."},
    )
    distance: str | None = field(
        default=None, metadata={"help": "Soft term of regression and embeddings: 'mse', the default, or 'cosine'."}
    )
    alignment: str | None = field(
        default=None, metadata={"help": "'uld' for a teacher with another tokenizer: compare sorted probabilities."}
    )
    hidden: Parsed = field(
        default=None,
        metadata={"help": "Term of hidden states: {'weight': 1.0, 'layers': None, 'distance': 'mse' or 'cosine'}."},
    )
    task: str = field(
        default="auto",
        metadata={"help": "How outputs meet labels: one of limbeck.tasks.TASKS, or 'auto' to see by the model."},
    )
    class_weights: list[float] | None = field(
        default=None, metadata={"help": "Weight of each class in the hard term. Default: all are 1."}
    )
    ignore_index: int = field(
        default=IGNORE_INDEX, metadata={"help": "A label that stands for no label. -100 always does."}
    )
    fused_loss: Parsed = field(
        default="auto",
        metadata={
            "help": "Whether the loss of a causal language model includes the projection to the vocabulary, so that logits are "
            "never whole: 'auto', True or False."
        },
    )
    teacher_outputs: str = field(
        default="logits", metadata={"help": "What the teacher returns: 'logits' or 'probabilities'."}
    )
    teacher_dtype: str | None = field(
        default=None,
        metadata={"help": "Dtype of a teacher that is a module: 'float32', 'bfloat16' or 'float16'. Default: its own."},
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.temperature = _number_or_policy(self.temperature)
        self.compensate, self.fused_loss = _bool_or_text(self.compensate), _bool_or_text(self.fused_loss)
        if self.fused_loss not in ("auto", True, False):
            raise ArgumentError("fused_loss", f"expected 'auto', True or False, got {self.fused_loss!r}.")
        if not torch.accelerator.is_available():
            self.dataloader_pin_memory = False  # without an accelerator pinning has no use, and torch warns
        self.hidden = _number_or_policy(self.hidden)
        _ = self.hidden_term
        self.objective("softmax" if self.distance is None else "distance")

    @property
    def hidden_term(self) -> HiddenTerm | None:
        """Return the settings of the term of hidden states; None if there is none.

        Raises:
            ArgumentError: a setting is not known or out of range.
        """
        if self.hidden is None:
            return None
        try:
            return HiddenTerm(**self.hidden)
        except (ArgumentError, TypeError) as error:
            raise ArgumentError("hidden", str(error)) from None

    def policy(self) -> Policy | None:
        """Return a new policy for the temperature, or None if the temperature is a number."""
        if isinstance(self.temperature, Policy):  # what a run learns belongs to the run, not to the arguments
            return copy.deepcopy(self.temperature)
        return policy_from(self.temperature) if isinstance(self.temperature, Mapping) else None

    def loss_settings(self) -> dict[str, Any]:
        """Return a copy of the settings that the loss and its policy are made of, to see later whether they changed."""
        settings = {name: getattr(self, name) for name in LOSS_SETTINGS}
        for name, value in settings.items():
            if isinstance(value, Mapping | list):
                settings[name] = copy.deepcopy(value)
            elif isinstance(value, torch.Tensor):
                settings[name] = value.tolist()
        return settings

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON can hold them. A policy is written as its settings, a divergence as its expression."""
        written = super().to_dict()
        for name in ("temperature", "divergence", "teacher_temperature", "class_weights"):
            written[name] = _as_json(written[name])
        return written

    def objective(self, family: str = "softmax") -> DistillationLoss:
        """Return the loss that these settings describe.

        Args:
            family: a key of ``limbeck.losses.FAMILIES``, which fits the task.

        Raises:
            ArgumentError: a setting is outside its range, or a policy stands beside ``teacher_temperature``.
        """
        if self.alignment not in (None, "uld"):
            raise ArgumentError("alignment", f"expected 'uld' or None, got {self.alignment!r}.")
        policy, shared = self.policy(), self.teacher_temperature is None
        if self.alignment is not None and (policy is not None or family != "softmax"):
            raise ArgumentError(
                "alignment", "'uld' is for causal language models, with a number as their temperature. Leave one out."
            )
        are_numbers = issubclass(FAMILIES[family], DistanceLoss)
        if are_numbers and policy is not None:
            raise ArgumentError("temperature", NO_TEMPERATURE)
        if are_numbers and not shared:
            raise ArgumentError("teacher_temperature", NO_TEMPERATURE)
        if self.distance is not None and not are_numbers:
            raise ArgumentError(
                "distance", "is for the tasks regression and embeddings. The soft term of classes is set by divergence."
            )
        if policy is not None and not shared:
            raise ArgumentError("teacher_temperature", POLICY_SETS_BOTH)
        if policy is not None and family != "softmax" and policy.reads_softmax:
            raise ArgumentError(
                "temperature",
                f"the policy {policy.name!r} reads the softmax of the logits, and this task has none. Name a number, or a "
                "policy over time.",
            )
        temperature = self.temperature if policy is None else policy.nominal_temperature
        loss = FAMILIES[family] if self.alignment is None else UniversalLogitLoss
        return loss(
            temperature=temperature if shared else (self.teacher_temperature, temperature),  # pyright: ignore[reportArgumentType]
            alpha=self.alpha,
            divergence=self.divergence,
            beta=self.beta,
            skew=self.skew,
            compensate=self.compensate,  # pyright: ignore[reportArgumentType]
            label_smoothing=self.label_smoothing_factor,
            weight=None if self.class_weights is None else torch.tensor(self.class_weights, dtype=torch.float32),
            **({"distance": self.distance or "mse"} if are_numbers else {}),  # pyright: ignore[reportArgumentType]
        )


def _number_or_policy(temperature: Any) -> Any:
    """Return what a text says, as it comes from the command line; anything else is returned itself."""
    if not isinstance(temperature, str):
        return temperature
    try:
        return json.loads(temperature)
    except ValueError:
        raise ArgumentError(
            "temperature", f'expected a number, or a policy like {{"policy": "linear"}}, got {temperature!r}.'
        ) from None


def _bool_or_text(value: Any) -> Any:
    """Return what a text "true" or "false" says, as it comes from the command line; anything else is returned itself."""
    return {"true": True, "false": False}.get(value.lower(), value) if isinstance(value, str) else value


def _as_json(value: Any) -> Any:
    """Return a setting as JSON can hold it."""
    if isinstance(value, torch.Tensor):
        return value.tolist()
    if isinstance(value, Policy):
        names = inspect.signature(type(value)).parameters
        settings = {
            name: getattr(value, name) for name in names if isinstance(getattr(value, name, None), int | float | str)
        }
        if "start" in names and "start" not in settings:
            settings["start"] = value.nominal_temperature
        return {"policy": value.name, **settings}
    if isinstance(value, Mapping):
        return {str(name): _as_json(part) for name, part in value.items()}
    if isinstance(value, tuple | list):
        return [_as_json(part) for part in value]
    return value if value is None or isinstance(value, str | int | float) else str(value)

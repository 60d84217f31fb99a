"""The settings of a distillation run: those of ``transformers.TrainingArguments`` and those of the loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import TrainingArguments

from limbeck.errors import ArgumentError
from limbeck.losses import DistillationLoss
from limbeck.temperature import Policy, policy_from

TEMPERATURE, ALPHA = 4.0, 0.5
"""The loss's own defaults."""


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
        divergence: name of the soft term's divergence, one of ``limbeck.losses.DIVERGENCES``.
        beta: weight of the teacher in the mixture of ``jsd``, in [0, 1]. Other divergences ignore it.
        skew: weight of the first distribution in the mixture of ``skew_kl`` and ``skew_reverse_kl``, in [0, 1). Other
            divergences ignore it.
        compensate: True multiplies the soft term by C(T), which keeps the size of its gradient independent of T; False does
            not; "curvature" also gives all smooth divergences the same size of gradient at high T.
        task: which logits meet which labels: "classification", "causal_lm", or "auto", which recognises the student: models of
            Transformers by their classes, through adapters and subclasses; a module of your own by its first labels. What is
            not recognised is refused.
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

    temperature: Any = field(
        default=TEMPERATURE,
        metadata={
            "help": "Temperature T > 0 of the soft term, for both models; or a policy that changes it: "
            "{'policy': one of limbeck.temperature.POLICIES, and its settings}."
        },
    )
    teacher_temperature: float | None = field(
        default=None, metadata={"help": "The teacher's temperature, if it differs from the student's."}
    )
    alpha: float = field(
        default=ALPHA,
        metadata={"help": "Weight of the soft term, in [0, 1]. 0 trains on labels alone, without a teacher."},
    )
    divergence: str = field(
        default="forward_kl", metadata={"help": "Divergence of the soft term: one of limbeck.losses.DIVERGENCES."}
    )
    beta: float = field(default=0.5, metadata={"help": "Weight of the teacher in the mixture of jsd, in [0, 1]."})
    skew: float = field(
        default=0.1,
        metadata={"help": "Weight of the first distribution in the mixture of the skew divergences, in [0, 1)."},
    )
    compensate: bool | str = field(
        default=True,
        metadata={"help": "Whether the soft term is multiplied by its compensation C(T): True, False or 'curvature'."},
    )
    task: str = field(
        default="auto",
        metadata={
            "help": "Which logits meet which labels: 'classification', 'causal_lm', or 'auto' to see by the model."
        },
    )
    teacher_dtype: str | None = field(
        default=None,
        metadata={"help": "Dtype of a teacher that is a module: 'float32', 'bfloat16' or 'float16'. Default: its own."},
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not torch.accelerator.is_available():
            self.dataloader_pin_memory = False  # without an accelerator pinning has no use, and torch warns
        self.objective()

    def policy(self) -> Policy | None:
        """Return a new policy for the temperature, or None if the temperature is a number."""
        return policy_from(self.temperature) if isinstance(self.temperature, Mapping | Policy) else None

    def objective(self) -> DistillationLoss:
        """Return the loss that these settings describe.

        Raises:
            ArgumentError: a setting is outside its range, or a policy stands beside ``teacher_temperature``.
        """
        policy, shared = self.policy(), self.teacher_temperature is None
        if policy is not None and not shared:
            raise ArgumentError("teacher_temperature", "a policy sets both temperatures. Leave it out.")
        temperature = self.temperature if policy is None else policy.nominal_temperature
        return DistillationLoss(
            temperature=temperature if shared else (self.teacher_temperature, temperature),  # pyright: ignore[reportArgumentType]
            alpha=self.alpha,
            divergence=self.divergence,
            beta=self.beta,
            skew=self.skew,
            compensate=self.compensate,  # pyright: ignore[reportArgumentType]
            label_smoothing=self.label_smoothing_factor,
        )

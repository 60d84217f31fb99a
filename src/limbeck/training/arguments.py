"""The settings of a distillation run: everything that ``TrainingArguments`` has, and the objective's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import TrainingArguments

from limbeck.losses import DistillationLoss
from limbeck.temperature import Policy, policy_from


@dataclass
class DistillationArguments(TrainingArguments):
    """``transformers.TrainingArguments`` with the settings of the distillation loss.

    ``label_smoothing_factor`` is the label smoothing of the hard term.
    """

    temperature: Any = field(
        default=4.0,
        metadata={
            "help": "T > 0 that softens both models in the soft term; or a policy: "
            "{'policy': one of limbeck.temperature.POLICIES, and its settings}."
        },
    )
    teacher_temperature: float | None = field(
        default=None, metadata={"help": "The teacher's T, where it is to differ from the student's."}
    )
    alpha: float = field(
        default=0.5, metadata={"help": "Weight of the soft term, in [0, 1]; 0 trains without a teacher."}
    )
    divergence: str = field(
        default="forward_kl", metadata={"help": "The divergence of the soft term: one of limbeck.losses.DIVERGENCES."}
    )
    beta: float = field(default=0.5, metadata={"help": "The teacher's share in the mixture of jsd."})
    skew: float = field(default=0.1, metadata={"help": "The first distribution's share in the skew divergences."})
    compensate: bool | str = field(
        default=True, metadata={"help": "Multiply the soft term by C(T): True, False or 'curvature'."}
    )
    task: str = field(
        default="auto", metadata={"help": "How logits meet labels: 'auto', 'classification' or 'causal_lm'."}
    )
    teacher_dtype: str | None = field(
        default=None, metadata={"help": "Run the teacher in 'float32', 'bfloat16' or 'float16'; by default as loaded."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not torch.accelerator.is_available():
            self.dataloader_pin_memory = False  # there is nothing to pin for, and torch warns
        self.objective()  # a wrong setting is known here, not at the first step

    def policy(self) -> Policy | None:
        """The temperature's policy, where it is not one number."""
        return policy_from(self.temperature) if isinstance(self.temperature, Mapping | Policy) else None

    def objective(self) -> DistillationLoss:
        """The loss that these settings describe."""
        policy, shared = self.policy(), self.teacher_temperature is None
        if policy is not None and not shared:
            raise ValueError("teacher_temperature: a policy sets both temperatures. Leave it out.")
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

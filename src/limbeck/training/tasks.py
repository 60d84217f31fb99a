"""How a batch becomes targets: which logits meet which labels, and which positions count.

It is the only difference between classifying images, classifying texts and modelling language.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from limbeck.models import first_input

IGNORE = -100
"""The label of a position without one, as everywhere in torch and Transformers."""


@dataclass(frozen=True)
class Targets:
    """The labels of a batch and the positions that count, both shaped like the aligned logits without their last axis."""

    labels: Tensor | None
    mask: Tensor


class Task(Protocol):
    """What distinguishes one kind of model from another."""

    def align(self, logits: Tensor) -> Tensor:
        """The logits that have a target."""
        ...

    def targets(self, batch: Mapping[str, Any]) -> Targets:
        """The labels that the aligned logits should meet, and the positions that count."""
        ...


class Classification:
    """One target for each logit row: (N, V) for images and texts, (N, L, V) for tagging tokens.

    Every example counts, with or without a label: one without (-100) learns from the teacher alone. Of the tokens,
    those with a label count, since a token without one is padding. A ``mask`` in the batch overrules both.
    """

    def align(self, logits: Tensor) -> Tensor:
        return logits

    def targets(self, batch: Mapping[str, Any]) -> Targets:
        labels, mask = batch.get("labels"), batch.get("mask")
        if mask is not None:
            return Targets(labels, mask)
        if labels is None:
            inputs = first_input(batch)
            return Targets(None, torch.ones(inputs.shape[0], dtype=torch.bool, device=inputs.device))
        return Targets(labels, torch.ones_like(labels, dtype=torch.bool) if labels.dim() == 1 else labels != IGNORE)


class CausalLM:
    """The logits at a token meet the next token: (N, L, V) -> (N, L - 1, V). Tokens labelled -100 do not count."""

    def align(self, logits: Tensor) -> Tensor:
        return logits[:, :-1]

    def targets(self, batch: Mapping[str, Any]) -> Targets:
        labels, mask = batch.get("labels"), batch.get("mask")
        labels = None if labels is None else labels[:, 1:]
        if mask is not None:
            mask = mask[:, 1:]
        elif labels is not None:
            mask = labels != IGNORE
        elif "attention_mask" in batch:
            mask = batch["attention_mask"][:, 1:].bool()
        else:
            mask = torch.ones_like(batch["input_ids"][:, 1:], dtype=torch.bool)
        return Targets(labels, mask)


TASKS: dict[str, type[Classification] | type[CausalLM]] = {"classification": Classification, "causal_lm": CausalLM}


def resolve_task(task: str | Task, student: nn.Module) -> Task:
    """Turn a name into a task; "auto" sees whether the student is one of Transformers' causal language models."""
    if not isinstance(task, str):
        return task
    if task == "auto":
        from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

        task = "causal_lm" if type(student).__name__ in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values() else "classification"
    if task not in TASKS:
        raise ValueError(f"task: expected 'auto', {', '.join(map(repr, TASKS))} or a Task, got {task!r}.")
    return TASKS[task]()

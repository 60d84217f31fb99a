"""How a batch becomes targets: which logits meet which labels, and which positions count.

This is the only difference between the classification of images, the classification of texts and language modelling.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from limbeck.errors import ArgumentError
from limbeck.losses import IGNORE_INDEX
from limbeck.models import first_input


@dataclass(frozen=True)
class Targets:
    """The labels of a batch and the positions that count. Both have the shape of the aligned logits without their last axis."""

    labels: Tensor | None
    """Integers, -100 at a position without a label; None if the batch has no labels."""
    mask: Tensor
    """bool, True at the positions that count."""


class Task(Protocol):
    """A kind of model: which of its logits have targets, and where a batch keeps these."""

    def align(self, logits: Tensor) -> Tensor:
        """Return the logits that have a target.

        Args:
            logits: what a model returned, (N, V) or (N, L, V). Other tensors with the same first axes are aligned alike.
        """
        ...

    def targets(self, batch: Mapping[str, Any]) -> Targets:
        """Return the labels that the aligned logits should meet, and the positions that count.

        Args:
            batch: tensors by name: the inputs, and ``labels`` and ``mask`` where the data has them.
        """
        ...


class Classification(Task):
    """One target for each row of logits: (N, V) for images and texts, (N, L, V) for the tagging of tokens.

    Every example counts, labelled or not: one with the label -100 learns from the teacher alone. Where each token has a
    label, only labelled tokens count, since a token without a label is padding. A boolean ``mask`` in the batch, shaped
    like the labels, overrides both.
    """

    def align(self, logits: Tensor) -> Tensor:
        """Return the logits unchanged."""
        return logits

    def targets(self, batch: Mapping[str, Any]) -> Targets:
        """Return the batch's labels and the positions that count."""
        labels, mask = batch.get("labels"), batch.get("mask")
        if mask is not None:
            return Targets(labels, mask)
        if labels is None:
            inputs = first_input(batch)
            return Targets(None, torch.ones(inputs.shape[0], dtype=torch.bool, device=inputs.device))
        one_per_example = labels.dim() == 1
        return Targets(labels, torch.ones_like(labels, dtype=torch.bool) if one_per_example else labels != IGNORE_INDEX)


class CausalLM(Task):
    """A causal language model: the logits at a token meet the next token, (N, L, V) -> (N, L - 1, V).

    Tokens labelled -100 do not count. A boolean ``mask`` (N, L) in the batch overrides this; without labels and ``mask``,
    the positions of ``attention_mask`` count.
    """

    def align(self, logits: Tensor) -> Tensor:
        """Return the logits without those at the last token, which has no next one."""
        return logits[:, :-1]

    def targets(self, batch: Mapping[str, Any]) -> Targets:
        """Return the labels and the positions that count, both without the first token."""
        labels, mask = batch.get("labels"), batch.get("mask")
        labels = None if labels is None else labels[:, 1:]
        if mask is not None:
            mask = mask[:, 1:]
        elif labels is not None:
            mask = labels != IGNORE_INDEX
        elif "attention_mask" in batch:
            mask = batch["attention_mask"][:, 1:].bool()
        else:
            mask = torch.ones_like(batch["input_ids"][:, 1:], dtype=torch.bool)
        return Targets(labels, mask)


TASKS: dict[str, type[Classification] | type[CausalLM]] = {"classification": Classification, "causal_lm": CausalLM}


def resolve_task(task: str | Task, student: nn.Module) -> Task:
    """Return the task that a name stands for.

    Args:
        task: a key of ``TASKS``; "auto", which takes "causal_lm" if the student is one of Transformers' causal language
            models and "classification" otherwise; or a ``Task``, which is returned as it is.
        student: the model that is trained, without wrappers.

    Returns:
        The task.

    Raises:
        ArgumentError: the name is not known.
    """
    if not isinstance(task, str):
        return task
    if task == "auto":
        from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

        task = "causal_lm" if type(student).__name__ in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values() else "classification"
    if task not in TASKS:
        raise ArgumentError("task", f"expected 'auto', {', '.join(map(repr, TASKS))} or a Task, got {task!r}.")
    return TASKS[task]()

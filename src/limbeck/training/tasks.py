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
from limbeck.models.forward import NOT_MODEL_INPUTS
from limbeck.training.recognition import recognise


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
        """Return the logits unchanged.

        Args:
            logits: what a model returned, (N, V) or (N, L, V).
        """
        return logits

    def targets(self, batch: Mapping[str, Any]) -> Targets:
        """Return the batch's labels and the positions that count.

        Args:
            batch: tensors by name.
        """
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
        """Return the logits without those at the last token, which has no next one.

        Args:
            logits: what a model returned, (N, L, V).
        """
        return logits[:, :-1]

    def targets(self, batch: Mapping[str, Any]) -> Targets:
        """Return the labels and the positions that count, both without the first token.

        Args:
            batch: tensors by name.
        """
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


class _EncoderDecoder(Classification):
    """A model with an encoder and a decoder: its logits meet the labels of the same position of the decoder.

    Without ``decoder_input_ids`` some of these models take the encoder's tokens for them, and their logits then belong to no
    label.
    """

    def targets(self, batch: Mapping[str, Any]) -> Targets:
        """Return the batch's labels and the positions that count, where the decoder has inputs of its own."""
        if not {"decoder_input_ids", "decoder_inputs_embeds"} & set(batch):
            raise ArgumentError(
                "task",
                "the student has an encoder and a decoder, and the batch has no decoder_input_ids. Add them with "
                "DataCollatorForSeq2Seq(tokenizer, model=student), or pass a task= of your own.",
            )
        return super().targets(batch)


class _SeenByItsLabels(Classification):
    """A module of an own kind: its first labelled batch decides about its task, or raises an error.

    Labels that are the input tokens themselves have one meaning only: the next tokens of a language model.

    Args:
        holds_causal_lm: whether the module is built around a causal language model of Transformers.
    """

    def __init__(self, *, holds_causal_lm: bool) -> None:
        self._holds_causal_lm, self._is_decided = holds_causal_lm, False
        self._task: Classification | CausalLM = Classification()

    def align(self, logits: Tensor) -> Tensor:
        """Return the logits that have a target."""
        return self._task.align(logits)

    def targets(self, batch: Mapping[str, Any]) -> Targets:
        """Return the batch's labels and the positions that count."""
        return (self._task if self._is_decided else self._decide(batch)).targets(batch)

    def _decide(self, batch: Mapping[str, Any]) -> Classification | CausalLM:
        labels = batch.get("labels")
        tokens = [value for name, value in batch.items() if name not in NOT_MODEL_INPUTS and _is_tokens(value)]
        counted = None if labels is None else labels != IGNORE_INDEX
        if counted is not None and not counted.any():
            return self._task  # this batch tells nothing, the next one may
        per_token = labels is None or labels.dim() > 1
        repeats = per_token and any(_repeats(labels, ids) for ids in tokens)
        if repeats and self._holds_causal_lm:
            self._task = CausalLM()
        elif repeats or (per_token and tokens and self._holds_causal_lm):
            what = "is built around a causal language model" if self._holds_causal_lm else "is a module of your own"
            labelled = "its labels are its input tokens" if repeats else "its labels do not show what it learns"
            raise ArgumentError(
                "task",
                f"the student {what}, and {labelled}. Name the task: task='causal_lm' if the logits at a token meet the next "
                "token (the labels are then shifted for you), task='classification' if they meet the label at their own place.",
            )
        self._is_decided = True
        return self._task


def _is_tokens(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dim() == 2 and not value.is_floating_point()


def _repeats(labels: Tensor | None, tokens: Tensor) -> bool:
    """Return True if every label is the token at its own place."""
    if labels is None or labels.shape != tokens.shape:
        return False
    counted = labels != IGNORE_INDEX
    return bool((labels[counted] == tokens[counted]).all())


TASKS: dict[str, type[Classification] | type[CausalLM]] = {"classification": Classification, "causal_lm": CausalLM}


def resolve_task(task: str | Task, student: nn.Module) -> Task:
    """Return the task that a name stands for.

    Args:
        task: a key of ``TASKS``; "auto", which recognises the student; or a ``Task``, which is returned as it is.
        student: the model that is trained.

    Returns:
        The task.

    Raises:
        ArgumentError: the name is not known, or no task is known for the student.
    """
    if not isinstance(task, str):
        return task
    if task == "auto":
        return _recognised_task(student)
    if task not in TASKS:
        raise ArgumentError("task", f"expected 'auto', {', '.join(map(repr, TASKS))} or a Task, got {task!r}.")
    return TASKS[task]()


def _recognised_task(student: nn.Module) -> Task:
    kind = recognise(student)
    if kind in ("unknown", "holds_causal_lm"):
        return _SeenByItsLabels(holds_causal_lm=kind == "holds_causal_lm")
    return _EncoderDecoder() if kind == "encoder_decoder" else TASKS[kind]()

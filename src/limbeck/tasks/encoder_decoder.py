"""Models with an encoder and a decoder: the decoder reads the labels shifted by one token, and its logits are not shifted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from limbeck.errors import ArgumentError
from limbeck.losses import IGNORE_INDEX
from limbeck.models.forward import underlying
from limbeck.tasks.base import Targets
from limbeck.tasks.causal_lm import GENERATORS
from limbeck.tasks.classification import Classification
from limbeck.tasks.language import LanguageModel

_DECODER_INPUTS = frozenset({"decoder_input_ids", "decoder_inputs_embeds"})


class EncoderDecoder(LanguageModel, Classification):
    """A model with an encoder and a decoder: its logits meet the labels of the same position of the decoder.

    Both models' decoders read the same tokens, which are made from the labels by the student's own rule
    (``prepare_decoder_input_ids_from_labels``, or ``decoder_start_token_id`` and ``pad_token_id`` in its config). A teacher
    whose own rule makes others is refused. ``decoder_input_ids`` in the batch are taken as they are.
    """

    name: ClassVar[str] = "encoder_decoder"
    head: ClassVar[str | None] = "AutoModelForSeq2SeqLM"

    def __init__(self) -> None:
        self._is_checked = False

    @classmethod
    def recognises(cls, name: str, *, has_encoder_and_decoder: bool) -> bool:
        """Return True for the models of Transformers that generate text and have an encoder and a decoder."""
        return has_encoder_and_decoder and bool(GENERATORS.search(name))

    def complete(self, batch: dict[str, Any], models: Sequence[nn.Module]) -> dict[str, Any]:
        """Return the batch with ``decoder_input_ids``.

        Raises:
            ArgumentError: the batch has neither these nor labels; no rule of the student is known; or a model of the teacher
                begins with other tokens.
        """
        if _DECODER_INPUTS & set(batch):
            return batch
        labels, (student, *teachers) = batch.get("labels"), models
        made = None if labels is None else decoder_inputs(student, labels)
        if labels is None or made is None:
            raise ArgumentError(
                "task",
                "the student has an encoder and a decoder, and the batch has no decoder_input_ids, nor labels from which the "
                "student has a rule to make them. Add them to the batch.",
            )
        for teacher in [] if self._is_checked else teachers:
            theirs = decoder_inputs(teacher, labels)
            if theirs is not None and not torch.equal(theirs.to(made.device)[:, :1], made[:, :1]):
                raise ArgumentError(
                    "teacher",
                    f"its decoder begins with the tokens {theirs[:, 0].unique().tolist()}, and the student's with "
                    f"{made[:, 0].unique().tolist()}. Both must read the same. Set decoder_start_token_id in the config of the "
                    "student to that of the teacher.",
                )
        self._is_checked = True
        return {**batch, "decoder_input_ids": made}

    def targets(self, batch: Mapping[str, Any]) -> Targets:
        """Return the batch's labels and the positions that count; without labels, those of the decoder's tokens."""
        if batch.get("labels") is None and batch.get("mask") is None and "decoder_input_ids" in batch:
            ids, attended = batch["decoder_input_ids"], batch.get("decoder_attention_mask")
            return Targets(None, torch.ones_like(ids, dtype=torch.bool) if attended is None else attended.bool())
        return super().targets(batch)


def decoder_inputs(model: nn.Module, labels: Tensor) -> Tensor | None:
    """Return what the decoder of a model reads where its logits are to meet the labels.

    Args:
        model: a model with an encoder and a decoder, perhaps in adapters.
        labels: (N, L), -100 for none.

    Returns:
        The labels behind the token that the decoder begins with, (N, L); None if the model has no rule for it.
    """
    inner: Any = underlying(model)
    rule, config = getattr(inner, "prepare_decoder_input_ids_from_labels", None), getattr(inner, "config", None)
    if rule is not None:
        return rule(labels=labels)
    begin, padding = (getattr(config, name, None) for name in ("decoder_start_token_id", "pad_token_id"))
    if begin is None or padding is None:
        return None
    known = labels.masked_fill(labels == IGNORE_INDEX, padding)
    return torch.cat([torch.full_like(known[:, :1], begin), known[:, :-1]], dim=1)

"""Language modelling: the next token."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar

import torch
from torch import Tensor

from limbeck.tasks.base import Targets
from limbeck.tasks.language import LanguageModel

GENERATORS = re.compile(
    r"For(ConditionalGeneration|CausalLM|SpeechSeq2Seq)$|ForVisionText2Text$|EncoderDecoderModel$|MarianMTModel$"
)
"""The names of models that generate text."""
_CAUSAL_LMS = re.compile(r"ForCausalLM$|LMHeadModel$")
_UNSHIFTED = re.compile(r"^(XLM|XLNet|Flaubert)(With)?LMHeadModel$")
"""Classes that Transformers lists as causal, and that it trains on labels of the same position."""


class CausalLM(LanguageModel):
    """A causal language model: the logits at a token meet the next token, (N, L, V) -> (N, L - 1, V).

    Tokens labelled -100 do not count. A boolean ``mask`` (N, L) in the batch overrides this; without labels and ``mask``,
    the positions of ``attention_mask`` count. The first token behind padding on the left never counts, since it would be
    predicted from padding.
    """

    name: ClassVar[str] = "causal_lm"
    where_labels_come_from: ClassVar[str] = (
        "Pass data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False), which makes them of the tokens"
    )
    head: ClassVar[str | None] = "AutoModelForCausalLM"

    @classmethod
    def recognises(cls, name: str, *, has_encoder_and_decoder: bool) -> bool:
        """Return True for the causal language models of Transformers."""
        if has_encoder_and_decoder and GENERATORS.search(name):
            return False
        return not _UNSHIFTED.search(name) and (name in _language_models() or bool(_CAUSAL_LMS.search(name)))

    def align(self, logits: Tensor) -> Tensor:
        """Return the logits without those at the last token, which has no next one.

        Args:
            logits: what a model returned, (N, L, V).
        """
        return logits[:, :-1]

    def targets(self, batch: Mapping[str, Any]) -> Targets:
        """Return the labels and the positions that count, both without the first token."""
        labels, mask, attended = batch.get("labels"), batch.get("mask"), batch.get("attention_mask")
        labels = None if labels is None else labels[:, 1:]
        if mask is not None:
            mask = mask[:, 1:]
        elif labels is not None:
            mask = self.labelled(labels)
        elif attended is not None:
            mask = attended[:, 1:].bool()
        else:
            mask = torch.ones_like(batch["input_ids"][:, 1:], dtype=torch.bool)
        if attended is not None and attended.shape == (len(mask), mask.shape[1] + 1):
            mask = mask & attended[:, :-1].bool()
        return Targets(labels, mask)


@cache
def _language_models() -> frozenset[str]:
    """Return the names of the causal language models of Transformers, with those that see or hear as well."""
    from transformers.models.auto import modeling_auto as auto

    names: set[str] = set()
    for name in auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values():
        names |= {name} if isinstance(name, str) else set(name)
    for table in ("MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES", "MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES"):
        for name in getattr(auto, table, {}).values():
            names |= {part for part in ([name] if isinstance(name, str) else name) if GENERATORS.search(part)}
    return frozenset(names)

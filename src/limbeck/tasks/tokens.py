"""Tasks with a label for some of the tokens, at the token's own place: the tagging of words, and masked language models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch

from limbeck.errors import ArgumentError
from limbeck.models import first_input
from limbeck.tasks.base import Targets, Task
from limbeck.tasks.language import LanguageModel


class TokenClassification(Task):
    """A class for each word: logits (N, L, V) meet labels (N, L), -100 at a token that is not counted.

    Give the first token of each word the word's label, and -100 to its other tokens, to special tokens and to padding: the
    loss and the metrics are then means over words. A boolean ``mask`` (N, L) in the batch overrides this. Without labels and
    ``mask``, the positions of ``attention_mask`` count, special tokens included.
    """

    name: ClassVar[str] = "token_classification"
    unit: ClassVar[str] = "word"
    head: ClassVar[str | None] = "AutoModelForTokenClassification"

    @classmethod
    def recognises(cls, name: str, *, has_encoder_and_decoder: bool) -> bool:
        """Return True for the models of Transformers that tag tokens."""
        return name.endswith("ForTokenClassification")

    def targets(self, batch: Mapping[str, Any]) -> Targets:
        """Return the batch's labels and the positions that count.

        Raises:
            ArgumentError: there is not one label for each token.
        """
        labels, mask = batch.get("labels"), batch.get("mask")
        if labels is not None and labels.dim() != 2:
            raise ArgumentError(
                "labels",
                f"shape {tuple(labels.shape)}: task={self.name!r} expects one for each token, (N, L), and -100 where there is "
                "none. DataCollatorForTokenClassification pads such rows.",
            )
        if mask is None and labels is not None:
            mask = self.labelled(labels)
        elif mask is None:
            attended = batch.get("attention_mask")
            mask = torch.ones_like(first_input(batch), dtype=torch.bool) if attended is None else attended.bool()
        return Targets(labels, mask)


class MaskedLM(LanguageModel, TokenClassification):
    """A masked language model: the logits at a masked token meet the token that was there.

    ``DataCollatorForLanguageModeling(tokenizer)`` masks tokens and labels the others -100. Both terms of the loss are means
    over the masked tokens. A boolean ``mask`` (N, L) in the batch puts the soft term on other tokens as well, such as all that
    are no padding; the hard term still has the masked ones alone, and both are divided by the number of tokens in ``mask``.
    """

    name: ClassVar[str] = "masked_lm"
    where_labels_come_from: ClassVar[str] = (
        "Pass data_collator=DataCollatorForLanguageModeling(tokenizer), which makes them of the tokens"
    )
    head: ClassVar[str | None] = "AutoModelForMaskedLM"
    perplexity: ClassVar[str] = "masked_perplexity"
    columns: ClassVar[Mapping[str, str]] = {
        "masked_perplexity": "perplexity of masked tokens",
        **{name: header for name, header in LanguageModel.columns.items() if name != "perplexity"},
    }

    def __init__(self) -> None:
        self._is_checked = False

    @classmethod
    def recognises(cls, name: str, *, has_encoder_and_decoder: bool) -> bool:
        """Return True for the masked language models of Transformers."""
        return name.endswith("ForMaskedLM")

    def targets(self, batch: Mapping[str, Any]) -> Targets:
        """Return the batch's labels and the positions that count.

        Raises:
            ArgumentError: no token is masked, since each is its own label; or there is not one label for each token.
        """
        targets = super().targets(batch)
        labels, ids = targets.labels, batch.get("input_ids")
        if labels is None or ids is None or self._is_checked or ids.shape != labels.shape:
            return targets
        attended = batch.get("attention_mask")
        shown = torch.ones_like(ids, dtype=torch.bool) if attended is None else attended.bool()
        if bool((labels == ids)[shown].all()):
            raise ArgumentError(
                "labels",
                "each token is its own label, so the model sees every answer. Mask some of the tokens and label the others "
                "-100: DataCollatorForLanguageModeling(tokenizer) does both.",
            )
        self._is_checked = True
        return targets

"""Language modelling: the next token."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import kl_div

from limbeck.errors import ArgumentError
from limbeck.tasks.base import Targets, Task
from limbeck.tasks.metrics import CALIBRATION_BINS

GENERATORS = re.compile(
    r"For(ConditionalGeneration|CausalLM|SpeechSeq2Seq)$|ForVisionText2Text$|EncoderDecoderModel$|MarianMTModel$"
)
"""The names of models that generate text."""
TOP = 5
"""The likeliest tokens of both models that are compared."""
_CAUSAL_LMS = re.compile(r"ForCausalLM$|LMHeadModel$")
_UNSHIFTED = re.compile(r"^(XLM|XLNet|Flaubert)(With)?LMHeadModel$")
"""Classes that Transformers lists as causal, and that it trains on labels of the same position."""


class CausalLM(Task):
    """A causal language model: the logits at a token meet the next token, (N, L, V) -> (N, L - 1, V).

    Tokens labelled -100 do not count. A boolean ``mask`` (N, L) in the batch overrides this; without labels and ``mask``,
    the positions of ``attention_mask`` count.
    """

    name: ClassVar[str] = "causal_lm"
    where_labels_come_from: ClassVar[str] = (
        "Pass data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False), which makes them of the tokens"
    )
    unit: ClassVar[str] = "token"
    head: ClassVar[str | None] = "AutoModelForCausalLM"
    score: ClassVar[str] = "log_likelihood"
    columns: ClassVar[Mapping[str, str]] = {
        "perplexity": "perplexity",
        "log_likelihood": "log-likelihood / token",
        "accuracy": "accuracy, %",
        "calibration_error": "calibration error, %",
        "teacher_kl": "KL to teacher",
        "agreement": "agreement, %",
        "top5_overlap": "top-5 overlap, %",
    }

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
        labels, mask = batch.get("labels"), batch.get("mask")
        labels = None if labels is None else labels[:, 1:]
        if mask is not None:
            mask = mask[:, 1:]
        elif labels is not None:
            mask = self.labelled(labels)
        elif "attention_mask" in batch:
            mask = batch["attention_mask"][:, 1:].bool()
        else:
            mask = torch.ones_like(batch["input_ids"][:, 1:], dtype=torch.bool)
        return Targets(labels, mask)

    def counts(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return what the calibration error follows from in each example: the number of labels, and a gap for each bin.

        Args:
            logits: aligned, (N, L, V).
            labels: (N, L).

        Returns:
            (N, 1 + bins). The gap is the sum over tokens of 1 if the first token is right, or else 0, minus its probability.
        """
        known = self.labelled(labels)
        confidence = (logits.amax(-1) - logits.logsumexp(-1)).exp()
        gap = torch.where(known, (self.decide(logits) == labels).to(confidence) - confidence, 0)
        bins = (confidence * CALIBRATION_BINS).ceil().long().clamp(1, CALIBRATION_BINS) - 1
        gaps = gap.new_zeros(len(labels), CALIBRATION_BINS).scatter_add_(
            1, bins.reshape(len(labels), -1), gap.reshape(len(labels), -1)
        )
        return torch.cat([known.reshape(len(labels), -1).sum(-1, keepdim=True).to(gaps), gaps], -1)

    def metrics_of_counts(self, counts: Tensor) -> dict[str, Tensor]:
        """Return the expected calibration error of the first token.

        Args:
            counts: (1 + bins,), the sum of ``counts`` over examples.
        """
        return {"calibration_error": counts[1:].abs().sum() / counts[0]}

    def metrics_of_sums(self, names: Sequence[str], total: Tensor) -> dict[str, Tensor]:
        """Return the means over tokens, and the perplexity and the mean log-likelihood of a token, in nats.

        Args:
            names: the names of the scores.
            total: the sum of ``sums`` over the examples of a data set.
        """
        means = super().metrics_of_sums(names, total)
        return {**means, "perplexity": means["loss"].exp(), "log_likelihood": -means["loss"]}

    def metrics(self, logits: Tensor, labels: Tensor, teacher_logits: Tensor | None = None) -> dict[str, float]:
        """Return the metrics of a whole data set, over its labelled tokens.

        Args:
            logits: aligned, (N, L, V).
            labels: (N, L).
            teacher_logits: the teacher's, for the comparison of both; None leaves it out.

        Returns:
            The metrics of ``columns``.

        Raises:
            ArgumentError: no token has a label.
        """
        known = self.labelled(labels)
        if logits.shape[:-1] != labels.shape or not bool(known.any()):
            raise ArgumentError(
                "labels", f"expected some for logits of shape {tuple(logits.shape)}, got shape {tuple(labels.shape)}."
            )
        names, sums = self.sums(logits.double(), labels)
        found = self.metrics_of_sums(names, sums.double().sum(0))
        if teacher_logits is not None:
            compared = self.comparisons(logits, teacher_logits)
            compared["agreement"] = self.agreement(logits, teacher_logits)
            found |= {name: values[known].double().mean() for name, values in compared.items()}
        return {name: found[name].item() for name in self.columns if name in found}

    def comparisons(self, student: Tensor, teacher: Tensor) -> dict[str, Tensor]:
        """Return the KL divergence to the teacher, in nats, and the share of its five likeliest tokens that the student shares.

        Args:
            student: aligned logits, (..., V).
            teacher: aligned logits, (..., V_t). Columns that only one of both has are left out.
        """
        columns = min(student.shape[-1], teacher.shape[-1])
        ours, theirs = (logits[..., :columns].float().log_softmax(-1) for logits in (student, teacher))
        divergence = kl_div(ours, theirs, reduction="none", log_target=True).sum(-1)
        first = min(TOP, columns)
        our_tops, their_tops = (logits.topk(first, -1).indices for logits in (ours, theirs))
        shared = (our_tops.unsqueeze(-1) == their_tops.unsqueeze(-2)).any(-1)
        return {"teacher_kl": divergence, "top5_overlap": shared.float().mean(-1)}


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

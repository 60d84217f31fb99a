"""What the tasks have in common whose classes are the tokens of a vocabulary: their metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import kl_div

from limbeck.errors import ArgumentError
from limbeck.losses.labels import most_likely_classes
from limbeck.tasks.base import Task
from limbeck.tasks.metrics import CALIBRATION_BINS

TOP = 5
"""The likeliest tokens of both models that are compared."""


class LanguageModel(Task):
    """The base class of language models: each label is a token, and the metrics are means over labelled tokens."""

    unit: ClassVar[str] = "token"
    score: ClassVar[str] = "log_likelihood"
    perplexity: ClassVar[str] = "perplexity"
    """The name of the metric that is the exponential of the mean cross-entropy of a token."""
    columns: ClassVar[Mapping[str, str]] = {
        "perplexity": "perplexity",
        "log_likelihood": "log-likelihood / token",
        "accuracy": "accuracy, %",
        "calibration_error": "calibration error, %",
        "teacher_kl": "KL to teacher",
        "agreement": "agreement, %",
        "top5_overlap": "top-5 overlap, %",
    }

    def counts(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return what the calibration error follows from in each example: the number of labels, and a gap for each bin.

        Args:
            logits: aligned, (N, L, V).
            labels: (N, L).

        Returns:
            (N, 1 + bins). The gap is the sum over tokens of 1 if the first token is right, or else 0, minus its probability.
        """
        known = self.labelled(labels)
        right = self.decide(logits) == most_likely_classes(labels)
        confidence = (logits.amax(-1) - logits.logsumexp(-1)).exp()
        gap = torch.where(known, right.to(confidence) - confidence, 0)
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
        return {**means, self.perplexity: means["loss"].exp(), "log_likelihood": -means["loss"]}

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

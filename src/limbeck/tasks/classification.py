"""One class for each example, or for each row of logits: images and texts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

import torch

from limbeck.models import first_input
from limbeck.tasks.base import Targets, Task

_CLASSIFIERS = re.compile(
    r"For(Sequence|Image|Audio|Video)Classification\w*$|For(MultipleChoice|NextSentencePrediction)$"
)


class Classification(Task):
    """One target for each row of logits: (N, V) for images and texts, (N, L, V) for the tagging of tokens.

    Every example counts, labelled or not: one with the label -100 learns from the teacher alone. Where each token has a
    label, only labelled tokens count, since a token without a label is padding. A boolean ``mask`` in the batch, shaped
    like the labels, overrides both.
    """

    name: ClassVar[str] = "classification"

    @classmethod
    def recognises(cls, name: str, *, has_encoder_and_decoder: bool) -> bool:
        """Return True for the classifiers of Transformers."""
        return bool(_CLASSIFIERS.search(name))

    def targets(self, batch: Mapping[str, Any]) -> Targets:
        """Return the batch's labels and the positions that count."""
        labels, mask = batch.get("labels"), batch.get("mask")
        if mask is not None:
            return Targets(labels, mask)
        if labels is None:
            inputs = first_input(batch)
            return Targets(None, torch.ones(inputs.shape[0], dtype=torch.bool, device=inputs.device))
        one_per_example = labels.dim() == 1
        return Targets(labels, torch.ones_like(labels, dtype=torch.bool) if one_per_example else self.labelled(labels))

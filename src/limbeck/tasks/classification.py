"""One class for each example, or for each row of logits: images and texts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from limbeck.errors import ArgumentError, ArgumentTypeError
from limbeck.losses.checks import is_cheap_to_read
from limbeck.losses.labels import check_label_rows, is_rows
from limbeck.models import first_input
from limbeck.tasks.base import Targets, Task

_CLASSIFIERS = re.compile(
    r"For(Sequence|Image|Audio|Video)Classification\w*$|For(MultipleChoice|NextSentencePrediction)$"
)


class Classification(Task):
    """One target for each row of logits: (N, V) for images and texts, (N, L, V) for the tagging of tokens.

    Every example counts, labelled or not: one with the label -100 learns from the teacher alone. Where each token has a
    label, only labelled tokens count, since a token without a label is padding. A boolean ``mask`` in the batch, with one
    entry for each label, overrides both.

    Labels may also be the probability of each class, (N, V) or (N, L, V), as one-hot, smoothed and mixed labels are; a row of
    -100 is no label. Several labels at once look alike, so such labels are taken only where the task is named or known.
    """

    name: ClassVar[str] = "classification"
    is_told: bool = True
    """False until it is known that each label is one class, where nobody has said so."""

    @classmethod
    def recognises(cls, name: str, *, has_encoder_and_decoder: bool) -> bool:
        """Return True for the classifiers of Transformers."""
        return bool(_CLASSIFIERS.search(name))

    def targets(self, batch: Mapping[str, Any]) -> Targets:
        """Return the batch's labels and the positions that count.

        Raises:
            ArgumentTypeError: the labels are one number for each example that is not an integer.
            ArgumentError: the labels are numbers for each class that are no probabilities, or may be something else.
        """
        labels, mask = batch.get("labels"), batch.get("mask")
        if labels is not None:
            self._check(labels, mask)
        if mask is not None:
            return Targets(labels, mask)
        if labels is None:
            inputs = first_input(batch)
            return Targets(None, torch.ones(inputs.shape[0], dtype=torch.bool, device=inputs.device))
        labelled = self.labelled(labels)
        return Targets(labels, torch.ones_like(labelled) if labelled.dim() == 1 else labelled)

    def _check(self, labels: Tensor, mask: Tensor | None) -> None:
        """Raise an error if numbers for each class are not known to be probabilities."""
        if not is_rows(labels):
            self.is_told = True
        elif labels.dim() == 1:
            raise ArgumentTypeError(
                "labels",
                f"expected integers (the number of a class), or the probability of each class, got {labels.dtype} "
                f"of shape {tuple(labels.shape)}.",
            )
        elif not self.is_told:
            raise ArgumentError(
                "task",
                f"the labels are numbers of shape {tuple(labels.shape)}, and nothing says what they are. Name the task: "
                "task='classification' if they are the probabilities of classes of which one is right, task='multi_label' if "
                "they say for each class whether it is there.",
            )
        elif is_cheap_to_read(labels):
            check_label_rows(
                labels, mask, remedy=" Where several classes may be there at once, name task='multi_label'."
            )

"""Several labels at once: each class is there or not, by a sigmoid of its own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from limbeck.errors import ArgumentError
from limbeck.losses import IGNORE_INDEX, SparseTargets, sigmoid_distillation_loss
from limbeck.models import first_input
from limbeck.tasks.base import Targets, Task


class MultiLabel(Task):
    """Several labels for each example: logits (N, C) meet labels (N, C), 1 for a class that is there and 0 for one that is not.

    -100 is a class of which it is not known. A label between 0 and 1 is the probability that the class is there; where right
    answers are counted, a class is there if its label is above 1/2, as it is in a prediction. Every example counts, labelled
    or not: one without labels learns from the teacher alone. A boolean ``mask`` (N,) in the batch overrides this.
    """

    name: ClassVar[str] = "multi_label"
    family: ClassVar[str] = "sigmoid"
    problem_type: ClassVar[str | None] = "multi_label_classification"
    columns: ClassVar[Mapping[str, str]] = {
        "accuracy": "accuracy, %",
        "class_accuracy": "accuracy per class, %",
        "mean_average_precision": "mAP, %",
        "nll": "NLL",
        "agreement": "agreement, %",
    }

    def targets(self, batch: Mapping[str, Any]) -> Targets:
        """Return the batch's labels and the positions that count.

        Raises:
            ArgumentError: the labels are not those of several classes.
        """
        labels, mask = batch.get("labels"), batch.get("mask")
        if labels is not None and labels.dim() < 2:
            raise ArgumentError(
                "labels",
                f"shape {tuple(labels.shape)}: one for each example. task='multi_label' expects 0 or 1 for each class, (N, C).",
            )
        if mask is None:
            example = first_input(batch) if labels is None else labels
            mask = torch.ones(len(example), dtype=torch.bool, device=example.device)
        return Targets(labels, mask)

    def labelled(self, labels: Tensor) -> Tensor:
        """Return a bool tensor (...,), True where at least one class is known to be there or not."""
        return (labels != IGNORE_INDEX).any(-1)

    def check_logits(self, logits: Tensor) -> None:
        """Accept any number of columns: one is enough for a sigmoid."""

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return the probability that each class is there."""
        return logits.sigmoid()

    def decide(self, logits: Tensor) -> Tensor:
        """Return 1 for each class whose probability is above 1/2, and 0 for the others."""
        return (logits > 0).float()

    def confidence(self, logits: Tensor) -> Tensor:
        """Return the probability of what is decided about a class, as the mean over classes: (...,)."""
        return logits.abs().sigmoid().mean(-1)

    def agreement(self, student: Tensor, teacher: Tensor | SparseTargets) -> Tensor:
        """Return the share of classes about which both models decide alike: (...,)."""
        assert isinstance(teacher, Tensor), "the loss has refused sparse targets"
        return (self.decide(student) == self.decide(teacher)).float().mean(-1)

    def scores(self, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Return the hard term, whether all known labels are right, and the share of them that are."""
        known = labels != IGNORE_INDEX
        right = (self.decide(logits) == _is_there(labels)) & known
        count = known.sum(-1)
        return {
            "loss": sigmoid_distillation_loss(logits, None, labels, alpha=0.0, reduction="none"),
            "accuracy": ((right.sum(-1) == count) & (count > 0)).float(),
            "class_accuracy": right.sum(-1) / count.clamp(min=1),
        }

    def metrics(self, logits: Tensor, labels: Tensor, teacher_logits: Tensor | None = None) -> dict[str, float]:
        """Return the metrics of a whole data set, over its labelled positions.

        Args:
            logits: (..., C).
            labels: (..., C).
            teacher_logits: the teacher's, for the agreement; None leaves it out.

        Returns:
            ``accuracy``: all labels of a position are right; ``class_accuracy``: the share of right labels;
            ``mean_average_precision``: the mean of the average precision of each class that some position has; ``nll``: the
            binary cross-entropy summed over classes.

        Raises:
            ArgumentError: no position has a label, or there is not one for each class.
        """
        labelled = self.labelled(labels)
        if logits.shape != labels.shape or not bool(labelled.any()):
            raise ArgumentError(
                "labels", f"expected some for logits of shape {tuple(logits.shape)}, got shape {tuple(labels.shape)}."
            )
        logits, labels = logits[labelled].double(), labels[labelled]
        means = {name: values.double().mean().item() for name, values in self.scores(logits, labels).items()}
        metrics = {
            "accuracy": means["accuracy"],
            "class_accuracy": means["class_accuracy"],
            "mean_average_precision": mean_average_precision(logits, labels),
            "nll": means["loss"],
        }
        if teacher_logits is not None:
            metrics["agreement"] = self.agreement(logits, teacher_logits[labelled]).double().mean().item()
        return metrics

    def tell(self, logits: Tensor, names: Sequence[str]) -> tuple[str, dict[str, float]]:
        """Return what one row of logits predicts: the names of the classes that are there, and each one's probability."""
        chosen = [name for name, is_there in zip(names, self.decide(logits).tolist(), strict=True) if is_there]
        return ", ".join(chosen) or "none", dict(zip(names, self.probabilities(logits).tolist(), strict=True))


def mean_average_precision(logits: Tensor, labels: Tensor) -> float:
    """Return the mean over classes of the average precision, as scikit-learn computes it.

    Args:
        logits: (N, C).
        labels: (N, C), from 0 to 1, where a class is there above 1/2; -100 where it is not known.

    Returns:
        The mean over the classes that some example has; NaN if there is none.
    """
    from sklearn.metrics import average_precision_score

    found = []
    for column, truth in zip(logits.unbind(-1), labels.unbind(-1), strict=True):
        known = truth != IGNORE_INDEX
        is_there = _is_there(truth[known])
        if bool(is_there.any()):
            found.append(float(average_precision_score(is_there.numpy(), column[known].numpy())))
    return sum(found) / len(found) if found else math.nan


def _is_there(labels: Tensor) -> Tensor:
    """Return True for each class whose label is above 1/2."""
    return labels > 0.5

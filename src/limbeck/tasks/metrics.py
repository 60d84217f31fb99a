"""Metrics of one choice among classes, at T = 1."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from limbeck.errors import ArgumentError
from limbeck.losses import IGNORE_INDEX
from limbeck.losses.labels import is_rows, labelled_positions, most_likely_classes

CALIBRATION_BINS = 15
CLASS_COLUMNS = {
    "accuracy": "accuracy, %",
    "nll": "NLL",
    "calibration_error": "calibration error, %",
    "agreement": "agreement, %",
}
"""The header of each of these metrics in a table."""


@dataclass(frozen=True)
class ClassificationMetrics:
    """The metrics of a model on labelled examples."""

    accuracy: float
    """Share of examples whose argmax is the label."""
    nll: float
    """Mean negative log-likelihood of the label, in nats."""
    calibration_error: float
    """Expected calibration error of the first class, in 15 bins of equal width (Guo et al., 2017)."""
    agreement: float | None = None
    """Share of examples where the student's argmax is the teacher's."""

    def as_dict(self) -> dict[str, float]:
        """Return the metrics by name, without those that were not measured."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def classification_metrics(
    logits: Tensor, labels: Tensor, teacher_logits: Tensor | None = None
) -> ClassificationMetrics:
    """Compute the metrics of logits at T = 1, over the examples that have a label.

    Args:
        logits: (N, V), the model's.
        labels: (N,), integers; -100 for an example without a label, which does not count. Or the probability of each class,
            (N, V): their most likely class is the right one, and the NLL is the cross-entropy with them.
        teacher_logits: (N, V), the teacher's logits of the same examples, for the agreement; None leaves it out.

    Returns:
        The metrics.

    Raises:
        ArgumentError: the number of labels is not N, or no example has a label.

    Example:
        >>> classification_metrics(torch.tensor([[2.0, 0.0], [0.0, 2.0]]), torch.tensor([0, 0])).accuracy
        0.5
    """
    if len(logits) != len(labels):
        raise ArgumentError("labels", f"expected one for each of {len(logits)} rows of logits, got {len(labels)}.")
    known = labelled_positions(labels, None, IGNORE_INDEX)
    logits, labels = logits[known].double(), labels[known]
    if not len(labels):
        raise ArgumentError("labels", "no example has one, so there is nothing to measure.")
    predictions, classes = logits.argmax(-1), most_likely_classes(labels)
    agreement = None
    if teacher_logits is not None:
        agreement = (predictions == teacher_logits[known].argmax(-1)).double().mean().item()
    return ClassificationMetrics(
        accuracy=(predictions == classes).double().mean().item(),
        nll=cross_entropy(logits, labels.double() if is_rows(labels) else labels).item(),
        calibration_error=calibration_error(logits.softmax(-1), classes),
        agreement=agreement,
    )


def calibration_error(probabilities: Tensor, labels: Tensor, bins: int = CALIBRATION_BINS) -> float:
    """Compute the expected calibration error: the gap between confidence and accuracy, averaged over bins of confidence.

    Args:
        probabilities: (N, V); each row sums to 1.
        labels: (N,), integers.
        bins: the number of bins, which have equal width over [0, 1].

    Returns:
        The error, between 0 and 1.

    References:
        Guo et al., "On Calibration of Modern Neural Networks", 2017.
    """
    confidence, predictions = probabilities.max(-1)
    gap = (predictions == labels).double() - confidence.double()
    bin_of = (confidence * bins).ceil().long().clamp(1, bins) - 1
    sums = torch.zeros(bins, dtype=torch.float64).index_add_(0, bin_of, gap)
    return (sums.abs().sum() / len(labels)).item()

"""A class that training omitted: how many of its examples the student gets right, before and after correcting its bias."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from limbeck.tasks.metrics import classification_metrics


def best_bias(logits: Tensor, labels: Tensor, wanted: int) -> float:
    """Find the number to add to the logits of one class so that most of these examples are classified correctly.

    A student that was trained without a class has learnt a too low bias for it; this number corrects the bias (Hinton et
    al., 2015, section 3). Choose it on validation examples, never on test examples.

    Args:
        logits: (N, V).
        labels: (N,), integers.
        wanted: the class.

    Returns:
        The number. If several are equally good, the middle of the widest interval of them.

    References:
        Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015.

    Example:
        >>> logits = torch.tensor([[2.0, 0.0], [2.0, 1.0], [3.0, 0.0]])
        >>> best_bias(logits, torch.tensor([0, 1, 0]), wanted=1)
        1.5
    """
    others = logits.clone().double()
    others[:, wanted] = -math.inf
    # An example is assigned to the class as soon as the bias exceeds its threshold.
    thresholds = others.amax(-1) - logits[:, wanted].double()
    gain = torch.where(labels == wanted, 1, 0) - torch.where((labels != wanted) & (others.argmax(-1) == labels), 1, 0)
    order = thresholds.argsort()
    ordered, right = thresholds[order].tolist(), gain[order].cumsum(0).tolist()
    # Between two neighbouring thresholds the number of correct examples is constant. Counts are relative to the number
    # below the first threshold.
    best, interval = 0, (ordered[0] - 2.0, ordered[0])
    for i, count in enumerate(right):
        low = ordered[i]
        high = ordered[i + 1] if i + 1 < len(ordered) else low + 2.0
        if high > low and (count, high - low) > (best, interval[1] - interval[0]):
            best, interval = count, (low, high)
    return (interval[0] + interval[1]) / 2


def omitted_class_metrics(
    validation: Tensor, validation_labels: Tensor, test: Tensor, labels: Tensor, omitted: int
) -> dict[str, float]:
    """Measure a student on a class that its training omitted, before and after correcting the bias of that class.

    The correction is ``best_bias`` on the validation examples.

    Args:
        validation: (M, V), the student's logits of the validation examples.
        validation_labels: (M,), integers.
        test: (N, V), the student's logits of the test examples.
        labels: (N,), integers, of the test examples.
        omitted: the class.

    Returns:
        Accuracies between 0 and 1: ``before`` and ``after`` on the test examples of the class, ``all_before`` and
        ``all_after`` on all test examples, ``validation_after`` on all validation examples.
    """
    bias = torch.zeros(test.shape[-1])
    bias[omitted] = best_bias(validation, validation_labels, omitted)
    is_omitted = labels == omitted
    before, after = test.argmax(-1) == labels, (test + bias).argmax(-1) == labels
    return {
        "before": before[is_omitted].double().mean().item(),
        "after": after[is_omitted].double().mean().item(),
        "all_before": before.double().mean().item(),
        "all_after": after.double().mean().item(),
        "validation_after": classification_metrics(validation + bias, validation_labels).accuracy,
    }

"""A class that the student never saw: the bias of its logit, and how many of its examples the student gets."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from limbeck.evaluation.metrics import classification_metrics


def best_bias(logits: Tensor, labels: Tensor, wanted: int) -> float:
    """The number to add to the logit of class ``wanted`` that makes most of these examples right.

    For a class that training omitted, whose bias says so (Hinton et al., 2015, section 3). Of several equally good
    numbers, the middle of the widest interval. Choose it on validation, never on test.

    Example:
        >>> logits = torch.tensor([[2.0, 0.0], [2.0, 1.0], [3.0, 0.0]])
        >>> best_bias(logits, torch.tensor([0, 1, 0]), wanted=1)
        1.5
    """
    others = logits.clone().double()
    others[:, wanted] = -math.inf
    # An example goes to the class once the bias exceeds its threshold.
    thresholds = others.amax(-1) - logits[:, wanted].double()
    gain = torch.where(labels == wanted, 1, 0) - torch.where((labels != wanted) & (others.argmax(-1) == labels), 1, 0)
    order = thresholds.argsort()
    ordered, right = thresholds[order].tolist(), gain[order].cumsum(0).tolist()
    # Between two neighbouring thresholds the number right is constant; below the first it is 0, by which others count.
    best, interval = 0, (ordered[0] - 2.0, ordered[0])
    for i, count in enumerate(right):
        low = ordered[i]
        high = ordered[i + 1] if i + 1 < len(ordered) else low + 2.0
        if high > low and (count, high - low) > (best, interval[1] - interval[0]):
            best, interval = count, (low, high)
    return (interval[0] + interval[1]) / 2


def omission(
    validation: Tensor, validation_labels: Tensor, test: Tensor, labels: Tensor, omitted: int
) -> dict[str, float]:
    """Of the test examples of a class that the student never saw: how many it gets, before and after correcting its bias.

    The bias of its logit is the one that serves validation best. ``before`` and ``after`` are the accuracies on that class,
    ``all_before`` and ``all_after`` those over every test example, ``validation_after`` that on validation.

    Args:
        validation: (M, V) logits.
        validation_labels: (M,).
        test: (N, V) logits.
        labels: (N,), of the test examples.
        omitted: the class.
    """
    bias = torch.zeros(test.shape[-1])
    bias[omitted] = best_bias(validation, validation_labels, omitted)
    theirs = labels == omitted
    before, after = test.argmax(-1) == labels, (test + bias).argmax(-1) == labels
    return {
        "before": before[theirs].double().mean().item(),
        "after": after[theirs].double().mean().item(),
        "all_before": before.double().mean().item(),
        "all_after": after.double().mean().item(),
        "validation_after": classification_metrics(validation + bias, validation_labels).accuracy,
    }

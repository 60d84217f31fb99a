"""How good a student is on validation data, in a number by which T is chosen, and example by example for the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from limbeck.errors import ArgumentError
from limbeck.temperature.calibration import calibrate

BRIER_WEIGHT = 0.3
"""What the student's calibrated Brier score counts, beside the judgement of what it predicts."""


@dataclass(frozen=True)
class Quality:
    """The quality of a student on validation data.

    Raises:
        ArgumentError: the examples of a field are not in one row, there are none, or the fields have not the same number.

    Example:
        >>> quality = Quality.of_scores([True, True, False, True])
        >>> quality.value, quality.examples
        (0.75, 4)
    """

    value: float
    """The number that T is chosen by; higher is better."""
    scores: np.ndarray | None = field(default=None, repr=False, compare=False)
    """(n,), the metric of each validation example, such as 1 where the student is right, in one order for all students. The
    verdict compares students example by example; None when only the number is known."""
    brier: np.ndarray | None = field(default=None, repr=False, compare=False)
    """(n,), the Brier score of each example, after the student's own calibration; None when there are no probabilities."""

    def __post_init__(self) -> None:
        shapes = {name: np.shape(x) for name in ("scores", "brier") if (x := getattr(self, name)) is not None}
        for name, shape in shapes.items():
            if len(shape) != 1 or not shape[0]:
                raise ArgumentError(name, f"expected (n,) numbers with n of at least 1, got {shape}.")
        if len(set(shapes.values())) > 1:
            raise ArgumentError("brier", f"expected as many examples as scores has, got {shapes}.")

    @property
    def examples(self) -> int | None:
        """Return the number of validation examples; None when it is not known."""
        return None if self.scores is None else len(self.scores)

    @property
    def score(self) -> float:
        """Return the mean of the scores, or the value if they are not known."""
        return self.value if self.scores is None else float(np.mean(self.scores))

    @classmethod
    def of_scores(cls, scores: Sequence[bool] | Sequence[float] | np.ndarray | Tensor) -> Quality:
        """Return the quality whose value is the mean of the scores.

        Args:
            scores: (n,) booleans or numbers, the metric of each validation example, in one order for all students.

        Raises:
            ArgumentError: there are no examples, or the shape is wrong.
        """
        array = np.asarray(scores)
        return cls(float(np.mean(array)) if array.size else 0.0, array)

    @classmethod
    def of_logits(cls, logits: Tensor, labels: Tensor, teacher_logits: Tensor | None = None) -> Quality:
        """Return the quality of a classifier, in which less is left to chance than in its accuracy.

            value = w t + (1 - w) a - 0.3 b

        t is the mean probability that the calibrated teacher gives to the class that the student predicts: a judgement between
        0 and 1, far less noisy than right or wrong. a is the student's accuracy. w is the accuracy of the teacher on the same
        examples, so that a bad teacher judges little; without the teacher's logits it is 0. b is the mean Brier score after
        the student's own calibration (temperature scaling), so that a student is not punished for being sure. The teacher's
        judgement is part of the value alone, by which T is chosen, and not of the scores, by which it is told whether the
        teacher pays.

        Args:
            logits: (n, V), the student's.
            labels: (n,) integers, none missing.
            teacher_logits: (n, V), the teacher's.

        Raises:
            ArgumentError: there are no examples, or the shapes do not fit.
        """
        if logits.dim() != 2 or labels.shape != logits.shape[:1] or not len(labels):
            raise ArgumentError(
                "logits", f"expected (n, V) with (n,) labels, got {tuple(logits.shape)} and {tuple(labels.shape)}."
            )
        if teacher_logits is not None and teacher_logits.shape != logits.shape:
            raise ArgumentError(
                "teacher_logits", f"expected the shape {tuple(logits.shape)}, got {tuple(teacher_logits.shape)}."
            )
        labels = labels.long()
        predicted = logits.argmax(-1)
        is_right = predicted == labels
        brier = (_calibrated(logits, labels) - one_hot(labels, logits.shape[-1])).square().sum(-1)
        judged = is_right.double().mean()
        if teacher_logits is not None:
            trust = (teacher_logits.argmax(-1) == labels).double().mean()
            believed = _calibrated(teacher_logits, labels).gather(-1, predicted[:, None]).mean()
            judged = trust * believed + (1 - trust) * judged
        return cls((judged - BRIER_WEIGHT * brier.mean()).item(), is_right.numpy(), brier.to(torch.float32).numpy())


def _calibrated(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the probabilities of logits whose own temperature was fitted to the labels: (n, V) float64."""
    logits = logits.detach().cpu().double()
    # No temperature fits a label that is ruled out. Such a class counts as the least likely of the others.
    lowest = logits.masked_fill(logits == -torch.inf, torch.inf).amin(-1, keepdim=True)
    logits = torch.where(logits == -torch.inf, lowest, logits)
    return (logits / calibrate(logits, labels).temperature).softmax(-1)

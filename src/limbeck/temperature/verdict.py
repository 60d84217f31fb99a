"""Whether a teacher pays, does not pay, or cannot be told to, with an error that includes the validation set's own.

Students are compared on a finite validation set. Two errors add up: other seeds would give other students, and another
validation set of the same size would give them another accuracy. A difference of two students is known to

    s² = 2 noise² / pairs  +  variance of the validation set  +  (1.5 / n)²

where noise is the standard deviation of one student over seeds, and n is the number of validation examples. The variance of
the validation set is that of the mean over examples of (correct with the teacher) - (correct without); examples that both
students get right or wrong add nothing to it. The last term keeps a difference of a few examples from looking exact.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from limbeck.errors import ArgumentError

Answer = Literal["pays", "does not pay", "cannot be told"]

WORTH = 0.003
"""The smallest gain that is worth a teacher: 0.3 points of accuracy."""
PAYS_AT, DENIES_AT = 1.64, 1.28
"""How many standard errors the gain is above 0 when a teacher pays, and below ``WORTH`` when it does not."""


@dataclass(frozen=True)
class Quality:
    """The quality of a student on validation data, with what is known of its error.

    Raises:
        ArgumentError: a field has a value that is not accepted.

    Example:
        >>> quality = Quality.of_correct([True, True, False, True])
        >>> quality.value, quality.examples, round(quality.standard_error, 3)
        (0.75, 4, 0.217)
    """

    value: float
    """The quality; higher is better. With ``correct``, the accuracy as a fraction."""
    standard_error: float | None = None
    """The standard error that the finite validation set gives the value; None when it is not known."""
    examples: int | None = None
    """The number of validation examples; None when it is not known."""
    correct: np.ndarray | None = field(default=None, repr=False, compare=False)
    """(n,) booleans, which validation examples the student gets right, in one order for all students. With it, students are
    compared example by example, and the error of their difference is smaller."""

    def __post_init__(self) -> None:
        error, n = self.standard_error, self.examples
        if error is not None and not (error >= 0 and math.isfinite(error)):
            raise ArgumentError("standard_error", f"expected a number of at least 0, got {error!r}.")
        if n is not None and n < 1:
            raise ArgumentError("examples", f"expected at least 1, got {n!r}.")
        if self.correct is not None and np.shape(self.correct) != (n,):
            raise ArgumentError(
                "correct", f"expected one boolean for each of {n} examples, got {np.shape(self.correct)}."
            )

    @classmethod
    def of_correct(cls, correct: Sequence[bool] | np.ndarray) -> Quality:
        """Return the accuracy of a student with its error.

        Args:
            correct: (n,) booleans, which validation examples the student gets right, in one order for all students. A tensor
                is accepted as well.

        Raises:
            ArgumentError: there are no examples, or the shape is wrong.
        """
        array = np.asarray(correct).astype(bool)
        if array.ndim != 1 or not array.size:
            raise ArgumentError("correct", f"expected (n,) booleans with n of at least 1, got {array.shape}.")
        value = float(array.mean())
        return cls(value, math.sqrt(value * (1 - value) / array.size), array.size, array)


@dataclass(frozen=True)
class Verdict:
    """What pairs of students, with and without a teacher, say of the teacher."""

    gain: float
    """The mean difference of quality, with the teacher minus without; NaN when there are no pairs."""
    training_error: float
    """The standard error of the gain over seeds."""
    validation_error: float | None
    """The standard error of the gain over validation sets of this size; None when it is not known."""
    seeds: int
    """The number of pairs of students. Both students of a pair have the same seed."""
    examples: int | None = None
    """The number of validation examples; None when it is not known."""

    @property
    def error(self) -> float:
        """Return the standard error of the gain."""
        return math.hypot(self.training_error, self._of_the_set)

    @property
    def _of_the_set(self) -> float:
        """Return the part of the error that more validation examples would lower."""
        return math.hypot(self.validation_error or 0.0, 0.0 if self.examples is None else 1.5 / self.examples)

    @property
    def answer(self) -> Answer:
        """Return whether the teacher pays, does not pay (a gain worth having is unlikely), or cannot be told to."""
        if self.gain > PAYS_AT * self.error:
            return "pays"
        if self.gain + DENIES_AT * self.error < WORTH:
            return "does not pay"
        return "cannot be told"

    def describe(self, labels: int | None = None, metric: str = "accuracy") -> str:
        """Return the verdict and what it rests on as plain text.

        Args:
            labels: the number of labelled training examples; None leaves it out.
            metric: what the quality is. Accuracies are told in points.
        """
        if not self.seeds:
            return "It cannot be told whether the teacher pays: no student was trained with and without it on one seed."
        known = [f"{self.seeds} {'seed' if self.seeds == 1 else 'seeds'}"]
        if self.examples is not None:
            known.append(f"{self.examples} validation examples")
        if labels is not None:
            known.append(f"{labels} training labels")
        scale, digits, unit = (100, 1, " points of") if metric == "accuracy" else (1, 3, " in")
        measured = (
            f"Over the same student without a teacher: {scale * self.gain:+.{digits}f} ± {scale * self.error:.{digits}f}{unit} "
            f"validation {metric.replace('_', ' ')} ({', '.join(known)}). "
        )
        if self.validation_error is None:
            measured += "The error leaves out that of the validation set, which is not known. "
        if self.answer == "pays":
            return measured + "The teacher pays."
        if self.answer == "does not pay":
            return (
                measured
                + f"The teacher does not pay: a gain of {scale * WORTH:g}{' points' if scale > 1 else ''} or more is unlikely."
            )
        more = "seeds" if self.training_error > self._of_the_set else "validation examples"
        return measured + f"These students cannot tell whether the teacher pays; more {more} would help most."


def judge(pairs: Sequence[tuple[Quality, Quality]], noise: float) -> Verdict:
    """Compare students with and without a teacher.

    Args:
        pairs: the qualities with and without the teacher of students that have the same seed.
        noise: the standard deviation of one student's quality over seeds.

    Returns:
        The gain with its errors. Without ``correct``, the error of the validation set is that of two independent sets, which
        is too large rather than too small.
    """
    if not pairs:
        return Verdict(math.nan, math.inf, None, 0)
    gain = float(np.mean([one.value - other.value for one, other in pairs]))
    both = [quality for pair in pairs for quality in pair]
    sizes = {quality.examples for quality in both}
    return Verdict(
        gain=gain,
        training_error=noise * math.sqrt(2 / len(pairs)),
        validation_error=_validation_error(pairs),
        seeds=len(pairs),
        examples=next(iter(sizes)) if len(sizes) == 1 else None,
    )


def _validation_error(pairs: Sequence[tuple[Quality, Quality]]) -> float | None:
    """Return the standard error of the mean difference over validation sets; None when it is not known."""
    per_pair = [
        np.subtract(one.correct, other.correct, dtype=float)
        for one, other in pairs
        if one.correct is not None and other.correct is not None and one.examples == other.examples
    ]
    if len(per_pair) == len(pairs) and len({len(row) for row in per_pair}) == 1:
        return float(np.mean(per_pair, axis=0).std() / math.sqrt(len(per_pair[0])))
    sides = [[q.standard_error for q in side] for side in zip(*pairs, strict=True)]
    if any(error is None for side in sides for error in side):
        return None
    return math.hypot(*(float(np.mean([e for e in side if e is not None])) for side in sides))

"""Whether a teacher pays, does not pay, or cannot be told to, with an error that includes the validation set's own.

Students are compared on a finite validation set. Two errors add up: other seeds would give other students, and another
validation set of the same size would give them other scores. All students, with a teacher at any T and without one, are fitted
together (``gaussian_process``), and the gain at the chosen T is known to

    s² = variance of the fit  +  difference' (C / n) difference  +  (1.5 / n)²

C is the covariance of the students' scores over the n validation examples. Examples that all students get right or wrong add
nothing to the second term. The last term keeps a difference of a few examples from looking exact.

The Brier score of calibrated probabilities sees a gain earlier than the accuracy does, because it is not rounded to right or
wrong. The verdict therefore needs one of them to be clear and the other not to contradict. The teacher's own judgement of the
validation examples is no part of it: a bad teacher would praise its students.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from limbeck.temperature.gaussian_process import Gain, Observation, fit_gain
from limbeck.temperature.quality import Quality
from limbeck.temperature.search_plan import Trial

Answer = Literal["pays", "does not pay", "cannot be told"]

WORTH = 0.003
"""The smallest gain that is worth a teacher: 0.3 points of accuracy."""
PAYS_AT, DENIES_AT = 1.64, 1.28
"""How many standard errors the gain is above 0 when a teacher pays, and below ``WORTH`` when it does not."""
BRIER_WEIGHT = 0.75
"""A Brier score times this is in the unit of accuracy: so much of it goes with a point of accuracy."""


@dataclass(frozen=True)
class Verdict:
    """What students with and without a teacher say of the teacher."""

    gain: float
    """The score with the teacher minus that without; NaN when there are no students without one."""
    training_error: float
    """The standard error that the finite number of students gives the gain."""
    validation_error: float | None
    """The standard error that a validation set of this size gives the gain; None when it is not known."""
    students: int
    """The number of students that were compared."""
    examples: int | None = None
    """The number of validation examples; None when it is not known."""
    brier_gain: float | None = None
    """0.75 x the fall of the calibrated Brier score; None when it is not known."""
    brier_error: float | None = None
    """The standard error of ``brier_gain``."""

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
        g, s, b, e = self.gain, self.error, self.brier_gain, self.brier_error
        if b is None or e is None:
            pays, denied = g > PAYS_AT * s, g + DENIES_AT * s < WORTH
        else:
            pays = (b > e and g > 0) or (g > PAYS_AT * s and b > -e)
            denied = g + DENIES_AT * s < WORTH and b + DENIES_AT * e < WORTH
        return "pays" if pays else "does not pay" if denied else "cannot be told"

    @property
    def needed(self) -> str:
        """Return what would make the gain clear, if it stays where it is."""
        tolerated = self.gain / PAYS_AT if self.gain > WORTH / 2 else (WORTH - self.gain) / DENIES_AT
        options = []
        for name, count, own, other in (
            ("trainings", self.students, self.training_error, self._of_the_set),
            ("validation examples", self.examples, self._of_the_set, self.training_error),
        ):
            room = tolerated**2 - other**2
            if count is not None and own > 0 and room > 0:
                factor = max(own**2 / room, 1.0)
                options.append((factor, f"about {_rounded(count * (factor - 1))} more {name} would tell"))
        if options:
            return min(options)[1]
        return "it would take both more trainings and more validation examples"

    def describe(self, labels: int | None = None, metric: str = "accuracy") -> str:
        """Return the verdict and what it rests on as plain text.

        Args:
            labels: the number of labelled training examples; None leaves it out.
            metric: what the score is. Accuracies are told in points.
        """
        if math.isnan(self.gain):
            return "It cannot be told whether the teacher pays: no student was trained without it."
        known = [f"{self.students} students"]
        if self.examples is not None:
            known.append(f"{self.examples} validation examples")
        if labels is not None:
            known.append(f"{labels} training labels")
        scale, digits, unit = (100, 1, " points of") if metric == "accuracy" else (1, 3, " in")
        measured = (
            f"Over the same student without a teacher: {scale * self.gain:+.{digits}f} ± {scale * self.error:.{digits}f}{unit} "
            f"validation {metric.replace('_', ' ')}"
        )
        if self.brier_gain is not None and self.brier_error is not None:
            measured += (
                f", and {scale * self.brier_gain:+.{digits}f} ± {scale * self.brier_error:.{digits}f} by the calibrated Brier "
                "score, in the same unit"
            )
        measured += f" ({', '.join(known)}). "
        if self.validation_error is None:
            measured += "The error leaves out that of the validation set, which is not known. "
        if self.answer == "pays":
            return measured + "The teacher pays."
        if self.answer == "does not pay":
            return (
                measured
                + f"The teacher does not pay: a gain of {scale * WORTH:g}{' points' if scale > 1 else ''} or more is unlikely."
            )
        return measured + f"These students cannot tell whether the teacher pays; {self.needed}."


def judge(qualities: Mapping[Trial, Quality], temperature: float) -> Verdict:
    """Judge a teacher by students with and without it.

    Args:
        qualities: the students of one objective at any temperatures, and those without a teacher (``alpha=0``).
        temperature: the T at which the gain is wanted.

    Returns:
        The gain with its errors. Without the students' scores, the error of the validation set is not known.
    """
    students = list(qualities.items())
    if not any(trial.alpha == 0 for trial, _ in students) or all(trial.alpha == 0 for trial, _ in students):
        return Verdict(math.nan, math.inf, None, len(students))
    sizes = {quality.examples for _, quality in students}
    examples = sizes.pop() if len(sizes) == 1 else None
    found = _gain(students, [q.score for _, q in students], [q.scores for _, q in students], examples, temperature)
    brier = [None if q.brier is None else -BRIER_WEIGHT * q.brier for _, q in students]
    brier_gain = brier_error = None
    if examples is not None and all(rows is not None for rows in brier):
        seen = _gain(
            students, [float(np.mean(rows)) for rows in brier if rows is not None], brier, examples, temperature
        )
        brier_gain = seen.value
        brier_error = math.hypot(seen.training_error, seen.validation_error, 1.5 / examples)
    return Verdict(
        gain=found.value,
        training_error=found.training_error,
        validation_error=None if examples is None else found.validation_error,
        students=len(students),
        examples=examples,
        brier_gain=brier_gain,
        brier_error=brier_error,
    )


def compare(pairs: Sequence[tuple[Quality, Quality]], noise: float) -> tuple[float, float]:
    """Return the mean difference of the qualities of pairs of students, and its standard error over seeds.

    Args:
        pairs: two students of one seed each.
        noise: the standard deviation of one student's quality over seeds.
    """
    gain = float(np.mean([one.value - other.value for one, other in pairs]))
    return gain, noise * math.sqrt(2 / len(pairs))


def _gain(
    students: Sequence[tuple[Trial, Quality]],
    means: Sequence[float],
    rows: Sequence[np.ndarray | None],
    examples: int | None,
    temperature: float,
) -> Gain:
    """Return the gain of one measure, with the covariance of its rows over the validation examples."""
    observations = [
        Observation(None if trial.alpha == 0 else trial.temperature, trial.seed, mean)
        for (trial, _), mean in zip(students, means, strict=True)
    ]
    known = [row for row in rows if row is not None]
    if examples is None or len(known) < len(rows):
        return fit_gain(observations, temperature)
    covariance = np.cov(np.stack(known).astype(float), bias=True) / examples
    return fit_gain(observations, temperature, covariance)


def _rounded(count: float) -> int:
    """Return a number of at least 1 with at most two digits that are not 0."""
    whole = max(1, math.ceil(count))
    step = 10 ** max(0, len(str(whole)) - 2)
    return math.ceil(whole / step) * step

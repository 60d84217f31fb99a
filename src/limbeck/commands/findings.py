"""What the numbers of a comparison say, in sentences."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from torch import Tensor

from limbeck import report
from limbeck.commands.arms import ALONE, HARD, NUMBERS, TRANSFER_NUMBERS, Arm, soft_arm, transfer_arm
from limbeck.data import Splits
from limbeck.evaluation import ArmResult, Estimate, difference
from limbeck.tasks import Task, task_named


def comparison_findings(
    arms: Mapping[str, ArmResult],
    temperatures: Sequence[float],
    metric: str = "accuracy",
    validation_score: str = "validation_accuracy",
) -> list[str]:
    """Say what softness, the temperature and the transfer set gained.

    Args:
        arms: the result of each arm, by its name.
        temperatures: the temperatures of the arms with soft targets.
        metric: what the students are compared by, such as "accuracy"; or "agreement" on a test set without labels.
        validation_score: what temperatures are chosen by.

    Returns:
        One line for each of the three, where it was measured.
    """
    low, high = min(temperatures), max(temperatures)

    def chosen(arm: Callable[[float], Arm]) -> float:
        """Return the temperature with the highest score on validation."""
        return max(temperatures, key=lambda t: arms[arm(t).name][validation_score].mean)

    def gain(first: Arm, second: Arm) -> str:
        return describe_gain(difference(arms[first.name], arms[second.name], metric), metric)

    t = chosen(soft_arm)
    softness = [f"on the labelled examples, soft targets (T = {t:g}) over labels alone: {gain(soft_arm(t), ALONE)}"]
    temperature = [f"on the labelled examples, T = {high:g} over T = {low:g}: {gain(soft_arm(high), soft_arm(low))}"]
    transfer = []
    if HARD.name in arms:
        u = chosen(transfer_arm)
        softness.append(
            f"on the transfer set, soft targets (T = {u:g}) over the teacher's hard labels: {gain(transfer_arm(u), HARD)}"
        )
        temperature.append(f"on the transfer set: {gain(transfer_arm(high), transfer_arm(low))}")
        transfer.append(
            f"the unlabelled examples (T = {u:g}) over the labelled ones alone (T = {t:g}): "
            f"{gain(transfer_arm(u), soft_arm(t))}"
        )
    lines = [f"Softness: {'; '.join(softness)}. (T as chosen on validation.)"]
    if high > low:
        lines.append(f"Temperature: {'; '.join(temperature)}.")
    if transfer:
        lines.append(f"Transfer set: {'; '.join(transfer)}.")
    return lines


def findings_of_numbers(arms: Mapping[str, ArmResult], metric: str) -> list[str]:
    """Say what the teacher's numbers and the transfer set gained; or, of embeddings, how the two distances differ.

    Args:
        arms: the result of each arm, by its name.
        metric: what the students are compared by.

    Returns:
        One line for each, where it was measured.
    """

    def gain(first: str, second: str) -> str:
        return describe_gain(difference(arms[first], arms[second], metric), metric)

    if ALONE.name not in arms:
        first, second = arms
        return [f"Distance: {first} over {second}: {gain(first, second)}."]
    lines = [f"Teacher's numbers: on the labelled examples, over labels alone: {gain(NUMBERS, ALONE.name)}."]
    if TRANSFER_NUMBERS in arms:
        lines.append(f"Transfer set: over the labelled examples alone: {gain(TRANSFER_NUMBERS, NUMBERS)}.")
    return lines


def confidence_finding(task: Task, teacher_logits: Tensor, temperatures: Sequence[float]) -> str:
    """Say how much of its probability the teacher gives to what it decides at each temperature.

    Args:
        task: says what is decided.
        teacher_logits: (N, V), of the training examples.
        temperatures: positive numbers.

    Returns:
        The sentence.
    """
    shares = (f"{100 * task.confidence(teacher_logits / t).mean().item():.3f} % at T = {t:g}" for t in temperatures)
    return (
        f"Teacher: to its first class it gives on average {', '.join(shares)}, over the training examples; "
        "near 100 % soft targets are hard labels."
    )


def labels_told(splits: Splits, labels: int | None = None) -> str:
    """Say how many labels the students learn from.

    Args:
        splits: the examples.
        labels: the number of labelled training examples, where it is not that of ``splits``.

    Returns:
        The words, without a full stop.
    """
    if not task_named(splits.task).has_labels:
        return "no labels"
    count = int(splits.labelled.sum()) if labels is None else labels
    what = "sequences" if task_named(splits.task).unit == "token" else "labels"
    return f"{count:,} {what} for training"


def teacher_findings(teacher: Mapping[str, float], student: float, metric: str = "accuracy") -> list[str]:
    """Say whether the teacher is better than its student on the test set.

    Args:
        teacher: the teacher's metrics.
        student: the student's value of ``metric``.
        metric: what they are compared by.

    Returns:
        One sentence; none if the teacher's metric is not known, as on a test set without labels.
    """
    if metric not in teacher:
        return []
    unit = _Unit(metric)
    points = unit.scale * (teacher[metric] - student)
    if round(points, unit.digits) == 0:
        return ["Teacher: on the test set it is as good as its student."]
    if points > 0:
        return [f"Teacher: on the test set it is better than its student, by {unit.tell(points)}."]
    return [
        f"Teacher: on the test set it is worse than its student, by {unit.tell(-points)}. A better teacher would teach more; "
        "or this one does not fit these data: look at its classes and at how its inputs are prepared."
    ]


def headline_of_comparison(
    arms: Mapping[str, ArmResult], teacher: Mapping[str, np.ndarray], chosen: str, metric: str
) -> str:
    """Say which part of the gap between the student without a teacher and the teacher distillation recovers.

    The part is R = mean(s - a) / mean(t - a) over the test examples, with s of the chosen student, a of the one on labels alone
    and t of the teacher. Its error is that of the mean of (s - a - R (t - a)) / mean(t - a), its linear change (the delta
    method), over seeds and test examples.

    Args:
        arms: the result of each arm, by its name.
        teacher: of each metric that is a mean over test examples, the teacher's value of each example, (n,).
        chosen: the arm with soft targets that is told about.
        metric: what the students are compared by.

    Returns:
        One sentence; "" where the metric of the teacher or of labels alone is not known example by example.
    """
    if ALONE.name not in arms or metric not in teacher or metric not in arms[chosen].by_example:
        return ""
    unit = _Unit(metric)
    alone, student = arms[ALONE.name].by_example[metric], arms[chosen].by_example[metric]
    gap = Estimate.of_examples(teacher[metric] - alone)
    reached = f"{chosen} (the best with soft targets on validation) reaches {unit.tell_level(student.mean())}"
    between = (
        f"labels alone ({unit.tell_level(alone.mean())}) and the teacher ({unit.tell_level(teacher[metric].mean())})"
    )
    if gap.mean <= 0 or (len(alone) > 1 and not gap.is_clear):
        return f"There is no clear gap to recover between {between}; {reached}."

    def recovered(student: np.ndarray) -> str:
        share = (student - alone).mean() / gap.mean
        error = Estimate.of_examples((student - alone - share * (teacher[metric] - alone)) / gap.mean).error
        return f"{100 * share:.0f} %" + ("" if math.isnan(error) else f" ± {100 * error:.0f}")

    told = f"Distillation recovers {recovered(student)} of the gap between {between}: {reached}."
    if HARD.name in arms and chosen.startswith("transfer set"):
        told += (
            f" The teacher's hard labels of the same examples recover {recovered(arms[HARD.name].by_example[metric])}."
        )
    return told


def headline_of_run(results: Mapping[str, Mapping[str, float]], metric: str) -> str:
    """Say how good and how large a student is beside its teacher.

    Args:
        results: the test metrics of "student" and, where it was run, of "teacher".
        metric: what they are compared by.

    Returns:
        One sentence; "" where the student's metric is not known.
    """
    student, teacher = results["student"], results.get("teacher", {})
    if metric not in student:
        return ""
    unit = _Unit(metric)
    reached = f"The student reaches {unit.tell_level(student[metric])} on the test set"
    if teacher.get("parameters"):
        reached += f" with {100 * student['parameters'] / teacher['parameters']:.2g} % of its teacher's parameters"
    if metric in teacher:
        reached += f"; the teacher reaches {unit.tell_level(teacher[metric])}"
    return reached + "."


class _Unit:
    """How differences of a metric are written: those of a share in points, of others as they are."""

    def __init__(self, metric: str) -> None:
        is_share = report.is_share(metric)
        name = report.name_of_metric(metric)
        self.scale, self.digits, self.name = (100, 1, " points") if is_share else (1, 3, f" in {name}")
        self._level = f" % {name}" if is_share else f" {name}"

    def tell(self, value: float, sign: str = "") -> str:
        return f"{value:{sign}.{self.digits}f}{self.name}"

    def tell_level(self, value: float) -> str:
        return f"{self.scale * value:.{self.digits}f}{self._level}"


def describe_gain(gain: Estimate, metric: str = "accuracy") -> str:
    """Write a gain with its standard error and 95 % interval, in points if it is one of shares, and say whether it is clear.

    It is clear if the interval, which is many standard errors wide where there are two seeds, does not include 0.

    Args:
        gain: a difference of values of the metric.
        metric: its name.

    Returns:
        The text.
    """
    unit = _Unit(metric)
    points, error = unit.scale * gain.mean, unit.scale * gain.error
    if math.isnan(error):
        return f"{unit.tell(points, '+')} (one seed: no error known)"
    low, high = (f"{points + side * unit.scale * gain.margin:+.{unit.digits}f}" for side in (-1, 1))
    shown = f"{points:+.{unit.digits}f} ± {unit.tell(error)} (95 % interval of {gain.count} seeds: {low} to {high})"
    if not gain.is_clear:
        return f"{shown}, no clear gain or loss"
    return f"{shown}, a gain" if points > 0 else f"{shown}, a loss"

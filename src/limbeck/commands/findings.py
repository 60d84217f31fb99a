"""What the numbers of a comparison say, in sentences."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from limbeck.commands.arms import ALONE, HARD, Arm, soft_arm, transfer_arm
from limbeck.evaluation import ArmResult, Estimate, difference
from limbeck.tasks import Task


def comparison_findings(arms: Mapping[str, ArmResult], temperatures: Sequence[float]) -> list[str]:
    """Say what softness, the temperature and the transfer set gained.

    Args:
        arms: the result of each arm, by its name.
        temperatures: the temperatures of the arms with soft targets.

    Returns:
        One line for each of the three, where it was measured.
    """
    low, high = min(temperatures), max(temperatures)

    def chosen(arm: Callable[[float], Arm]) -> float:
        """Return the temperature with the highest validation accuracy."""
        return max(temperatures, key=lambda t: arms[arm(t).name]["validation_accuracy"].mean)

    def gain(first: Arm, second: Arm) -> str:
        return describe_gain(difference(arms[first.name], arms[second.name], "accuracy"))

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


def describe_gain(gain: Estimate) -> str:
    """Write a gain in accuracy in points with its standard error, and say whether it is clear.

    Args:
        gain: a difference of accuracies between 0 and 1.

    Returns:
        The text.
    """
    points, error = 100 * gain.mean, 100 * gain.error
    shown = f"{points:+.1f} ± {error:.1f} points"
    if math.isnan(error):
        return f"{points:+.1f} points (one seed: no error known)"
    if not gain.is_clear:
        return f"{shown}, nothing that these seeds can show"
    return f"{shown}, a gain" if points > 0 else f"{shown}, a loss"

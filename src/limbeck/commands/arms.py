"""The arms of a comparison: what each student is trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Arm:
    """One way to train the student."""

    name: str
    temperature: float | None
    """The temperature of the soft targets; None for hard labels."""
    on_transfer_set: bool
    """True if the examples without a true label are used too; the teacher labels them."""


ALONE = Arm("labels alone", None, on_transfer_set=False)
"""The student without a teacher."""
HARD = Arm("transfer set, teacher's hard labels", None, on_transfer_set=True)
"""The student that takes the teacher's first class as the label of an unlabelled example."""


def soft_arm(temperature: float) -> Arm:
    """Return the arm that distils on the labelled examples.

    Args:
        temperature: of the soft targets.

    Returns:
        The arm.
    """
    return Arm(f"labels + soft targets, T = {temperature:g}", temperature, on_transfer_set=False)


def transfer_arm(temperature: float) -> Arm:
    """Return the arm that distils on the labelled and the unlabelled examples.

    Args:
        temperature: of the soft targets.

    Returns:
        The arm.
    """
    return Arm(f"transfer set, soft targets, T = {temperature:g}", temperature, on_transfer_set=True)


def all_arms(temperatures: Sequence[float], *, has_transfer_set: bool) -> list[Arm]:
    """List the arms of a comparison.

    Args:
        temperatures: the temperatures of the soft targets.
        has_transfer_set: True if some examples have no true label.

    Returns:
        The arms, in the order of the table.
    """
    arms = [ALONE, *map(soft_arm, temperatures)]
    return [*arms, HARD, *map(transfer_arm, temperatures)] if has_transfer_set else arms

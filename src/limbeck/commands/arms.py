"""The arms of a comparison: what each student is trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from limbeck.losses.distance import DISTANCES


@dataclass(frozen=True)
class Arm:
    """One way to train the student."""

    name: str
    temperature: float | None
    """The temperature of the soft targets; None for hard labels."""
    on_transfer_set: bool
    """True if the examples without a true label are used too; the teacher labels them."""
    distance: str | None = None
    """The distance to the teacher's numbers, where outputs are numbers and have no temperature; None for none."""

    @property
    def has_teacher(self) -> bool:
        """Return True if the student learns the teacher's outputs."""
        return self.temperature is not None or self.distance is not None


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


NUMBERS, TRANSFER_NUMBERS = "labels + teacher's numbers", "transfer set, teacher's numbers"
"""The names of the arms of a regression that have a teacher."""


def arms_of_numbers(distance: str, *, has_labels: bool, has_transfer_set: bool) -> list[Arm]:
    """List the arms of a comparison whose outputs are numbers.

    The teacher's numbers are labels themselves, so there is no arm with hard ones.

    Args:
        distance: the soft term of a regression. Embeddings are compared over all of them.
        has_labels: False for embeddings, which nobody labels.
        has_transfer_set: True if some examples have no true label.

    Returns:
        The arms, in the order of the table.
    """
    if not has_labels:
        return [Arm(f"teacher's embeddings, {name}", None, True, name) for name in DISTANCES]
    arms = [ALONE, Arm(NUMBERS, None, False, distance)]
    return [*arms, Arm(TRANSFER_NUMBERS, None, True, distance)] if has_transfer_set else arms

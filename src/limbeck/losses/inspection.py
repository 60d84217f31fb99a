"""A look at the teacher before it is learned from."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from limbeck.deprecation import stacklevel_of_user
from limbeck.errors import ArgumentError
from limbeck.losses.arguments import Temperature
from limbeck.losses.number_checks import is_number

COLLAPSED_BELOW = 1e-3
"""If the mean probability outside the teacher's most likely class is lower, its soft targets are as good as hard labels."""


PROBABILITIES_SUM_WITHIN = 2**-8
"""How far the probabilities of a row may sum from 1: what bfloat16, the coarsest dtype in use, rounds away."""


class CollapsedTeacherWarning(UserWarning):
    """Issued when the teacher's soft targets are as good as hard labels at this temperature."""


@torch.no_grad()
def inspect_teacher(
    teacher_logits: Tensor, temperature: Temperature, mask: Tensor | None, *, sharded: bool = False
) -> None:
    """Look for NaN, for probabilities in the place of logits, and for one-hot targets in the first rows of a teacher.

    Args:
        teacher_logits: (..., V).
        temperature: as the losses take it.
        mask: bool (...,), the positions to look at; None for all.
        sharded: the logits are one shard of the vocabulary, which does not show the probabilities.

    Raises:
        ArgumentError: a logit is NaN, or every row lies in [0, 1] and sums to 1.

    Warns:
        CollapsedTeacherWarning: at this temperature the teacher gives nearly all probability to one class, so that its soft
            targets are as good as hard labels.
    """
    rows = teacher_logits[mask] if mask is not None else teacher_logits.reshape(-1, teacher_logits.shape[-1])
    if rows.numel() == 0:
        return
    broken = rows.isnan().any(-1)
    if broken.any():
        raise ArgumentError(
            "teacher_logits",
            f"NaN in {int(broken.sum())} of {len(rows)} rows. "
            "Check the teacher's weights, its inputs and its dtype (float16 overflows above 65,504).",
        )
    if sharded or rows.shape[-1] == 1:
        return
    if are_probabilities(rows):
        raise ArgumentError(
            "teacher_logits",
            "every row lies in [0, 1] and sums to 1: these are probabilities, and the losses take logits. Pass "
            "teacher.log(), which serves as logits; a probability of 0 becomes -inf, a class without any probability.",
        )
    teacher_temperature = temperature[0] if isinstance(temperature, tuple | list) else temperature
    if isinstance(teacher_temperature, Tensor) and teacher_temperature.dim():
        positions = teacher_temperature[mask] if mask is not None else teacher_temperature.flatten()
        teacher_temperature = positions.unsqueeze(-1)
    outside = (1 - (rows.double() / teacher_temperature).softmax(-1).amax(-1)).mean().item()
    if outside < COLLAPSED_BELOW:
        shown = f"T = {teacher_temperature:g}" if is_number(teacher_temperature) else "this temperature"
        warnings.warn(
            f"At {shown} the teacher gives on average {1 - outside:.4%} of the probability to one class: its soft "
            "targets are as good as hard labels, and distillation adds little. Use a higher temperature.",
            CollapsedTeacherWarning,
            stacklevel=stacklevel_of_user(),
        )


def are_probabilities(rows: Tensor) -> bool:
    """Return True if every row lies in [0, 1] and sums to 1.

    Args:
        rows: (..., V), at least one. Logits are rarely all in [0, 1], so few are summed.
    """
    smallest, largest = rows.aminmax()
    if not bool((smallest >= 0) & (largest <= 1)):
        return False
    sums = rows.sum(-1, dtype=torch.promote_types(rows.dtype, torch.float32))
    return bool(((sums - 1).abs() <= PROBABILITIES_SUM_WITHIN).all())

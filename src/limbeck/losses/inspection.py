"""A look at the teacher before it is learned from."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import torch
from torch import Tensor

from limbeck.deprecation import stacklevel_of_user
from limbeck.errors import ArgumentError
from limbeck.kernels.cross_entropy import PROBABILITIES_SUM_WITHIN
from limbeck.losses.arguments import Temperature
from limbeck.losses.number_checks import is_number

COLLAPSED_BELOW = 1e-3
"""If the mean probability outside the teacher's most likely class is lower, its soft targets are as good as hard labels."""


Rows = tuple[Tensor, ...]
"""The indices of some rows of logits (..., V), one tensor for each dimension of the positions."""


class CollapsedTeacherWarning(UserWarning):
    """Issued when the teacher's soft targets are as good as hard labels at this temperature."""


LOOKED_AT = 1024
"""The rows, at most, whose softmax is looked at."""
CHUNK_ELEMENTS = 1 << 17
"""Logits that are looked at together."""


def check_numbers(argument: str, outputs: Tensor, mask: Tensor | None = None) -> None:
    """Check that a teacher's outputs are numbers.

    Args:
        argument: what they were passed as.
        outputs: (..., V).
        mask: bool (...,), the positions to look at; None for all.

    Raises:
        ArgumentError: one is NaN.
    """
    if bool((outputs if mask is None else outputs[mask]).isnan().any()):
        raise ArgumentError(argument, "NaN. Check the teacher's weights, its inputs and its dtype.")


@torch.no_grad()
def inspect_teacher(
    teacher_logits: Tensor, temperature: Temperature, mask: Tensor | None, *, sharded: bool = False
) -> bool:
    """Look for NaN, for probabilities in the place of logits, and for one-hot targets in a batch of a teacher.

    The logits are not copied, however they lie in memory.

    Args:
        teacher_logits: (..., V).
        temperature: as the losses take it.
        mask: bool (...,), the positions to look at; None for all.
        sharded: the logits are one shard of the vocabulary, which does not show the probabilities.

    Returns:
        True if there was a position to look at.

    Raises:
        ArgumentError: a logit is NaN, or every row lies in [0, 1] and sums to 1.

    Warns:
        CollapsedTeacherWarning: at this temperature the teacher gives nearly all probability to one class, so that its soft
            targets are as good as hard labels.
    """
    logits, classes = teacher_logits.unsqueeze(0), teacher_logits.shape[-1]
    counted = torch.ones(logits.shape[:-1], dtype=torch.bool, device=logits.device)
    rows = (counted if mask is None else mask.unsqueeze(0)).nonzero(as_tuple=True)
    count = len(rows[0])
    if count == 0:
        return False
    lowest, highest = (x[rows] for x in logits.aminmax(dim=-1))
    if broken := int(highest.isnan().sum()):
        raise ArgumentError(
            "teacher_logits",
            f"NaN in {broken} of {count} rows. "
            "Check the teacher's weights, its inputs and its dtype (float16 overflows above 65,504).",
        )
    if sharded or classes == 1:
        return True
    if bool(((lowest >= 0) & (highest <= 1)).all()) and all(
        are_probabilities(logits[part]) for part in _parts(rows, classes)
    ):
        raise ArgumentError(
            "teacher_logits",
            "every row lies in [0, 1] and sums to 1: these are probabilities, and the losses take logits. Pass "
            "teacher.log(), which serves as logits; a probability of 0 becomes -inf, a class without any probability.",
        )
    teacher_temperature = temperature[0] if isinstance(temperature, tuple | list) else temperature
    _warn_if_collapsed(logits, teacher_temperature, rows)
    return True


def _warn_if_collapsed(logits: Tensor, temperature: Tensor | float, rows: Rows) -> None:
    """Warn if the softmax at T has nearly all its mass in one class, on average over some of the rows."""
    rows = tuple(index[:: -(-len(index) // LOOKED_AT)] for index in rows)
    total = torch.zeros((), dtype=torch.float64, device=logits.device)
    for part in _parts(rows, logits.shape[-1]):
        t = temperature
        if isinstance(t, Tensor) and t.dim():
            t = t.unsqueeze(0)[part].unsqueeze(-1)
        total += (1 - (logits[part].double() / t).softmax(-1).amax(-1)).sum()
    mean = total.item() / len(rows[0])
    if mean < COLLAPSED_BELOW:
        shown = f"T = {temperature:g}" if is_number(temperature) else "this temperature"
        warnings.warn(
            f"At {shown} the teacher gives on average {1 - mean:.4%} of the probability to one class: its soft "
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


def _parts(rows: Rows, classes: int) -> Iterator[Rows]:
    """Return the rows in parts that need little memory."""
    return zip(*(index.split(max(1, CHUNK_ELEMENTS // classes)) for index in rows), strict=True)

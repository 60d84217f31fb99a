"""The checks of labels, and which positions count. Labels of every integer dtype are compared as int64."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from limbeck.errors import ArgumentError, ArgumentTypeError
from limbeck.losses.checks import check_rows, is_cheap_to_read

LARGEST = torch.iinfo(torch.int64).max


def is_integers(tensor: Any) -> bool:
    """Return True for a tensor of an integer dtype; bool is none.

    Args:
        tensor: what was given.
    """
    if not isinstance(tensor, Tensor):
        return False
    return not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool)


def as_int64(integers: Tensor) -> Tensor:
    """Return integers of any dtype in one that holds what they are compared with: -100 is 156 in uint8.

    Args:
        integers: of any shape.

    Returns:
        int64, of the same shape; the tensor itself where it is int64. What int64 cannot hold becomes its largest number.
    """
    wide = integers.long()
    return wide.masked_fill(wide < 0, LARGEST) if integers.dtype == torch.uint64 else wide


def check_labels(
    labels: Any,
    student_logits: Tensor,
    ignore_index: int,
    alpha: float,
    mask: Tensor | None = None,
    sharded: bool = False,
    class_dim: int | None = None,
) -> tuple[Tensor | None, bool]:
    """Require integers (...,) in [0, V), or ``ignore_index``, where the mask is True. Labels are needed unless alpha is 1.

    Args:
        labels: what was given.
        student_logits: (..., V).
        ignore_index: the label of a position without one.
        alpha: the weight of the soft term.
        mask: bool (...,), checked already; where it is False a label may be any number.
        sharded: the logits are one shard of the vocabulary, so that V is not known here.
        class_dim: the dimension that the classes had in what was given; None for a function that does not take it.

    Returns:
        The labels as int64, or None; and True if all positions are known to be labelled. False means unknown: accelerators
        skip the check.

    Raises:
        ArgumentTypeError: not a tensor of integers.
        ArgumentError: missing, of another shape, or out of range.
    """
    if isinstance(ignore_index, bool) or not isinstance(ignore_index, Integral):
        raise ArgumentTypeError("ignore_index", f"expected an integer, got {ignore_index!r}.")
    if labels is None:
        if alpha < 1:
            raise ArgumentError(
                "labels",
                f"needed for the hard term when alpha = {alpha}. Pass labels, or alpha=1 for soft targets only.",
            )
        return None, False
    if not is_integers(labels):
        got = labels.dtype if isinstance(labels, Tensor) else type(labels).__name__
        raise ArgumentTypeError("labels", f"expected a tensor of integers (class indices), got {got}.")
    check_rows("labels", labels, student_logits, class_dim)
    labels = as_int64(labels)
    if is_cheap_to_read(labels) and labels.numel():
        classes = student_logits.shape[-1]
        low, high = (int(value) for value in labels.aminmax())
        if low >= 0 and (high < classes or sharded):
            return labels, ignore_index < low or ignore_index > high
        wrong = (labels != ignore_index) & ((labels < 0) | (labels >= (LARGEST if sharded else classes)))
        wrong = labels[wrong if mask is None else wrong & mask]
        if wrong.numel():
            raise ArgumentError(
                "labels",
                f"{wrong[0].item()} is out of range for {classes} classes (expected 0 to {classes - 1}, or "
                f"ignore_index = {ignore_index} for a position without a label).",
            )
    return labels, False


def labelled_positions(labels: Tensor, mask: Tensor | None, ignore_index: int) -> Tensor:
    """Return which positions have a label that is to be read.

    Args:
        labels: (...,) integers.
        mask: bool (...,), False where a label may be any number; None for True everywhere.
        ignore_index: the label of a position without one.

    Returns:
        bool (...,).
    """
    labelled = as_int64(labels) != ignore_index
    return labelled if mask is None else labelled & mask


def counted_positions(labels: Tensor | None, mask: Tensor | None, ignore_index: int) -> Tensor | None:
    """Return which positions count in the loss: those of the mask, else those with a label.

    Args:
        labels: (...,) integers, or None.
        mask: bool (...,), or None.
        ignore_index: the label of a position without one.

    Returns:
        bool (...,), or None when all count.
    """
    return mask if mask is not None or labels is None else labelled_positions(labels, None, ignore_index)

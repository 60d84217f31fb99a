"""The checks of labels, and which positions count. Labels of every integer dtype are compared as int64.

Labels are integers (...,), or *label rows* (..., V): the probability of each class, in a floating dtype. A row that is
``ignore_index`` in every class is a position without a label.
"""

from __future__ import annotations

import math
from numbers import Integral
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from limbeck.errors import ArgumentError, ArgumentTypeError
from limbeck.kernels.cross_entropy import PROBABILITIES_SUM_WITHIN
from limbeck.losses.arguments import IGNORE_INDEX
from limbeck.losses.checks import check_rows, is_cheap_to_read
from limbeck.losses.class_axis import shape_as_given
from limbeck.losses.inspection import are_probabilities

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


def is_rows(labels: Any) -> bool:
    """Return True for labels that are rows: a tensor of a floating dtype.

    Args:
        labels: what was given.
    """
    return isinstance(labels, Tensor) and labels.is_floating_point()


def mixed_labels(
    first: Tensor, second: Tensor, share: Tensor | float, logits: Tensor, mask: Tensor | None = None
) -> Tensor:
    """Return the labels of examples that are mixed of two.

    Args:
        first: the number of a class (...,), or numbers that are mixed as they are; -100 where there is none.
        second: the same, of the examples that were mixed in.
        share: the share of the first in each mixture: one number, or (N,).
        logits: (..., V), for the number of classes.
        mask: bool (...,), False where the number of a class may be any; None for True everywhere.

    Returns:
        share * first + (1 - share) * second, where the number of a class stands for a row (..., V) with a probability of 1;
        -100 where one of both has no label.

    Raises:
        ArgumentError: the number of a class is out of range, or there is not one for each position.
    """
    a, b = (_as_numbers(labels, logits, mask) for labels in (first, second))
    if isinstance(share, Tensor):
        share = share.reshape(share.shape + (1,) * (a.dim() - share.dim())).to(a)
    lacking = (a == IGNORE_INDEX) | (b == IGNORE_INDEX)
    return (share * a + (1 - share) * b).masked_fill(lacking, IGNORE_INDEX)


def _as_numbers(labels: Tensor, logits: Tensor, mask: Tensor | None) -> Tensor:
    """Return labels that can be mixed: those of classes as rows, -100 in every class where there is none."""
    dtype = torch.promote_types(logits.dtype, torch.float32)
    if is_rows(labels) or labels.shape == logits.shape:
        return labels.to(dtype)
    check_labels(labels, logits, IGNORE_INDEX, alpha=0.0, mask=mask)
    lacking = ~labelled_positions(labels, mask, IGNORE_INDEX)
    rows = one_hot(labels.long().masked_fill(lacking, 0), logits.shape[-1]).to(dtype)
    return rows.masked_fill_(lacking.unsqueeze(-1), IGNORE_INDEX)


def most_likely_classes(labels: Tensor, ignore_index: int = IGNORE_INDEX) -> Tensor:
    """Return label rows as the number of their most likely class.

    Args:
        labels: rows (..., V). Integers are returned as they are.
        ignore_index: the label of a position without one.

    Returns:
        (...,) integers, ``ignore_index`` at a position without a label.
    """
    if not is_rows(labels):
        return labels
    return labels.argmax(-1).masked_fill(~labelled_positions(labels, None, ignore_index), ignore_index)


def check_label_rows(
    labels: Tensor, mask: Tensor | None = None, ignore_index: int = IGNORE_INDEX, remedy: str = ""
) -> bool:
    """Require rows of probabilities, or of ``ignore_index`` alone, where the mask is True.

    Args:
        labels: (..., V), of a floating dtype, whose values are cheap to read.
        mask: bool (...,); None for True everywhere.
        ignore_index: the number of a row without a label.
        remedy: the end of the error.

    Returns:
        True if all rows are labelled.

    Raises:
        ArgumentError: a row has a negative number, or does not sum to 1.
    """
    labels = labels.detach()
    if not labels.numel() or are_probabilities(labels):
        return True
    rows = labels if mask is None else labels[mask]
    lacking = ~labelled_positions(rows, None, ignore_index)
    sums = rows.sum(-1, dtype=torch.promote_types(rows.dtype, torch.float32))
    is_right = (rows >= 0).all(-1) & ((sums - 1).abs() <= PROBABILITIES_SUM_WITHIN)
    is_right |= lacking & (rows == ignore_index).all(-1)
    if not bool(is_right.all()):
        wrong = rows[~is_right][0]
        shown = ", ".join(f"{x:g}" for x in wrong[:6].tolist()) + (", ..." if len(wrong) > 6 else "")
        raise ArgumentError(
            "labels",
            f"the row ({shown}) sums to {wrong.double().sum().item():.4g}. Labels in {labels.dtype} are the probabilities of "
            f"the classes: expected numbers >= 0 that sum to 1, or {ignore_index} in every class of a position without a "
            f"label.{remedy}",
        )
    return mask is None and not bool(lacking.any())


def check_labels(
    labels: Any,
    student_logits: Tensor,
    ignore_index: int,
    alpha: float,
    mask: Tensor | None = None,
    sharded: bool = False,
    class_dim: int | None = None,
) -> tuple[Tensor | None, bool]:
    """Require labels, unless alpha is 1: integers (...,) in [0, V), or rows (..., V) of probabilities.

    Where the mask is True, a position may also have ``ignore_index``, which a row has in every class.

    Args:
        labels: what was given.
        student_logits: (..., V).
        ignore_index: the label of a position without one.
        alpha: the weight of the soft term.
        mask: bool (...,), checked already; where it is False a label may be any number.
        sharded: the logits are one shard of the vocabulary, so that V is not known here.
        class_dim: the dimension that the classes had in what was given; None for a function that does not take it.

    Returns:
        The labels, integers as int64, or None; and True if all positions are known to be labelled. False means unknown:
        accelerators skip the check.

    Raises:
        ArgumentTypeError: not a tensor of integers or of probabilities.
        ArgumentError: missing, of another shape, out of range, or not rows of probabilities.
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
    if is_rows(labels):
        if labels.shape != student_logits.shape:
            raise (ArgumentTypeError if labels.dim() < student_logits.dim() else ArgumentError)(
                "labels",
                f"expected integers, the number of the class, or the probability of each class in the shape of the logits, "
                f"{shape_as_given(student_logits, class_dim)}; got {labels.dtype} of shape {tuple(labels.shape)}.",
            )
        if sharded or not is_cheap_to_read(labels):  # the rows of a shard are checked where their sums are known
            return labels, False
        return labels, check_label_rows(labels, mask, ignore_index)
    if not is_integers(labels):
        got = labels.dtype if isinstance(labels, Tensor) else type(labels).__name__
        raise ArgumentTypeError(
            "labels", f"expected a tensor of integers (class indices) or of probabilities (..., V), got {got}."
        )
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
        labels: (...,) integers, or rows (..., V).
        mask: bool (...,), False where a label may be any number; None for True everywhere.
        ignore_index: the label of a position without one; in rows it means this unless it is 0 or 1, which are probabilities.

    Returns:
        bool (...,).
    """
    if is_rows(labels):
        labelled = labels[..., 0] != (math.inf if ignore_index in (0, 1) else ignore_index)
    else:
        labelled = as_int64(labels) != ignore_index
    return labelled if mask is None else labelled & mask


def counted_positions(labels: Tensor | None, mask: Tensor | None, ignore_index: int) -> Tensor | None:
    """Return which positions count in the loss: those of the mask, else those with a label.

    Args:
        labels: (...,) integers, rows (..., V), or None.
        mask: bool (...,), or None.
        ignore_index: the label of a position without one.

    Returns:
        bool (...,), or None when all count.
    """
    return mask if mask is not None or labels is None else labelled_positions(labels, None, ignore_index)

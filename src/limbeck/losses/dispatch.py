"""From positions to rows, and from the values of rows to the loss."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from limbeck.kernels.autograd import rows_loss
from limbeck.kernels.call import LossCall, RowKernel, column_as_rows, savable
from limbeck.kernels.sequences import as_rows
from limbeck.kernels.temperatures import softened_rows
from limbeck.losses import reference
from limbeck.losses.arguments import Reduction
from limbeck.losses.divergences import Divergence, ForwardKL, ReverseKL
from limbeck.losses.parts import LossParts


def build_call(
    student: Tensor,
    teacher: Tensor | None,
    labels: Tensor | None,
    *,
    counted: Tensor | None,
    labelled: Tensor | None,
    divergence: Divergence,
    teacher_temperature: Tensor | float,
    student_temperature: Tensor | float,
    compensation: Tensor | float,
    alpha: float,
    label_smoothing: float,
    class_weights: Tensor | None,
    reduction: Reduction,
    num_items: Tensor | float | None,
    dtype: torch.dtype,
    with_parts: bool,
    inplace: bool,
) -> tuple[LossCall, Tensor, Tensor | None]:
    """Return the call with positions flattened to rows and everything in the dtype of the arithmetic, and both logits as rows.

    Args:
        student: logits (..., V).
        teacher: logits (..., V); None when the soft term is not asked for.
        labels: (...,), int64, or rows (..., V); None when the hard term is not asked for.
        counted: bool (...,); None when all positions count.
        labelled: bool (...,); None when all positions have a label.
        divergence: of the soft term.
        teacher_temperature: a number, (..., 1), or a tensor of one element.
        student_temperature: the same.
        compensation: C(T) or what takes its place: a number, (..., 1), or a tensor of one element.
        alpha: the weight of the soft term.
        label_smoothing: eps.
        class_weights: (V,), or None.
        reduction: of the positions.
        num_items: the mean's denominator; None for the number of counted positions.
        dtype: of the arithmetic.
        with_parts: the two terms are asked for beside the total.
        inplace: the gradient may take the place of the student's logits.

    Returns:
        The call, the student's logits, (N, V) or (B, L, V), and the teacher's in the same form, without gradient.
    """
    # What a teacher computed under torch.inference_mode() is taken, as plain torch code takes it.
    teacher, labels, counted, labelled, class_weights = (
        None if x is None else savable(x) for x in (teacher, labels, counted, labelled, class_weights)
    )
    teacher_temperature, student_temperature, compensation = (
        savable(x) if isinstance(x, Tensor) else x for x in (teacher_temperature, student_temperature, compensation)
    )
    num_items = savable(num_items) if isinstance(num_items, Tensor) else num_items
    student_rows, teacher_rows = as_rows(student, None if teacher is None else teacher.detach())
    counted = _as_vector(counted)
    teacher_temperature, student_temperature, compensation = (
        _as_column(x, student_rows, dtype) if isinstance(x, Tensor) else x
        for x in (teacher_temperature, student_temperature, compensation)
    )
    if isinstance(compensation, Tensor) and counted is not None:  # a position that does not count may hold anything
        compensation = compensation.masked_fill(~counted.unsqueeze(-1), 1.0)
    if labels is not None and labels.is_floating_point():
        labels = (labels if labelled is None else labels.masked_fill(~labelled.unsqueeze(-1), 0.0)).to(dtype)
        labels = labels if labels.dim() == 2 else labels.reshape(-1, labels.shape[-1])
    elif labels is not None:
        labels = _as_vector(labels if labelled is None else labels.masked_fill(~labelled, 0))
    simplest = divergence.simplest
    call = LossCall(
        labels=labels,
        labelled=_as_vector(labelled),
        counted=counted,
        weights=_row_weights(student_rows, counted, dtype, reduction, num_items),
        teacher_temperature=teacher_temperature,
        student_temperature=student_temperature,
        compensation=compensation,
        divergence=simplest,
        is_forward_kl=simplest.is_computed_as(ForwardKL),
        is_reverse_kl=simplest.is_computed_as(ReverseKL),
        has_soft_term=teacher is not None,
        alpha=alpha,
        label_smoothing=label_smoothing,
        class_weights=None if class_weights is None else class_weights.to(dtype),
        dtype=dtype,
        reference_rows=reference_rows,
        summed=reduction != "none",
        with_parts=with_parts,
        inplace=inplace,
    )
    return call, student_rows, teacher_rows


def _as_column(numbers: Tensor, student: Tensor, dtype: torch.dtype) -> Tensor:
    """Return one number for each position, or one for all, as (N, 1).

    One number that asks for gradient stays (1, 1): it goes to the reference, for which every view would be a node of the graph.
    """
    column = numbers.to(student.device, dtype).reshape(-1, 1)
    return column if column.requires_grad else column.expand(student.shape[:-1].numel(), 1)


def _as_vector(positions: Tensor | None) -> Tensor | None:
    """Return one value for each position as (N,)."""
    return positions if positions is None or positions.dim() == 1 else positions.reshape(-1)


def _row_weights(
    student: Tensor,
    counted: Tensor | None,
    dtype: torch.dtype,
    reduction: Reduction,
    num_items: Tensor | float | None,
) -> Tensor | float:
    """Return 1 over the mean's denominator, as a number or as (N,) with 0 where a row does not count."""
    count = student.shape[:-1].numel()
    weights: Tensor | float = 1.0 if counted is None else counted.to(dtype)
    if reduction != "mean":
        return weights
    if num_items is None:
        return 1 / max(1, count) if counted is None else weights / counted.sum().clamp(min=1)
    if not isinstance(num_items, Tensor):
        return weights / (num_items or 1)
    num_items = num_items.to(student.device, dtype).reshape(())
    # The check could not read it without waiting for the device. A wrong one makes the loss infinite.
    weight = torch.where((num_items > 0) & num_items.isfinite(), 1 / num_items, torch.inf)
    return weight.expand(count) if counted is None else torch.where(counted, weight, 0.0)


def reference_rows(call: LossCall, student: Tensor, teacher: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """Return C(T) D and CE of each row by the reference, attached to the graph.

    Args:
        call: of these rows.
        student: logits (N, V).
        teacher: logits (N, V), or None.

    Returns:
        (N,) each; None for a term that is not asked for.
    """
    student = student.to(call.dtype)
    teacher = None if teacher is None else teacher.to(call.dtype)
    if call.counted is not None:  # blank the positions that do not count, whatever they hold
        skipped = ~call.counted.unsqueeze(-1)
        student = student.masked_fill(skipped, 0.0)
        teacher = None if teacher is None else teacher.masked_fill(skipped, 0.0)
    # A logit of -inf stays where it is: without this it would receive a gradient of -p_t.
    student = student.masked_fill(student.isneginf(), -torch.inf)
    soft = hard = None
    if call.sparse is not None:
        ids, known, distance = call.sparse.ids, call.sparse.known, call.sparse.distance
        soft = reference.sparse_soft_rows(student, ids, known, distance, call.student_temperature).to(call.dtype)
    elif teacher is not None:
        assert isinstance(call.divergence, Divergence)
        temperatures = call.teacher_temperature, call.student_temperature
        soft = reference.soft_rows(student, teacher, call.divergence, *temperatures)
    soft = None if soft is None else soft * column_as_rows(call.compensation)
    if call.labels is not None:
        hard = reference.hard_rows(student, call.labels, call.class_weights, call.label_smoothing)
        hard = hard if call.labelled is None else torch.where(call.labelled, hard, 0.0)
    return soft, hard


def compute(call: LossCall, student: Tensor, teacher: Tensor | None, row_kernel: RowKernel | None) -> LossParts:
    """Return the weighted total, soft and hard terms of a call.

    Args:
        call: what to compute.
        student: logits (N, V) or (B, L, V).
        teacher: the same; None without a soft term, or where the call has sparse targets.
        row_kernel: computes the rows; None for the reference on whole tensors.

    Returns:
        One number each, or (N,) when the call is not summed. A term that is not asked for is None.
    """
    if row_kernel is not None and teacher is not None and _asks_for_gradient(call):
        total, soft, hard = _learned(call, student, teacher, row_kernel)
    elif row_kernel is not None:
        total, soft, hard = rows_loss(student, teacher, call, row_kernel)
    else:
        teacher = None if teacher is None else teacher.flatten(0, -2)
        soft, hard = call.reference_rows(call, student if student.dim() == 2 else student.flatten(0, -2), teacher)
        # A term that alpha rules out is left out and not multiplied by 0, because it may be infinite.
        weighted = ((call.alpha, soft), (1 - call.alpha, hard))
        terms = [weight * term for weight, term in weighted if term is not None and weight > 0]
        total = _weighted(sum(terms[1:], terms[0]), call)
    return loss_parts(call, total, soft, hard)


def _asks_for_gradient(call: LossCall) -> bool:
    """Return True if a temperature or the factor in the place of C(T) asks for gradient."""
    numbers = call.teacher_temperature, call.student_temperature, call.compensation
    return torch.is_grad_enabled() and any(isinstance(x, Tensor) and x.requires_grad for x in numbers)


def _learned(
    call: LossCall, student: Tensor, teacher: Tensor, row_kernel: RowKernel
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the weighted total, and the soft and hard values of the rows, with a gradient for temperatures and scale."""
    student, teacher = student.reshape(-1, student.shape[-1]), teacher.reshape(-1, teacher.shape[-1])
    soft = softened_rows(student, teacher, call, row_kernel) * column_as_rows(call.compensation)
    total, hard = call.alpha * _weighted(soft, call), None
    if call.labels is not None:
        labelled = replace(call, has_soft_term=False, alpha=0.0, inplace=False, compensation=1.0)
        labelled = replace(labelled, teacher_temperature=1.0, student_temperature=1.0)
        of_labels, _, hard = rows_loss(student, None, labelled, row_kernel)
        total = total + (1 - call.alpha) * of_labels if call.alpha < 1 else total
    return total, soft, hard


def loss_parts(call: LossCall, total: Tensor, soft: Tensor | None, hard: Tensor | None) -> LossParts:
    """Return the total and, where they are asked for, the weighted soft and hard terms.

    Args:
        call: what was computed.
        total: weighted already.
        soft: C(T) D of each row, (N,).
        hard: CE of each row, (N,).

    Returns:
        One number each, or (N,) when the call is not summed.
    """
    if not call.with_parts:
        return LossParts(total, None, None)
    return LossParts(
        total,
        _weighted(soft, call) if soft is not None and call.has_soft_term else None,
        _weighted(hard, call) if hard is not None and call.labels is not None else None,
    )


def _weighted(values: Tensor, call: LossCall) -> Tensor:
    """Return the rows' values times their weights, summed if the call is."""
    weighted = values * call.weights
    if isinstance(call.weights, Tensor):
        weighted = torch.where(call.weights > 0, weighted, 0.0)
    return weighted.sum() if call.summed else weighted

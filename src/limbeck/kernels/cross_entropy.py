"""Cross-entropy at T = 1 and its gradient, for all kernels that are written in torch.

    CE = (1 - eps) w_y (log_sum - z_y) + eps / n * sum over present classes of w_c (log_sum - z_c)

where label rows have sum_c y_c w_c (log_sum - z_c) in the place of w_y (log_sum - z_y);
with class weights w (1 by default), label smoothing eps, log_sum the log of the sum of exponentials, and n the number of
present classes, whose logit is not -inf. It comes from a few sums for each row, which may be sums over shards of a vocabulary.
The CPU kernel, which has no class weights and sees finite logits only, has a shorter way to the same value.
"""

from __future__ import annotations

import torch
from torch import Tensor

from limbeck.kernels.call import LossCall

PROBABILITIES_SUM_WITHIN = 2**-8
"""How far the probabilities of a row may sum from 1: what bfloat16, the coarsest dtype in use, rounds away."""


def cross_entropy_sums(z: Tensor, call: LossCall, offset: int = 0) -> Tensor:
    """Return the sums that cross-entropy needs of each row, over the columns that are here.

    Args:
        z: logits, (n, V).
        call: of these n rows, with labels.
        offset: the class of the first column.

    Returns:
        (5, n): w_y z_y, w_y, and over the present classes: n, sum w, sum w z. Label rows have sum y w z and sum y w first.
    """
    if call.has_label_rows:
        rows = _weighted_rows(call)
        sums = [(rows * z.masked_fill(rows == 0, 0.0)).sum(-1), rows.sum(-1)]
    else:
        columns, owned = _label_columns(z, call, offset)
        label_logit = z.gather(-1, columns).squeeze(-1)
        label_weight = (
            torch.ones_like(label_logit) if call.class_weights is None else call.class_weights[columns.squeeze(-1)]
        )
        sums = [torch.where(owned, label_weight * label_logit, 0.0), torch.where(owned, label_weight, 0.0)]
    if call.label_smoothing:
        present = ~z.isneginf()
        weight = present.to(z.dtype) if call.class_weights is None else present * call.class_weights
        sums += [present.sum(-1), weight.sum(-1), (weight * z.masked_fill(~present, 0.0)).sum(-1)]
    else:
        sums += [torch.zeros_like(sums[0])] * 3
    return torch.stack([x.to(z.dtype) for x in sums])


def cross_entropy_from_sums(sums: Tensor, log_sum: Tensor, call: LossCall) -> Tensor:
    """Return the cross-entropy of each row, 0 where a row has no label.

    Args:
        sums: (5, n), what ``cross_entropy_sums`` returned, summed over all columns.
        log_sum: (n,), the log of the sum of exponentials of each row.
        call: the call, whose label smoothing and labelled rows are used.

    Returns:
        (n,) values.
    """
    weighted_logit, weight, present, weights, weighted_logits = sums
    eps = call.label_smoothing
    value = (1 - eps) * (weight * log_sum - weighted_logit)
    if eps:
        value = value + eps / present * (weights * log_sum - weighted_logits)
    return value if call.labelled is None else torch.where(call.labelled, value, 0.0)


def cross_entropy_of_finite(logits: Tensor, labels: Tensor, log_sum: Tensor | float, label_smoothing: float) -> Tensor:
    """Return CE of each row where all logits are finite and classes have no weights.

    Args:
        logits: (n, V).
        labels: (n, 1) integers, or rows (n, V).
        log_sum: the log of the sum of exponentials, (n, 1); 0 for log-probabilities.
        label_smoothing: eps.

    Returns:
        (n,).
    """
    if labels.is_floating_point():
        picked = torch.linalg.vecdot(labels, logits).unsqueeze(-1)
        log_sum = log_sum * mass_of_labels(labels, label_smoothing)
    else:
        picked = logits.gather(-1, labels)
    if label_smoothing:
        picked = picked * (1 - label_smoothing) + label_smoothing * logits.mean(-1, keepdim=True)
    return (log_sum - picked).squeeze(-1)


def mass_of_labels(labels: Tensor, label_smoothing: float) -> Tensor | float:
    """Return the sum of each row's smoothed label, by which softmax is multiplied in the gradient.

    Args:
        labels: (n, ...) integers, or rows (n, V), which rounding keeps from summing to 1 exactly.
        label_smoothing: eps.

    Returns:
        1, or (n, 1).
    """
    if not labels.is_floating_point():
        return 1.0
    return (1 - label_smoothing) * labels.sum(-1, keepdim=True) + label_smoothing


def add_cross_entropy_gradient(
    out: Tensor,
    e: Tensor,
    total: Tensor,
    z: Tensor,
    sums: Tensor,
    call: LossCall,
    scale: Tensor | float,
    offset: int = 0,
) -> None:
    """Add the scaled gradient dCE/dz to ``out``.

    Args:
        out: (n, V), changed in place.
        e: exponentials, (n, V), with softmax(z) = e / total.
        total: (n, 1).
        z: logits, (n, V).
        sums: as from ``cross_entropy_sums``, over all columns.
        call: of these n rows, with labels.
        scale: the factor of the gradient, a number or (n, 1).
        offset: the class of the first column.
    """
    label_logit, weight, present, weights, _ = (x.unsqueeze(-1) for x in sums)
    eps = call.label_smoothing
    scale = zero_without_label(scale, call.labelled, out.dtype)
    mass = (1 - eps) * weight + (eps / present * weights if eps else 0.0)
    out.addcmul_(e, mass * scale / total)
    everywhere = None
    if eps:
        is_present = ~z.isneginf()
        everywhere = is_present.to(out.dtype) if call.class_weights is None else is_present * call.class_weights
        everywhere.mul_(eps / present * scale)
    if call.has_label_rows:
        subtract_targets(out, _weighted_rows(call).masked_fill(z.isneginf(), 0.0), (1 - eps) * scale, everywhere)
        return
    columns, owned = _label_columns(z, call, offset)
    pulled = owned.unsqueeze(-1) & ~label_logit.isneginf()  # a logit of -inf stays where it is
    at_label = torch.where(pulled, (1 - eps) * weight * scale, 0.0)
    subtract_targets(out, columns, at_label.to(out.dtype), everywhere)


def subtract_targets(out: Tensor, labels: Tensor, at_label: Tensor | float, everywhere: Tensor | float | None) -> None:
    """Take the smoothed labels from a gradient.

    Args:
        out: (n, V), changed in place.
        labels: the labels' columns, (n, 1), or rows (n, V).
        at_label: what to take there, a number or (n, 1); the factor of rows.
        everywhere: what to take from every column, a number or a tensor that broadcasts to (n, V); None for nothing.
    """
    if everywhere is not None:
        out.sub_(everywhere)
    if labels.is_floating_point():
        out.addcmul_(labels, at_label, value=-1) if isinstance(at_label, Tensor) else out.sub_(labels, alpha=at_label)
    elif isinstance(at_label, Tensor):
        out.scatter_add_(-1, labels, (-at_label).expand(labels.shape))
    else:
        out.scatter_(-1, labels, -at_label, reduce="add")


def zero_without_label(scale: Tensor | float, labelled: Tensor | None, dtype: torch.dtype) -> Tensor | float:
    """Return the scale of the hard gradient with 0 in rows without a label.

    Args:
        scale: one number, or (n, 1).
        labelled: bool (n,), or None if all rows have a label.
        dtype: the dtype of the arithmetic.
    """
    return scale if labelled is None else labelled.unsqueeze(-1).to(dtype) * scale


def _weighted_rows(call: LossCall) -> Tensor:
    """Return label rows times the class weights, (n, V)."""
    assert call.labels is not None
    return call.labels if call.class_weights is None else call.labels * call.class_weights


def _label_columns(z: Tensor, call: LossCall, offset: int) -> tuple[Tensor, Tensor]:
    """Return the labels as columns of ``z``, (n, 1), and True where they are among them, (n,)."""
    assert call.labels is not None
    labels = call.labels - offset
    owned = (labels >= 0) & (labels < z.shape[-1])
    return labels.clamp(0, z.shape[-1] - 1).unsqueeze(-1), owned

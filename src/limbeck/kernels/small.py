"""The loss of a few small rows on the CPU, where the number of operations takes the time, not the arithmetic.

The values leave torch as Python numbers, and the node of the graph has one output. What is not plain here (values that are not
finite, close distributions, which need more digits) is left to the row kernels.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from limbeck.kernels.autograd import REFUSE_SECOND_PASS, is_one, refuse_second_derivatives, scale_
from limbeck.kernels.call import DivergenceProtocol
from limbeck.kernels.close_rows import Plain, written_with

SMALL = 1 << 14
"""Logits in a call up to which this is faster than a row kernel."""


class PlainCall(NamedTuple):
    """A call whose rows all have a label, or whose hard term is not asked for, and whose settings are numbers."""

    divergence: DivergenceProtocol
    temperature: float
    compensation: float
    alpha: float
    labels: Tensor | None
    """(N, 1), or None without a hard term."""
    weights: Tensor | float
    """1 over the mean's denominator; (N, 1) with 0 where a row does not count."""
    inplace: bool
    with_parts: bool


class _Found(NamedTuple):
    """What ``_compute`` returns: C(T) D and CE, weighted and summed, and the scaled gradient in new memory."""

    soft: float
    hard: float
    gradient: Tensor | None


def small_loss(student: Tensor, teacher: Tensor, call: PlainCall) -> tuple[Tensor, ...] | None:
    """Return the total and, where they are asked for, the soft and the hard term; None where a row kernel must compute them.

    Args:
        student: logits (N, V). With ``call.inplace`` it holds its gradient afterwards.
        teacher: the same.
        call: the rest.
    """
    wanted = torch.is_grad_enabled() and student.requires_grad
    found = _compute(student.detach(), teacher, call, (call.alpha, 1 - call.alpha) if wanted else None)
    if found is None:
        return None
    if not wanted:
        return _results(found, call, student.dtype)
    return _SmallLoss.apply(student, teacher, call, found)  # pyright: ignore[reportReturnType]


class _SmallLoss(torch.autograd.Function):
    """The node of the graph; its outputs are those of ``small_loss``."""

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, call: PlainCall, found: _Found) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.call, ctx.gradient = call, found.gradient
        if call.inplace and found.gradient is not None:
            ctx.gradient = student.detach().copy_(found.gradient)
        else:
            weights = call.weights if isinstance(call.weights, Tensor) else None
            ctx.save_for_backward(student, teacher, call.labels, weights)
        return _results(found, call, student.dtype)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor | None) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        refuse_second_derivatives("pass backend='reference', and no group")
        call: PlainCall = ctx.call
        gradient, ctx.gradient = ctx.gradient, None
        total, soft, hard = (*upstream, None, None)[:3]
        if gradient is not None and total is not None and soft is None and hard is None:
            return gradient if is_one(total) else scale_(gradient, total), None, None, None
        if call.inplace:
            raise RuntimeError(REFUSE_SECOND_PASS)
        student, teacher, *_ = ctx.saved_tensors  # raises if one of them was changed in place
        of_total, of_soft, of_hard = (0.0 if x is None else x.item() for x in (total, soft, hard))
        scales = call.alpha * of_total + of_soft, (1 - call.alpha) * of_total + of_hard
        found = _compute(student.detach(), teacher, call, scales)
        return None if found is None else found.gradient, None, None, None


def _results(found: _Found, call: PlainCall, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Return the total and, where they are asked for, the soft and the hard term."""
    total = call.alpha * found.soft + (1 - call.alpha) * found.hard
    results = (total, found.soft, found.hard) if call.with_parts else (total,)
    return tuple(torch.scalar_tensor(x, dtype=dtype) for x in results)


def _compute(s: Tensor, t: Tensor, call: PlainCall, scales: tuple[float, float] | None) -> _Found | None:
    """Return the loss, with the sum of both terms' gradients times their scales; None where a row kernel must compute it."""
    divergence, temperature, labels, weights = call.divergence, call.temperature, call.labels, call.weights
    p, p_s, hard = None, s, 0.0
    if divergence.on_logits:
        d = t - s
        if divergence.is_centred:
            d.sub_(d.mean(-1, keepdim=True))
        terms, slopes = divergence.terms_and_slopes(d, 1 / s.shape[-1], 1 / s.shape[-1], *divergence.parameter_values)
    else:
        a = torch.log_softmax(s if temperature == 1 else s * (1 / temperature), -1)
        b = torch.log_softmax(t if temperature == 1 else t * (1 / temperature), -1)
        d = b - a
        p_s, p_t = a.exp_(), b.exp_()
        function = written_with(divergence.terms_and_slopes, Plain)
        terms, slopes = function(d, p_s, p_t, *divergence.parameter_values)
    value, weight = _weighted_sum(terms, weights), weights.sum() if isinstance(weights, Tensor) else weights * len(s)
    if not (divergence.on_logits or value > divergence.digits_lost_below * weight):
        return None
    if labels is not None:
        p = torch.log_softmax(s, -1)
        try:
            hard = -_weighted_sum(p.gather(-1, labels), weights)
        except (RuntimeError, IndexError):  # a label is no class
            return None
    soft = call.compensation * value
    if not math.isfinite(soft + hard):
        return None
    if scales is None:
        return _Found(soft, hard, None)
    soft_scale, hard_scale = scales[0] * call.compensation * weights, scales[1] * weights
    if not divergence.on_logits:
        slopes = torch.addcmul(slopes, p_s, slopes.sum(-1, keepdim=True), value=-1)
        soft_scale = soft_scale / temperature
    gradient = slopes.mul_(soft_scale)
    if p is not None and labels is not None:
        if isinstance(hard_scale, Tensor):
            gradient.addcmul_(p.exp_(), hard_scale).scatter_add_(-1, labels, -hard_scale)
        else:
            gradient.add_(p.exp_(), alpha=hard_scale).scatter_(-1, labels, -hard_scale, reduce="add")
    return _Found(soft, hard, gradient)


def _weighted_sum(values: Tensor, weights: Tensor | float) -> float:
    """Return the sum of values (N, ...) times one weight or (N, 1)."""
    return (values * weights).sum().item() if isinstance(weights, Tensor) else values.sum().item() * weights

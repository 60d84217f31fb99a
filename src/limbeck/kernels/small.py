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

SMALL = 1 << 14
"""Logits in a call up to which this is faster than a row kernel."""
CLOSE = 2e-3
"""The mean divergence below which a plain sum loses digits that count."""


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


def small_loss(student: Tensor, teacher: Tensor, call: PlainCall) -> Tensor | None:
    """Return the loss, or None where a row kernel must compute it.

    Args:
        student: logits (N, V). With ``call.inplace`` it holds its gradient afterwards.
        teacher: the same.
        call: the rest.
    """
    wanted = torch.is_grad_enabled() and student.requires_grad
    found = _total_and_gradient(student.detach(), teacher, call, wanted)
    if found is None:
        return None
    if not wanted:
        return torch.scalar_tensor(found[0], dtype=student.dtype)
    return _SmallLoss.apply(student, teacher, call, *found)  # pyright: ignore[reportReturnType]


class _SmallLoss(torch.autograd.Function):
    """The node of the graph."""

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, call: PlainCall, total: float, gradient: Tensor) -> Tensor:
        ctx.call = call
        if call.inplace:
            gradient = student.detach().copy_(gradient)
        else:
            ctx.save_for_backward(
                student, teacher, call.labels, call.weights if isinstance(call.weights, Tensor) else None
            )
        ctx.gradient = gradient
        return torch.scalar_tensor(total, dtype=student.dtype)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        refuse_second_derivatives("pass backend='reference', and no group")
        gradient, ctx.gradient = ctx.gradient, None
        if gradient is None:
            if ctx.call.inplace:
                raise RuntimeError(REFUSE_SECOND_PASS)
            student, teacher, *_ = ctx.saved_tensors  # raises if one of them was changed in place
            found = _total_and_gradient(student.detach(), teacher, ctx.call, True)
            assert found is not None
            gradient = found[1]
        return gradient if is_one(upstream) else scale_(gradient, upstream), None, None, None, None


def _total_and_gradient(s: Tensor, t: Tensor, call: PlainCall, wanted: bool) -> tuple[float, Tensor] | None:
    """Return the loss, and its gradient in new memory if it is wanted; None where a row kernel must compute them."""
    divergence, temperature, labels, weights = call.divergence, call.temperature, call.labels, call.weights
    p, p_s = None, s
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
        terms, slopes = divergence.terms_and_slopes(d, p_s, p_t, *divergence.parameter_values)
    one_weight = not isinstance(weights, Tensor)
    soft = terms.sum().item() * weights if one_weight else (terms * weights).sum().item()
    if not (divergence.on_logits or soft > CLOSE * (weights * len(s) if one_weight else weights.sum().item())):
        return None
    total = call.alpha * call.compensation * soft
    if labels is not None:
        p = torch.log_softmax(s, -1)
        try:
            picked = p.gather(-1, labels)
        except (RuntimeError, IndexError):  # a label is no class
            return None
        hard = picked.sum().item() * weights if one_weight else (picked * weights).sum().item()
        total -= (1 - call.alpha) * hard
    if not math.isfinite(total):
        return None
    if not wanted:
        return total, s
    soft_scale, hard_scale = call.alpha * call.compensation * weights, (1 - call.alpha) * weights
    if not divergence.on_logits:
        slopes = torch.addcmul(slopes, p_s, slopes.sum(-1, keepdim=True), value=-1)
        soft_scale = soft_scale / temperature
    gradient = slopes.mul_(soft_scale)
    if p is not None and labels is not None:
        if isinstance(hard_scale, Tensor):
            gradient.addcmul_(p.exp_(), hard_scale).scatter_add_(-1, labels, -hard_scale)
        else:
            gradient.add_(p.exp_(), alpha=hard_scale).scatter_(-1, labels, -hard_scale, reduce="add")
    return total, gradient

"""The loss of a few small rows on the CPU, where the number of operations takes the time, not the arithmetic.

The values leave torch as Python numbers, and the node of the graph has one output. Rows that are close need more digits, which
float64 has. What is not plain here (values that are not finite, rows so close that float64 loses digits too) is left to the row
kernels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import compress
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._C import _InferenceMode as InferenceMode  # torch.inference_mode() takes twice its time
from torch.nn.functional import nll_loss

from limbeck.kernels.autograd import REFUSE_SECOND_PASS, refuse_second_derivatives

SMALL = 1 << 14
"""Logits in a call up to which this is faster than a row kernel."""
LOST_LATER = 1e-6
"""float64 loses the digits that float32 has at this part of ``digits_lost_below``."""
NO_LABEL = -1 << 62
"""What ``nll_loss`` is to ignore: no label, so that one that is no class is an error."""


class Settings(NamedTuple):
    """The settings of a call, which are numbers."""

    on_logits: bool
    """These four describe the divergence, as ``call.DivergenceProtocol`` does."""
    is_centred: bool
    terms_and_slopes: Callable[..., tuple[Any, Any]]
    """With ``close_rows.Plain``."""
    parameters: tuple[float, ...]
    digits_lost_below: float
    slopes_cancel: bool
    """The slopes of each row have the sum 0."""
    temperature: float
    coldness: dict[torch.dtype, Tensor] | None
    """1 / T; None at T = 1. A number would become a tensor in each operation."""
    compensation: float
    alpha: float


class PlainCall(NamedTuple):
    """A call whose rows all have a label, or whose hard term is not asked for."""

    settings: Settings
    labels: Tensor | None
    """(N,), or None without a hard term."""
    mask: Tensor | None
    """bool (N,), the rows that count; None for all."""
    weight: float
    """1 over the mean's denominator."""
    inplace: bool
    with_parts: bool


class _Found(NamedTuple):
    """What ``_compute`` returns: C(T) D and CE, weighted and summed, and the scaled gradient in new memory."""

    soft: float
    hard: float
    gradient: Tensor | None


_TOO_CLOSE = _Found(math.nan, math.nan, None)


def small_loss(student: Tensor, teacher: Tensor, call: PlainCall) -> tuple[Tensor, ...] | None:
    """Return the total and, where they are asked for, the soft and the hard term; None where a row kernel must compute them.

    Args:
        student: logits (N, V). With ``call.inplace`` it holds its gradient afterwards.
        teacher: the same, without gradient.
        call: the rest.
    """
    wanted = student.requires_grad and torch.is_grad_enabled()
    alpha = call.settings.alpha
    found = _compute(student.detach(), teacher, call, (alpha, 1 - alpha) if wanted else None)
    if found is None:
        return None
    if not wanted:
        return _results(found, call, student.dtype)
    # Not Function.apply, which takes time to look for torch.func; ``plain_loss`` has looked.
    return super(torch.autograd.Function, _SmallLoss).apply(student, teacher, call, found)  # pyright: ignore


class _SmallLoss(torch.autograd.Function):
    """The node of the graph; its outputs are those of ``small_loss``."""

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, call: PlainCall, found: _Found) -> tuple[Tensor, ...]:
        if call.with_parts:
            ctx.set_materialize_grads(False)
        ctx.call, ctx.gradient = call, found.gradient
        if call.inplace and found.gradient is not None:
            ctx.gradient = student.detach().copy_(found.gradient)
        else:
            ctx.save_for_backward(student, teacher, call.labels, call.mask)
        return _results(found, call, student.dtype)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor | None) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        refuse_second_derivatives("pass backend='reference', and no group")
        call: PlainCall = ctx.call
        gradient, ctx.gradient = ctx.gradient, None
        of_total, of_soft, of_hard = (*[0.0 if x is None else x.item() for x in upstream], 0.0, 0.0)[:3]
        if gradient is not None and not (of_soft or of_hard):
            return gradient if of_total == 1 else gradient.mul_(of_total), None, None, None
        if call.inplace:
            raise RuntimeError(REFUSE_SECOND_PASS)
        student, teacher, *_ = ctx.saved_tensors  # raises if one of them was changed in place
        alpha = call.settings.alpha
        scales = alpha * of_total + of_soft, (1 - alpha) * of_total + of_hard
        found = _compute(student.detach(), teacher, call, scales)
        return None if found is None else found.gradient, None, None, None


def _results(found: _Found, call: PlainCall, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Return the total and, where they are asked for, the soft and the hard term."""
    alpha = call.settings.alpha
    total = alpha * found.soft + (1 - alpha) * found.hard
    results = (total, found.soft, found.hard) if call.with_parts else (total,)
    return tuple(torch.scalar_tensor(x, dtype=dtype, device="cpu") for x in results)


def _compute(student: Tensor, teacher: Tensor, call: PlainCall, scales: tuple[float, float] | None) -> _Found | None:
    """Return the loss, with the sum of both terms' gradients times their scales; None where a row kernel must compute it."""
    found = _compute_in(student, teacher, call, scales, double=False)
    if found is _TOO_CLOSE and student.dtype == torch.float32:
        found = _compute_in(student, teacher, call, scales, double=True)
    return None if found is _TOO_CLOSE else found


def _compute_in(
    student: Tensor, teacher: Tensor, call: PlainCall, scales: tuple[float, float] | None, *, double: bool
) -> _Found | None:
    """Return what ``_compute`` does, in the dtype of the logits or in float64; ``_TOO_CLOSE`` if rows need more digits."""
    settings, labels, mask, weight, *_ = call
    on_logits, compensation = settings.on_logits, settings.compensation
    p, hard = None, 0.0
    p_s: Any = None
    with InferenceMode(True):  # every operation takes less time
        s, t = (student.double(), teacher.double()) if double else (student, teacher)
        if on_logits:
            d = t - s
            if settings.is_centred:
                d.sub_(d.mean(-1, keepdim=True))
            p_t = p_s = 1 / s.shape[-1]
        else:
            a, b = s, t
            if settings.coldness is not None:
                coldness = settings.coldness[s.dtype]
                a, b = s * coldness, t * coldness
            a, b = torch.log_softmax(a, -1), torch.log_softmax(b, -1)
            d = b - a
            p_s, p_t = a.exp_(), b.exp_()
        terms, slopes = settings.terms_and_slopes(d, p_s, p_t, *settings.parameters)
        values = _values(terms.sum(-1), mask)
        if not on_logits and min(values) < settings.digits_lost_below * (LOST_LATER if double else 1):
            return _TOO_CLOSE  # the gradient is made outside of inference mode, so not from here
        soft = compensation * weight * sum(values)
        if labels is not None:
            p = torch.log_softmax(s, -1)
            try:
                hard = weight * sum(_values(nll_loss(p, labels, ignore_index=NO_LABEL, reduction="none"), mask))
            except (RuntimeError, IndexError):  # a label is no class
                return None
        if not math.isfinite(soft + hard):
            return None
        if scales is None:
            return _Found(soft, hard, None)
        soft_scale, hard_scale = scales[0] * compensation * weight, scales[1] * weight
        if not on_logits:
            soft_scale = soft_scale / settings.temperature
            if not settings.slopes_cancel:
                slopes = torch.addcmul(slopes, p_s, slopes.sum(-1, keepdim=True), value=-1)
        if p is not None:
            slopes, p = slopes.mul_(soft_scale), p.exp_()
    # The gradient itself is no tensor of inference mode.
    if p is None or labels is None:
        gradient = slopes * soft_scale
    else:
        gradient = slopes.add(p, alpha=hard_scale).scatter_(-1, labels.unsqueeze(-1), -hard_scale, reduce="add")
    if mask is not None:
        gradient.masked_fill_(~mask.unsqueeze(-1), 0.0)
    return _Found(soft, hard, gradient.to(student.dtype) if double else gradient)


def _values(values: Tensor, mask: Tensor | None) -> list[float]:
    """Return the values of the rows that count."""
    return values.tolist() if mask is None else list(compress(values.tolist(), mask.tolist()))

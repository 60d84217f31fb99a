r"""The loss on a GPU: one program for each row, which stays in cache between its sweeps.

    1st sweep   online maxima and sums of both rows at T, of the student's at 1, and of the KL      (reads s, t)
    2nd sweep   for divergences other than forward and reverse KL: the sums of their terms and psi  (reads s, t)
    last sweep  the gradient, from the end of the row, which was read last                          (reads s, t, writes g)

so forward and reverse KL move 5 values for each logit, the others 7. A row that does not count is not read. Nothing is left for
the backward pass but to multiply by the upstream gradient, which is left out where that is 1, without asking the device. A
divergence's ``form`` is compiled from its own source, with Triton's functions in the place of torch's.
"""

from __future__ import annotations

from functools import cache
from types import FunctionType
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from limbeck.kernels.call import FORMS, Plan, Shares

FORWARD_KL, REVERSE_KL, FORM, LOGITS, NONE = range(5)
LOG2_E = tl.constexpr(1.4426950408889634)
FAR = tl.constexpr(80.0)
BLOCK = 8192
"""Columns that a program takes at a time, at most."""


def sweep(
    student: Tensor, teacher: Tensor | None, plan: Plan, shares: Shares, gradient: Tensor | None
) -> tuple[Tensor, Tensor]:
    """As ``plan.Sweep`` says, where ``plan.closed``."""
    # One number for each row: T_s, T_t, C(T), and the shares of both terms.
    rows = torch.empty(5, len(student), dtype=plan.dtype, device=student.device)
    values = (plan.student_temperature, plan.teacher_temperature, plan.compensation, *shares)
    for row, value in zip(rows, values, strict=True):
        row.copy_(value.squeeze(-1)) if isinstance(value, Tensor) else row.fill_(value)
    t = plan.student_temperature
    power = int(t) if isinstance(t, float) and t in (1, 2) else 0  # e^s is then a power of e^(s / T)
    kind = NONE
    if teacher is not None:
        others = LOGITS if plan.measure.on_logits else FORM
        kind = FORWARD_KL if plan.forward_kl else REVERSE_KL if plan.reverse_kl else others
    student, teacher = _in_rows(student), None if teacher is None else _in_rows(teacher)
    soft, hard = sweep_rows(
        student, teacher, plan.labels, plan.labelled, rows, gradient, kind, plan.measure.form_name, plan.measure.share,
        plan.label_smoothing, power,
    ).unbind()  # fmt: skip
    return soft, hard


def _in_rows(logits: Tensor) -> Tensor:
    return logits if logits.stride(-1) == 1 else logits.contiguous()


@cache
def _compiled(form: Any) -> Any:
    """A form with Triton's functions in the place of torch's."""
    functions = {"exp": _exp, "log": _log, "minimum": _minimum, "sign": _sign, "FAR": FAR, "Any": tl.tensor, "tl": tl}
    copy = FunctionType(form.__code__, {**functions, "__name__": form.__module__}, form.__name__)
    copy.__module__, copy.__qualname__ = form.__module__, form.__qualname__
    return triton.jit(copy)


@torch.library.custom_op("limbeck::sweep_rows", mutates_args={"gradient"})
def sweep_rows(
    student: Tensor,
    teacher: Tensor | None,
    labels: Tensor | None,
    labelled: Tensor | None,
    rows: Tensor,
    gradient: Tensor | None,
    kind: int,
    form: str,
    share: float,
    smoothing: float,
    power: int,
) -> Tensor:
    """Soft and hard values, (2, N); the gradient is written where there is one."""
    count, classes = student.shape
    values = torch.zeros(2, count, dtype=rows.dtype, device=student.device)
    if count == 0:
        return values
    block = min(BLOCK, triton.next_power_of_2(classes))
    target = gradient if gradient is None or gradient.stride(-1) == 1 else torch.empty_like(student)
    _rows_kernel[(count,)](
        student,
        student if teacher is None else teacher,
        rows if labels is None else labels,
        rows if labelled is None else labelled.view(torch.uint8),
        rows,
        values,
        student if target is None else target,
        count,
        classes,
        student.stride(0),
        0 if teacher is None else teacher.stride(0),
        0 if target is None else target.stride(0),
        KIND=kind,
        DIVERGENCE=_compiled(FORMS[form]),
        SHARE=share,
        EPS=smoothing,
        POWER=power,
        HAS_LABELS=labels is not None,
        HAS_LABELLED=labelled is not None,
        HAS_GRADIENT=target is not None,
        ACC=tl.float64 if rows.dtype == torch.float64 else tl.float32,
        BLOCK=block,
        num_warps=min(16, max(1, block // 512)),  # pyright: ignore[reportCallIssue]
    )
    if target is not None and gradient is not None and target is not gradient:
        gradient.copy_(target)
    return values


@sweep_rows.register_fake
def _(student, teacher, labels, labelled, rows, *rest):  # noqa: ARG001
    return rows.new_empty(2, student.shape[0])


def scale_(gradient: Tensor, upstream: Tensor) -> Tensor:
    """gradient *= upstream, one number or one for each row; nothing is moved where that is 1."""
    rows = gradient.view(1, -1) if upstream.dim() == 0 and gradient.is_contiguous() else gradient
    if rows.dim() != 2 or rows.stride(-1) != 1:
        return gradient.mul_(upstream.unsqueeze(-1) if upstream.dim() else upstream)
    blocks = triton.cdiv(rows.shape[1], BLOCK)
    if rows.numel():
        _scale_kernel[(len(rows), blocks)](
            rows, upstream, rows.shape[1], rows.stride(0), PER_ROW=upstream.dim() > 0, BLOCK=BLOCK,
            num_warps=8,  # pyright: ignore[reportCallIssue]
        )  # fmt: skip
    return gradient


@triton.jit
def _scale_kernel(gradient, upstream, classes, stride, PER_ROW: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    factor = tl.load(upstream + row) if PER_ROW else tl.load(upstream)
    if factor != 1:
        cols = tl.program_id(1).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
        at = gradient + row * stride + cols
        value = tl.load(at, mask=cols < classes)
        tl.store(at, (value * factor).to(value.dtype), mask=cols < classes)


@triton.jit
def _exp(x):
    return tl.exp2(x * LOG2_E)


@triton.jit
def _log(x):
    return tl.log2(x) / LOG2_E


@triton.jit
def _minimum(x, bound):
    return tl.minimum(x, bound)


@triton.jit
def _sign(x):
    return tl.where(x > 0, 1.0, tl.where(x < 0, -1.0, 0.0))


@triton.jit
def _finite(x):
    """A maximum to take away: 0 in the place of -inf."""
    return tl.where(x == -float("inf"), 0.0, x)


@triton.jit
def _rows_kernel(
    student, teacher, labels, labelled, rows, values, gradient, count, classes, stride_s, stride_t, stride_g,
    KIND: tl.constexpr, DIVERGENCE: tl.constexpr, SHARE: tl.constexpr, EPS: tl.constexpr, POWER: tl.constexpr,
    HAS_LABELS: tl.constexpr, HAS_LABELLED: tl.constexpr, HAS_GRADIENT: tl.constexpr, ACC: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    t_s, t_t, compensation = tl.load(rows + row), tl.load(rows + count + row), tl.load(rows + 2 * count + row)
    soft_share, hard_share = tl.load(rows + 3 * count + row), tl.load(rows + 4 * count + row)
    s_row, t_row, g_row = student + row * stride_s, teacher + row * stride_t, gradient + row * stride_g
    blocks = tl.cdiv(classes, BLOCK)
    minus_inf = -float("inf")

    if (soft_share == 0) & (hard_share == 0):  # does not count: neither read nor anything but 0
        if HAS_GRADIENT:
            for i in range(blocks):
                cols = i * BLOCK + tl.arange(0, BLOCK)
                tl.store(g_row + cols, tl.zeros((BLOCK,), ACC).to(gradient.dtype.element_ty), mask=cols < classes)
        return

    # In units of log 2, so that every exponential is one instruction.
    k_s, k_t = LOG2_E / t_s, LOG2_E / t_t
    zero = t_s * 0
    max_s, max_t = zero + minus_inf, zero + minus_inf
    sum_s, sum_t, sum_1, cross, present, logits, apart = zero, zero, zero, zero, zero, zero, zero
    for i in range(blocks):
        cols = i * BLOCK + tl.arange(0, BLOCK)
        s = tl.load(s_row + cols, mask=cols < classes, other=minus_inf).to(ACC)
        top_s = tl.maximum(max_s, tl.max(s, 0))
        less_s = _finite(top_s)
        x_s = (s - less_s) * k_s
        e_s = tl.exp2(x_s)
        down_s = tl.where(max_s == minus_inf, 0.0, (max_s - less_s) * k_s)
        if HAS_LABELS:
            if POWER == 1:
                e_1 = e_s
            elif POWER == 2:
                e_1 = e_s * e_s
            else:
                e_1 = tl.exp2((s - less_s) * LOG2_E)
            down_1 = tl.where(max_s == minus_inf, 0.0, (max_s - less_s) * LOG2_E)
            sum_1 = sum_1 * tl.exp2(down_1) + tl.sum(e_1, 0)
            if EPS > 0:
                here = s != minus_inf
                present += tl.sum(here.to(ACC), 0)
                logits += tl.sum(tl.where(here, s, 0.0), 0)
        if KIND != 4:
            t = tl.load(t_row + cols, mask=cols < classes, other=minus_inf).to(ACC)
            if KIND == 3:
                both = (s == minus_inf) & (t == minus_inf)
                sum_t += tl.sum(tl.where(both, 0.0, 1.0), 0)
                apart += tl.sum(tl.where(both, 0.0, t - s), 0)
            else:
                top_t = tl.maximum(max_t, tl.max(t, 0))
                less_t = _finite(top_t)
                x_t = (t - less_t) * k_t
                e_t = tl.exp2(x_t)
                down_t = tl.where(max_t == minus_inf, 0.0, (max_t - less_t) * k_t)
                if KIND == 0:
                    cross = (cross + (down_t - down_s) * sum_t) * tl.exp2(down_t)
                    cross += tl.sum(tl.where(e_t == 0, 0.0, e_t * (x_t - x_s)), 0)
                if KIND == 1:
                    cross = (cross + (down_s - down_t) * sum_s) * tl.exp2(down_s)
                    cross += tl.sum(tl.where(e_s == 0, 0.0, e_s * (x_s - x_t)), 0)
                sum_t = sum_t * tl.exp2(down_t) + tl.sum(e_t, 0)
                max_t = top_t
        sum_s = sum_s * tl.exp2(down_s) + tl.sum(e_s, 0)
        max_s = top_s

    less_s, less_t = _finite(max_s), _finite(max_t)
    log_s, log_t = tl.log2(sum_s), tl.log2(sum_t)
    soft, pulled = zero, zero
    if KIND == 0:
        soft = (cross / sum_t + log_s - log_t) / LOG2_E
        pulled = zero - 1
    if KIND == 1:
        soft = (cross / sum_s - log_s + log_t) / LOG2_E
        pulled = soft
    if KIND == 2:
        for i in range(blocks):
            cols = i * BLOCK + tl.arange(0, BLOCK)
            s = tl.load(s_row + cols, mask=cols < classes, other=minus_inf).to(ACC)
            t = tl.load(t_row + cols, mask=cols < classes, other=minus_inf).to(ACC)
            a, b = (s - less_s) * k_s - log_s, (t - less_t) * k_t - log_t
            d = tl.where((s == minus_inf) & (t == minus_inf), 0.0, (b - a) / LOG2_E)
            d = tl.minimum(tl.maximum(d, -1e4), 1e4)
            terms, slope = DIVERGENCE(d, tl.exp2(a), tl.exp2(b), SHARE)
            soft += tl.sum(terms, 0)
            pulled += tl.sum(slope, 0)
    mean = zero
    if KIND == 3:
        if SHARE > 0:
            mean = apart / sum_t
        for i in range(blocks):
            cols = i * BLOCK + tl.arange(0, BLOCK)
            s = tl.load(s_row + cols, mask=cols < classes, other=minus_inf).to(ACC)
            t = tl.load(t_row + cols, mask=cols < classes, other=minus_inf).to(ACC)
            d = tl.where((s == minus_inf) & (t == minus_inf), 0.0, t - s - mean)
            terms, slope = DIVERGENCE(d, 1 / sum_t, 1 / sum_t, SHARE)
            soft += tl.sum(terms, 0)
    tl.store(values + row, soft * compensation)

    push, label = zero, tl.full((), -1, tl.int64)
    if HAS_LABELS:
        push = hard_share
        label = tl.load(labels + row)
        hard = less_s + tl.log2(sum_1) / LOG2_E - (1 - EPS) * tl.load(s_row + label).to(ACC)
        if EPS > 0:
            hard -= EPS * logits / present
        if HAS_LABELLED:
            has = tl.load(labelled + row) != 0
            hard = tl.where(has, hard, 0.0)
            push = tl.where(has, push, 0.0)
        tl.store(values + count + row, hard)

    if HAS_GRADIENT:
        pull = soft_share * compensation
        if KIND != 3:
            pull = pull / t_s
        for j in range(blocks):
            cols = (blocks - 1 - j) * BLOCK + tl.arange(0, BLOCK)
            s = tl.load(s_row + cols, mask=cols < classes, other=minus_inf).to(ACC)
            g = tl.zeros((BLOCK,), ACC)
            a = (s - less_s) * k_s - log_s
            p_s = tl.exp2(a)
            if KIND != 4:
                t = tl.load(t_row + cols, mask=cols < classes, other=minus_inf).to(ACC)
                both = (s == minus_inf) & (t == minus_inf)
                if KIND == 3:
                    terms, slope = DIVERGENCE(tl.where(both, 0.0, t - s - mean), 1 / sum_t, 1 / sum_t, SHARE)
                    g = pull * slope
                else:
                    b = (t - less_t) * k_t - log_t
                    p_t = tl.exp2(b)
                    if KIND == 0:
                        g = pull * (p_s - p_t)
                    else:
                        d = tl.where(both, 0.0, (b - a) / LOG2_E)
                        d = tl.minimum(tl.maximum(d, -1e4), 1e4)
                        terms, slope = DIVERGENCE(d, p_s, p_t, SHARE)
                        g = pull * (slope - p_s * pulled)
            if HAS_LABELS:
                p_1 = p_s if POWER == 1 else tl.exp2((s - less_s) * LOG2_E) / sum_1
                g += push * (p_1 - tl.where(cols == label, zero + (1 - EPS), zero))
                if EPS > 0:
                    g -= push * EPS / present
            g = tl.where(s == minus_inf, 0.0, g)  # a logit of -inf stays where it is
            tl.store(g_row + cols, g.to(gradient.dtype.element_ty), mask=cols < classes)

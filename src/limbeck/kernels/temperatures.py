r"""The divergence of rows whose temperatures ask for gradient, around any row kernel.

D depends on the student's logits s and its temperature T_s by s / T_s alone, so that

    dD/dT_s = -1 / T_s  sum s dD/ds

and the same holds for the teacher's. Its gradient dD/dt is that of the mirrored divergence, which has the roles of both models
exchanged: one more call of the same kernel.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from limbeck.kernels.autograd import refuse_second_derivatives
from limbeck.kernels.call import LossCall, RowKernel


def softened_rows(student: Tensor, teacher: Tensor, call: LossCall, row_kernel: RowKernel) -> Tensor:
    """Return D of each row, (N,), with a gradient for the student's logits and for both temperatures.

    Args:
        student: logits (N, V).
        teacher: the same.
        call: the rest. Its divergence has a mirrored one.
        row_kernel: computes the rows.
    """
    t_t, t_s = (
        x.expand(len(student), 1) if isinstance(x, Tensor) else x
        for x in (call.teacher_temperature, call.student_temperature)
    )
    if call.teacher_temperature is call.student_temperature:
        t_t = t_s  # kernels know by it that both are the same
    soft = replace(call, labels=None, labelled=None, weights=1.0, compensation=1.0, alpha=1.0, inplace=False)
    return _SoftenedRows.apply(student.to(call.dtype), teacher, t_t, t_s, soft, row_kernel)  # pyright: ignore[reportReturnType]


class _SoftenedRows(torch.autograd.Function):
    """The node of the graph of ``softened_rows``. Its derivatives come from the forward pass."""

    @staticmethod
    def forward(
        ctx: Any, student: Tensor, teacher: Tensor, t_t: Any, t_s: Any, call: LossCall, row_kernel: RowKernel
    ) -> Tensor:
        own, by_t_t, by_t_s = None, None, None
        _, _, of_t_t, of_t_s = ctx.needs_input_grad[:4]
        call = replace(call, teacher_temperature=t_t, student_temperature=t_s)
        if any(ctx.needs_input_grad):
            own = torch.empty_like(student, memory_format=torch.contiguous_format)
        values, _ = row_kernel(student, teacher, call, (1.0, 0.0), own)
        if own is not None and of_t_s:
            by_t_s = _by_temperature(student, own, t_s)
        if own is not None and of_t_t:
            mirrored = replace(
                call, divergence=call.divergence.mirrored, teacher_temperature=t_s, student_temperature=t_t,
                is_forward_kl=call.is_reverse_kl, is_reverse_kl=call.is_forward_kl,
            )  # fmt: skip
            other = torch.empty_like(own)
            row_kernel(teacher, student, mirrored, (1.0, 0.0), other)
            by_t_t = _by_temperature(teacher, other, t_t)
        ctx.save_for_backward(own, by_t_t, by_t_s)
        return values

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        refuse_second_derivatives("pass backend='reference'")
        column = upstream.unsqueeze(-1)
        own, by_t_t, by_t_s = (None if x is None else x * column for x in ctx.saved_tensors)
        return own, None, by_t_t, by_t_s, None, None


def _by_temperature(logits: Tensor, gradient: Tensor, temperature: Tensor) -> Tensor:
    """Return dD/dT of each row, (N, 1). An infinite logit has no part in it, as it has no gradient."""
    products = (logits * gradient).masked_fill_(gradient == 0, 0.0)
    return products.sum(-1, keepdim=True) / -temperature

"""The loss of rows as one node of the autograd graph, around any row kernel.

The gradient comes from the forward pass, already divided by the mean's denominator, so that a plain ``loss.backward()`` hands
it over as it is. Another upstream gradient scales it. In float16 it is computed in the backward pass, and rounded once. A
second backward pass, or the gradient of a part, runs the kernel again on the logits that were kept. Evaluation computes no
gradient.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from limbeck.kernels.call import GradientScales, LossCall, RowKernel

TRITON_IS_INSTALLED = find_spec("triton") is not None
HALF = (torch.bfloat16, torch.float16)
REFUSE_SECOND_PASS = (
    "inplace=True has written the gradient into the student's logits and handed it over. "
    "For a second backward pass, or for gradients of the parts, use inplace=False."
)


def rows_loss(
    student: Tensor, teacher: Tensor | None, call: LossCall, row_kernel: RowKernel
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the weighted total, and the soft and hard values of the rows without weights.

    Args:
        student: (N, V) or (B, L, V). With ``call.inplace`` it holds its gradient afterwards.
        teacher: of the same shape, or None when there is no soft term.
        call: the rest.
        row_kernel: computes the rows.

    Returns:
        The total as one number or (N,); C(T) D, (N,); CE, (N,).
    """
    # Inside of the function gradients are always off, so it is asked here whether one is wanted.
    wanted = torch.is_grad_enabled() and student.requires_grad
    return _RowsLoss.apply(student, teacher, call, row_kernel, wanted)  # pyright: ignore[reportReturnType]


class _RowsLoss(torch.autograd.Function):
    """The node of the graph; its outputs are those of ``rows_loss``."""

    @staticmethod
    def forward(
        ctx: Any, student: Tensor, teacher: Tensor | None, call: LossCall, row_kernel: RowKernel, wanted: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        ctx.call, ctx.row_kernel = call, row_kernel
        # float16 has few small numbers, so its gradient waits for the upstream one, which may be a loss scale of 65,536.
        ctx.waits, gradient = wanted and student.dtype == torch.float16, None
        if wanted and not ctx.waits:
            gradient = student.detach() if call.inplace else torch.empty_like(student)
        soft, hard = row_kernel(student.detach(), teacher, call, call.gradient_scales(), gradient)
        if call.inplace and gradient is not None:
            # The logits are overwritten: whoever saved them for another gradient gets an error.
            torch.autograd.graph.increment_version(student)
        else:
            ctx.save_for_backward(student, teacher, *call.tensors)
        ctx.gradient = gradient
        return weighted_total(soft, hard, call), soft, hard

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor | None) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        refuse_second_derivatives("pass backend='reference', and no group")
        total, soft, hard = upstream
        call: LossCall = ctx.call
        gradient, ctx.gradient, waits, ctx.waits = ctx.gradient, None, ctx.waits, False
        only_total = total is not None and soft is None and hard is None
        if call.inplace and not waits and not (only_total and gradient is not None):
            raise RuntimeError(REFUSE_SECOND_PASS)
        if only_total and total is not None and gradient is not None:
            unit = is_one(total)
            # A scaled gradient in half precision would be rounded twice, so it is computed again; powers of two are exact.
            once = gradient.dtype not in HALF or (unit is None and total.dim() == 0) or is_power_of_two(total)
            if unit or call.inplace or once:
                return gradient if unit else scale_(gradient, total), None, None, None, None
        student, teacher, *_ = ctx.saved_tensors  # raises if one of them was changed in place
        gradient = student.detach() if call.inplace else torch.empty_like(student)
        ctx.row_kernel(student.detach(), teacher, call, scales_for(call, total, soft, hard), gradient)
        if call.inplace:
            torch.autograd.graph.increment_version(student)
        return gradient, None, None, None, None


def weighted_total(soft: Tensor, hard: Tensor, call: LossCall) -> Tensor:
    """Return the weighted total of the rows' soft and hard values.

    Args:
        soft: (N,), C(T) D of each row.
        hard: (N,), the cross-entropy of each row.
        call: the call, whose weights and alpha are used.

    Returns:
        One number if the call is summed, else (N,).
    """
    # A term that alpha rules out is left out and not multiplied by 0, because it may be infinite.
    only = {0.0: hard, 1.0: soft}.get(call.alpha)
    values = (call.alpha * soft).add_(hard, alpha=1 - call.alpha) if only is None else only
    if not isinstance(call.weights, Tensor):
        return values.sum().mul_(call.weights) if call.summed else values * call.weights
    values = torch.where(call.weights > 0, values * call.weights, 0.0)
    return values.sum() if call.summed else values


def scales_for(call: LossCall, total: Tensor | None, soft: Tensor | None, hard: Tensor | None) -> GradientScales:
    """Return the factors that scale the soft and hard gradients.

    Args:
        call: the call.
        total: the upstream gradient of the total; None for none.
        soft: the upstream gradient of the soft values, (N,); None for none.
        hard: the upstream gradient of the hard values, (N,); None for none.
    """
    scales = call.gradient_scales(0.0 if total is None else total)
    return tuple(x if part is None else x + part for x, part in zip(scales, (soft, hard), strict=True))  # pyright: ignore[reportReturnType]


def is_one(upstream: Tensor) -> bool | None:
    """Return True if an upstream gradient is 1 everywhere; None where asking would make the processor wait for the device."""
    if upstream.device.type != "cpu" or torch.compiler.is_compiling():
        return None
    return upstream.item() == 1 if upstream.dim() == 0 else bool((upstream == 1).all())


def is_power_of_two(upstream: Tensor) -> bool:
    """Return True if an upstream gradient is known to be a power of two everywhere, by which bfloat16 is scaled exactly.

    Args:
        upstream: one number, or one for each row.
    """
    if upstream.device.type != "cpu" or torch.compiler.is_compiling():
        return False
    return bool((upstream.frexp().mantissa == 0.5).all())


def scale_(gradient: Tensor, upstream: Tensor) -> Tensor:
    """Multiply the gradient in place by one number or one for each row, and return it.

    Where the number is 1 a GPU moves nothing, and the processor does not ask it.
    """
    if gradient.is_cuda and TRITON_IS_INSTALLED:
        from limbeck.kernels import triton

        return triton.scale_(gradient, upstream)
    return gradient.mul_(upstream.view(*gradient.shape[:-1], 1) if upstream.dim() else upstream)


def refuse_second_derivatives(remedy: str) -> None:
    """Raise if the backward pass is asked for its own gradient (create_graph=True).

    Args:
        remedy: what to do for second derivatives.

    Raises:
        RuntimeError: gradients are enabled inside of a backward pass.
    """
    if torch.is_grad_enabled():
        raise RuntimeError(f"This loss has first derivatives only. For second ones {remedy}.")

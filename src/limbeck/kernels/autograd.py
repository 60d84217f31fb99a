"""The loss of rows as one node of the autograd graph, around whatever kernel sweeps over the rows.

The gradient comes from the forward pass, already divided by the mean's denominator, so a plain ``loss.backward()`` hands it
over as it is; another upstream gradient scales it. A second backward pass, or the gradient of a part, sweeps again over
the logits that were kept. Evaluation computes no gradient.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from limbeck.kernels.call import Plan, Shares, Sweep

TRITON_IS_INSTALLED = find_spec("triton") is not None
HALF = (torch.bfloat16, torch.float16)


def rows_loss(
    student: Tensor, teacher: Tensor | None, plan: Plan, sweep: Sweep
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The total, weighted, as one number or (N,); soft and hard values for each row, (N,), not weighted.

    Args:
        student: (N, V). With ``plan.inplace`` it holds its gradient afterwards.
        teacher: (N, V), or None when there is no soft term.
        plan: the rest.
        sweep: the kernel.
    """
    # Inside of the function gradients are always off, so whether one is wanted is asked here.
    wanted = torch.is_grad_enabled() and student.requires_grad
    return _Rows.apply(student, teacher, plan, sweep, wanted)  # pyright: ignore[reportReturnType]


class _Rows(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, student: Tensor, teacher: Tensor | None, plan: Plan, sweep: Sweep, wanted: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        ctx.plan, ctx.sweep = plan, sweep
        gradient = None
        if wanted:
            gradient = student.detach() if plan.inplace else torch.empty_like(student)
        soft, hard = sweep(student.detach(), teacher, plan, plan.shares(), gradient)
        if plan.inplace and gradient is not None:
            torch.autograd.graph.increment_version(student)  # whoever saved the logits must not use them
        else:
            ctx.save_for_backward(student, teacher)
        ctx.gradient = gradient
        return total_of(soft, hard, plan), soft, hard

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor | None) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        refuse_second_derivatives()
        total, soft, hard = upstream
        plan: Plan = ctx.plan
        gradient, ctx.gradient = ctx.gradient, None
        of_total = total is not None and soft is None and hard is None
        if plan.inplace and not (of_total and gradient is not None):
            raise RuntimeError(
                "inplace=True has written the gradient into the student's logits and handed it over. "
                "For a second backward pass, or for gradients of the parts, use inplace=False."
            )
        if of_total and total is not None and gradient is not None:
            unit = is_one(total)
            # What half precision would round twice is computed again.
            if unit or plan.inplace or gradient.dtype not in HALF or (unit is None and total.dim() == 0):
                return gradient if unit else scale_(gradient, total), None, None, None, None
        student, teacher = ctx.saved_tensors
        gradient = torch.empty_like(student)
        ctx.sweep(student.detach(), teacher, plan, shares_of(plan, total, soft, hard), gradient)
        return gradient, None, None, None, None


def total_of(soft: Tensor, hard: Tensor, plan: Plan) -> Tensor:
    """The weighted total of the rows' values, as one number or (N,)."""
    # A term that alpha rules out is left out, not multiplied by 0: it may be infinite.
    one = {0.0: hard, 1.0: soft}.get(plan.alpha)
    total = (plan.alpha * soft).add_(hard, alpha=1 - plan.alpha) if one is None else one
    if not isinstance(plan.weights, Tensor):
        return total.sum().mul_(plan.weights) if plan.summed else total * plan.weights
    total = torch.where(plan.weights > 0, total * plan.weights, 0.0)
    return total.sum() if plan.summed else total


def shares_of(plan: Plan, total: Tensor | None, soft: Tensor | None, hard: Tensor | None) -> Shares:
    """Of both terms in the gradient, for any upstream gradients of the three outputs."""
    shares = plan.shares(0.0 if total is None else total)
    return tuple(share if part is None else share + part for share, part in zip(shares, (soft, hard), strict=True))  # pyright: ignore[reportReturnType]


def is_one(upstream: Tensor) -> bool | None:
    """Whether an upstream gradient changes nothing; None where asking would make the processor wait for the device."""
    if upstream.device.type != "cpu" or torch.compiler.is_compiling():
        return None
    return upstream.item() == 1 if upstream.dim() == 0 else bool((upstream == 1).all())


def scale_(gradient: Tensor, upstream: Tensor) -> Tensor:
    """gradient *= upstream, one number or one for each row; where that is 1 a GPU moves nothing, and is not asked."""
    if gradient.is_cuda and TRITON_IS_INSTALLED:
        from limbeck.kernels import triton

        return triton.scale_(gradient, upstream)
    return gradient.mul_(upstream.unsqueeze(-1) if upstream.dim() else upstream)


def refuse_second_derivatives() -> None:
    """Raise where the backward pass is asked for its own gradient (create_graph=True)."""
    if torch.is_grad_enabled():
        raise RuntimeError("The kernels have first derivatives only. For second ones pass backend='reference'.")

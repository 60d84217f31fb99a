r"""The projection to logits and the loss together: a chunk of rows at a time, so that the logits are never whole.

For a chunk X of the student's hidden states and Y of the teacher's:

    Z = X W_s^T,  U = Y W_t^T                in float32, into two buffers that serve every chunk
    Z <- dloss/dZ                            by the kernel that sweeps over rows, in place
    dX = Z W_s,  dW_s += Z^T X,  db += sum Z

The gradients come from the forward pass: to keep the logits would take the memory that this saves, to project again in the
backward pass would cost half as much again. Large chunks keep the matrix products fast. Frozen weights and inputs that
need no gradient cost nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributed import ProcessGroup, all_reduce

from limbeck.kernels.autograd import HALF, is_one, refuse_second_derivatives, scale_, shares_of, total_of
from limbeck.kernels.call import Plan, Shares, Sweep, part_of

BYTES = {"cpu": 1 << 26, "cuda": 1 << 30}
"""What both buffers of logits may take, by the kind of device."""


@dataclass(frozen=True)
class Head:
    """The last layer of a model: cap * tanh(scale * (x W^T + b) / cap)."""

    weight: Tensor
    """(V, d)."""
    bias: Tensor | None = None
    """(V,)."""
    scale: float = 1.0
    softcap: float | None = None

    def logits(self, hidden: Tensor, out: Tensor) -> Tensor:
        """(n, V), into ``out``, in whose dtype the product leaves the hardware."""
        _product(hidden, self.weight.t(), out)
        if self.bias is not None:
            out.add_(self.bias)
        if self.scale != 1:
            out.mul_(self.scale)
        if self.softcap is not None:
            out.div_(self.softcap).tanh_().mul_(self.softcap)
        return out

    def prepared(self, classes: int, hidden: Tensor, dtype: torch.dtype) -> Head:
        """The first classes of it; its weight in the dtype of the hidden states, or, on a CPU, of the logits."""
        weight = self.weight.detach()[:classes].to(dtype if hidden.device.type == "cpu" else hidden.dtype)
        bias = None if self.bias is None else self.bias.detach()[:classes].to(dtype)
        return Head(weight, bias, self.scale, self.softcap)


@dataclass(frozen=True)
class Projection:
    """One call: hidden states and heads of both models; the teacher's are None when there is no soft term."""

    head: Head
    teacher_hidden: Tensor | None
    teacher_head: Head | None
    classes: int
    """How many there are; rows of the weights after them are padding."""
    plan: Plan
    sweep: Sweep
    chunk: int
    """Rows whose logits are held at a time."""
    group: ProcessGroup | None = None
    """Its processes hold the rows of the weights; each has a part of the hidden states' gradient."""


def rows_in_chunk(classes: int, device: torch.device) -> int:
    """A power of two of rows whose logits fit the budget, from 64 to 4096."""
    rows = max(1, BYTES.get(device.type, BYTES["cuda"]) // (8 * classes))
    return min(4096, max(64, 1 << (rows.bit_length() - 1)))


def linear_loss(student_hidden: Tensor, call: Projection) -> tuple[Tensor, Tensor, Tensor]:
    """The total, weighted, as one number or (N,); soft and hard values for each row, (N,), not weighted."""
    inputs = (student_hidden, call.head.weight, call.head.bias)
    # Inside of the function gradients are always off, so whether they are wanted is asked here.
    wanted = tuple(torch.is_grad_enabled() and x is not None and x.requires_grad for x in inputs)
    return _Linear.apply(*inputs, call, wanted)  # pyright: ignore[reportReturnType]


Gradients = tuple[Tensor | None, Tensor | None, Tensor | None]


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, call: Projection, wanted: tuple[bool, bool, bool]
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        ctx.call, ctx.wanted = call, wanted
        ctx.save_for_backward(hidden, weight, bias)
        plan = call.plan
        ctx.early = plan.summed and any(wanted)
        early = wanted if ctx.early else (False, False, False)
        soft, hard, ctx.gradients = _chunks(hidden, weight, bias, call, plan.shares(), early)
        return total_of(soft, hard, plan), soft, hard

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor | None) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        refuse_second_derivatives()
        total, soft, hard = upstream
        gradients, ctx.gradients, early, ctx.early = ctx.gradients, None, ctx.early, False
        if not early or total is None or soft is not None or hard is not None:
            shares = shares_of(ctx.call.plan, total, soft, hard)
            hidden, weight, bias = ctx.saved_tensors
            gradients = _chunks(hidden, weight, bias, ctx.call, shares, ctx.wanted)[2]
        elif not is_one(total):
            gradients = tuple(None if gradient is None else scale_(gradient, total) for gradient in gradients)
        return *gradients, None, None


@torch.no_grad()
def _chunks(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    call: Projection,
    shares: Shares,
    wanted: tuple[bool, bool, bool],
) -> tuple[Tensor, Tensor, Gradients]:
    """Soft and hard values, and the gradients that are wanted, in the dtype of what they belong to."""
    plan, count, classes = call.plan, len(hidden), call.classes
    head = Head(weight, bias, call.head.scale, call.head.softcap).prepared(classes, hidden, plan.dtype)
    teacher = None
    if call.teacher_head is not None and call.teacher_hidden is not None:
        teacher = call.teacher_head.prepared(classes, call.teacher_hidden, plan.dtype)
    rows = min(call.chunk, count)
    buffer = torch.empty(rows, classes, dtype=plan.dtype, device=hidden.device)
    teachers = buffer if teacher is None else torch.empty_like(buffer)
    squares = torch.empty_like(buffer) if head.softcap is not None and any(wanted) else None
    soft, hard = hidden.new_zeros(2, count, dtype=plan.dtype)
    dx = torch.empty_like(hidden) if wanted[0] else None
    dw = torch.empty_like(weight, dtype=plan.dtype) if wanted[1] else None
    if dw is not None:
        dw[classes if count else 0 :].zero_()  # padding, or nothing to sum
    db = torch.zeros_like(bias, dtype=plan.dtype) if wanted[2] and bias is not None else None
    for start in range(0, count, max(1, rows)):
        part = slice(start, min(count, start + rows))
        x = hidden[part].to(head.weight.dtype)
        z, u = head.logits(x, buffer[: len(x)]), None
        if teacher is not None and call.teacher_hidden is not None:
            u = teacher.logits(call.teacher_hidden[part].to(teacher.weight.dtype), teachers[: len(x)])
        square = None if squares is None else torch.square(z, out=squares[: len(x)])
        soft[part], hard[part] = call.sweep(z, u, plan.part(part), part_of(shares, part), z if any(wanted) else None)
        if not any(wanted):
            continue
        if square is not None and head.softcap is not None:  # the cap's derivative is 1 - (z / cap)²
            z.addcmul_(z, square, value=-1 / head.softcap**2)
        if head.scale != 1:
            z.mul_(head.scale)
        if db is not None:
            db[:classes] += z.sum(0)
        g = z.to(head.weight.dtype) if dx is not None or dw is not None else z
        if dx is not None:
            _product(g, head.weight, dx[part])
        if dw is not None:
            _product(g.t(), x, dw[:classes], accumulate=start > 0)
    if dx is not None and call.group is not None:
        all_reduce(dx, group=call.group)
    dw = None if dw is None else dw.to(weight.dtype)
    return soft, hard, (dx, dw, None if db is None or bias is None else db.to(bias.dtype))


def _product(x: Tensor, y: Tensor, out: Tensor, accumulate: bool = False) -> None:
    """out = x y, or out += x y; half precision leaves the product in the dtype of ``out``, where the hardware can."""
    if x.dtype == out.dtype:
        torch.addmm(out, x, y, out=out) if accumulate else torch.mm(x, y, out=out)
    elif x.dtype not in HALF:
        out.copy_(torch.mm(x, y))
    elif accumulate:
        torch.addmm(out, x, y, out_dtype=out.dtype, out=out)  # pyright: ignore[reportCallIssue]
    else:
        torch.mm(x, y, out_dtype=out.dtype, out=out)  # pyright: ignore[reportCallIssue]

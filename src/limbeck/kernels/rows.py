r"""The loss on the CPU: a few rows at a time, so that everything but the logits stays in cache.

Written one operation after the other, the loss walks through memory some forty times and keeps five tensors of the
logits' size for the backward pass. Here each chunk of rows is read once, and its gradient is written once:

    A = 2^((s - max s) log2(e) / T),  B = 2^((t - max t) log2(e) / T)      one exponential for each distribution
    KL = sum B ((t - max t) - (s - max s)) / (T sum B) - log sum B + log sum A
    softmax(s) comes from A^T when T is 1, 2, 3 or 4, else from a third exponential
    gradient = alpha C/T (A / sum A - B / sum B) + (1 - alpha) (softmax(s) - onehot(y))

It comes from the forward pass, already divided by the mean's denominator, so a plain ``loss.backward()`` hands it over as
it is. Evaluation does not compute it. Whatever the closed form does not cover (other divergences, class weights, columns of
-inf, NaN) is computed for its chunk by the functions that are handed down: the reference, on rows that are in cache.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

CHUNK_ELEMENTS = 1 << 19
"""Logits in a chunk: three buffers of 2 MB in float32."""
LOG2_E = math.log2(math.e)

ExactRows = Callable[[Tensor, Tensor | None, slice], tuple[Tensor | None, Tensor | None]]


@dataclass(frozen=True)
class RowsPlan:
    """One call of the loss, for logits that are flattened to (N, V)."""

    labels: Tensor | None
    """(N,), in [0, V) everywhere."""
    labelled: Tensor | None
    """bool (N,); None when every row has a label."""
    weights: Tensor | float
    """1 over the denominator; (N,) with 0 where a position does not count."""
    dtype: torch.dtype
    """Of the arithmetic."""
    alpha: float
    teacher_temperature: Tensor | float
    student_temperature: Tensor | float
    """Floats, or (N, 1)."""
    compensation: Tensor | float
    """C(T), a float or (N, 1)."""
    label_smoothing: float
    closed_form: bool
    """The divergence is forward KL and there are no class weights."""
    exact: ExactRows
    """Soft and hard values of some rows by the reference, attached to the graph."""
    inplace: bool
    summed: bool
    """The total is wanted as one number."""


Shares = tuple[Tensor | float, Tensor | float]


def rows_loss(student: Tensor, teacher: Tensor | None, plan: RowsPlan) -> tuple[Tensor, Tensor, Tensor]:
    """The total, weighted, as one number or (N,); soft and hard values for each row, (N,), not weighted.

    Args:
        student: (N, V). With ``plan.inplace`` it holds its gradient afterwards.
        teacher: (N, V), or None when there is no soft term.
        plan: the rest.
    """
    # Inside of the function gradients are always off, so whether one is wanted is asked here.
    wanted = torch.is_grad_enabled() and student.requires_grad
    return _Rows.apply(student, teacher, plan, wanted)  # pyright: ignore[reportReturnType]


class _Rows(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, student: Tensor, teacher: Tensor | None, plan: RowsPlan, wanted: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        ctx.plan = plan
        gradient = None
        if wanted:
            gradient = student.detach() if plan.inplace else torch.empty_like(student)
        shares = plan.alpha * plan.weights, (1 - plan.alpha) * plan.weights
        soft, hard = _sweep(student.detach(), teacher, plan, shares, gradient)
        if plan.inplace and gradient is not None:
            torch.autograd.graph.increment_version(student)  # whoever saved the logits must not use them
        else:
            ctx.save_for_backward(student, teacher)
        ctx.gradient = gradient
        # A term that alpha rules out is left out, not multiplied by 0: it may be infinite.
        terms = [share * rows for share, rows in ((plan.alpha, soft), (1 - plan.alpha, hard)) if share > 0]
        total = (terms[0] if len(terms) == 1 else terms[0].add_(terms[1])).mul_(plan.weights)
        if isinstance(plan.weights, Tensor):
            total = torch.where(plan.weights > 0, total, 0.0)
        return total.sum() if plan.summed else total, soft, hard

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor | None) -> tuple[Tensor, None, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        if torch.is_grad_enabled():  # create_graph=True
            raise RuntimeError("The CPU kernel has first derivatives only. For second ones pass backend='reference'.")
        total, soft, hard = upstream
        plan: RowsPlan = ctx.plan
        gradient, ctx.gradient = ctx.gradient, None
        of_total = total is not None and soft is None and hard is None
        if plan.inplace and not (of_total and gradient is not None):
            raise RuntimeError(
                "distillation_loss(inplace=True) has written the gradient into the student's logits and handed it over. "
                "For a second backward pass, or for gradients of the parts, use inplace=False."
            )
        if of_total and total is not None:
            unit = bool(total == 1) if total.dim() == 0 else bool((total == 1).all())
            if unit or plan.inplace or gradient is None or gradient.dtype not in (torch.bfloat16, torch.float16):
                if gradient is None:
                    gradient = _again(ctx, plan.alpha * plan.weights, (1 - plan.alpha) * plan.weights)
                return gradient if unit else gradient.mul_(total.unsqueeze(-1)), None, None, None
        # The gradient of a part, or one that half precision would round twice.
        shares: list[Tensor | float] = [0.0, 0.0]
        if total is not None:
            shares = [plan.alpha * plan.weights * total, (1 - plan.alpha) * plan.weights * total]
        for i, part in enumerate((soft, hard)):
            if part is not None:
                shares[i] = shares[i] + part
        return _again(ctx, *shares), None, None, None


def _again(ctx: Any, soft_share: Tensor | float, hard_share: Tensor | float) -> Tensor:
    """The gradient for other shares, from the logits that were kept."""
    student, teacher = ctx.saved_tensors
    gradient = torch.empty_like(student)
    shares = [s.expand(len(student)) if isinstance(s, Tensor) else s for s in (soft_share, hard_share)]
    _sweep(student.detach(), teacher, ctx.plan, (shares[0], shares[1]), gradient)
    return gradient


def _sweep(
    student: Tensor, teacher: Tensor | None, plan: RowsPlan, shares: Shares, gradient: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Soft and hard values of every row; their gradients, in the given shares, into ``gradient`` (which may be ``student``)."""
    count, classes = student.shape
    soft, hard = torch.zeros(2, count, dtype=plan.dtype).unbind()
    # As many rows for one thread as for another.
    threads = torch.get_num_threads()
    size = threads * max(1, round(CHUNK_ELEMENTS / (max(1, classes) * threads)))
    buffers = None
    if plan.closed_form and teacher is not None:
        upcast = (student.dtype != plan.dtype) + (teacher.dtype != plan.dtype)
        buffers = torch.empty(3 + upcast, min(size, count), classes, dtype=plan.dtype).unbind()
    columns = tuple(share.unsqueeze(-1) if isinstance(share, Tensor) else share for share in shares)
    whole = _Chunk(student, teacher, None, columns, soft, hard, gradient)  # pyright: ignore[reportArgumentType]
    for start in range(0, count, size):
        chunk = whole if count <= size else whole.part(slice(start, min(count, start + size)))
        if buffers is None or not _closed_form(chunk, plan, buffers):
            _exactly(chunk, plan)
    return soft, hard


class _Chunk(NamedTuple):
    student: Tensor
    teacher: Tensor | None
    rows: slice | None
    """Which rows of the call; None when they are all."""
    shares: Shares
    """Floats or (n, 1)."""
    soft: Tensor
    """(n,), to be filled."""
    hard: Tensor
    gradient: Tensor | None
    """(n, V), to be filled; it may be the student."""

    def of(self, value: Any) -> Any:
        """The chunk's part of a value that is one for all or one for each row."""
        return value[self.rows] if self.rows is not None and isinstance(value, Tensor) else value

    def part(self, rows: slice) -> _Chunk:
        """Some rows of the whole."""
        fields = (self.student, self.teacher, self.soft, self.hard, self.gradient)
        student, teacher, soft, hard, gradient = (None if field is None else field[rows] for field in fields)
        shares = tuple(share[rows] if isinstance(share, Tensor) else share for share in self.shares)
        return _Chunk(student, teacher, rows, shares, soft, hard, gradient)  # pyright: ignore[reportArgumentType]


def _closed_form(chunk: _Chunk, plan: RowsPlan, buffers: tuple[Tensor, ...]) -> bool:
    """Forward KL and cross-entropy of a chunk; False when a value is not finite, and then nothing was written."""
    a, b, c, *upcast = (buffer[: len(chunk.student)] for buffer in buffers)
    t_s, t_t = chunk.of(plan.student_temperature), chunk.of(plan.teacher_temperature)
    compensation = chunk.of(plan.compensation)
    s, t = (x if x is None or x.dtype == plan.dtype else upcast.pop().copy_(x) for x in (chunk.student, chunk.teacher))
    if s is None or t is None:
        return False
    max_s = s.amax(-1, keepdim=True)
    _scaled(s, max_s, t_s, out=a)
    _scaled(t, t.amax(-1, keepdim=True), t_t, out=b)
    torch.sub(b, a, out=c)
    a.exp2_()
    b.exp2_()
    sum_a, sum_b = a.sum(-1, keepdim=True), b.sum(-1, keepdim=True)
    kl = (c.mul_(b).sum(-1, keepdim=True) / sum_b).mul_(1 / LOG2_E).add_((sum_a / sum_b).log_())
    cross_entropy = labels = sum_1 = None
    if plan.labels is not None:
        labels = chunk.of(plan.labels).unsqueeze(-1)
        sum_1 = _at_one(s, max_s, a, sum_a, c, t_s)
        picked = s.gather(-1, labels)
        if plan.label_smoothing:
            picked = picked * (1 - plan.label_smoothing) + plan.label_smoothing * s.mean(-1, keepdim=True)
        cross_entropy = (max_s - picked).add_(sum_1.log())
    total = kl if cross_entropy is None else kl + cross_entropy
    if not math.isfinite(total.sum().item()):
        return False
    torch.mul(kl, compensation, out=chunk.soft.unsqueeze(-1))
    if cross_entropy is not None:
        chunk.hard.copy_(cross_entropy.squeeze(-1))
        if plan.labelled is not None:
            chunk.hard.masked_fill_(~chunk.of(plan.labelled), 0.0)
    if chunk.gradient is None:
        return True
    pull, push = chunk.shares[0] * (compensation / t_s), chunk.shares[1]
    if labels is not None and plan.labelled is not None:
        push = push * chunk.of(plan.labelled).unsqueeze(-1).to(plan.dtype)
    if labels is None or sum_1 is None:
        a.mul_(pull / sum_a)
    elif sum_1 is sum_a:  # T = 1: both terms pull at the same softmax
        a.mul_((pull + push) / sum_a)
    else:
        a.mul_(pull / sum_a).addcmul_(c, push / sum_1)
    target = chunk.gradient if chunk.gradient.dtype == plan.dtype else a
    torch.addcmul(a, b, -pull / sum_b, out=target)
    if labels is not None:
        if plan.label_smoothing:
            target.sub_(push * (plan.label_smoothing / s.shape[-1]))
        pulled = -push * (1 - plan.label_smoothing)
        if isinstance(pulled, Tensor):
            target.scatter_add_(-1, labels, pulled.expand(labels.shape))
        else:
            target.scatter_(-1, labels, pulled, reduce="add")
    if target is not chunk.gradient:
        chunk.gradient.copy_(target)
    return True


def _scaled(x: Tensor, maximum: Tensor, temperature: Tensor | float, out: Tensor) -> None:
    """(x - max x) log2(e) / T in one pass."""
    factor = LOG2_E / temperature
    if isinstance(factor, Tensor):
        torch.addcmul(maximum * -factor, x, factor, out=out)
    else:
        torch.add(maximum * -factor, x, alpha=factor, out=out)


def _at_one(s: Tensor, max_s: Tensor, a: Tensor, sum_a: Tensor, out: Tensor, temperature: Tensor | float) -> Tensor:
    """exp(s - max s) into ``out``, a power of ``a`` = exp((s - max s) / T) where T is a small integer; its row sums.

    For T = 1 that is ``a`` itself, and ``sum_a`` is returned.
    """
    power = temperature if isinstance(temperature, float) else None
    if power == 1:
        return sum_a
    if power in (2, 3, 4):
        torch.mul(a, a, out=out)
        if power != 2:
            out.mul_(out if power == 4 else a)
    else:
        _scaled(s, max_s, 1.0, out=out)
        out.exp2_()
    return out.sum(-1, keepdim=True)


def _exactly(chunk: _Chunk, plan: RowsPlan) -> None:
    """A chunk by the functions that were handed down, with autograd for its gradient."""
    with torch.enable_grad():
        leaf = chunk.student.detach().to(plan.dtype).requires_grad_(chunk.gradient is not None)
        terms = []
        values = plan.exact(leaf, chunk.teacher, chunk.rows or slice(None))
        for value, share, into in zip(values, chunk.shares, (chunk.soft, chunk.hard), strict=True):
            if value is None:
                continue
            into.copy_(value.detach())
            # A term without a share is left out, not multiplied by 0: its gradient may be infinite.
            if chunk.gradient is not None and (bool((share != 0).any()) if isinstance(share, Tensor) else share != 0):
                terms.append((value.unsqueeze(-1) * share).sum())
        if terms and chunk.gradient is not None:
            chunk.gradient.copy_(torch.autograd.grad(sum(terms[1:], terms[0]), leaf)[0])
        elif chunk.gradient is not None:
            chunk.gradient.zero_()

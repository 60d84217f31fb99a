r"""The loss on the CPU: a few rows at a time, so that everything but the logits stays in cache.

Written one operation after the other, the loss walks through memory some forty times and keeps five tensors of the
logits' size for the backward pass. Here each chunk of rows is read once, and its gradient is written once. For forward KL:

    A = 2^((s - max s) log2(e) / T),  B = 2^((t - max t) log2(e) / T)      one exponential for each distribution
    KL = sum B ((t - max t) - (s - max s)) / (T sum B) - log sum B + log sum A
    softmax(s) comes from A^T when T is 1, 2, 3 or 4, else from a third exponential
    gradient = alpha C/T (A / sum A - B / sum B) + (1 - alpha) (softmax(s) - onehot(y))

Every other divergence with a closed ``form``, and calls so small that the number of operations decides, go by

    a = log_softmax(s / T),  b = log_softmax(t / T),  terms, psi = form(b - a, e^a, e^b)
    D = sum terms,  dD/ds = (psi - e^a sum psi) / T

Whatever has no closed form (other divergences, class weights, columns of -inf, NaN) is computed for its chunk by the
functions that are handed down: the reference, on rows that are in cache.
"""

from __future__ import annotations

import math
import threading
from typing import Any, NamedTuple

import torch
from torch import Tensor

from limbeck.kernels.call import Plan, Shares, columns_of, for_rows, part_of

CHUNK_ELEMENTS = 1 << 19
"""Logits in a chunk: three buffers of 2 MB in float32."""
SMALL = 1 << 14
"""Logits in a call below which fewer operations are better than fewer passes."""
LOG2_E = math.log2(math.e)
Buffer = Any
"""A tensor to write to; None takes new memory, which is quicker where there is little to write."""


def sweep(
    student: Tensor, teacher: Tensor | None, plan: Plan, shares: Shares, gradient: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Soft and hard values of every row; their gradients, in the given shares, into ``gradient``: see ``plan.Sweep``."""
    count, classes = student.shape
    soft, hard = student.new_zeros(2, count, dtype=plan.dtype)
    # As many rows for one thread as for another.
    threads = torch.get_num_threads()
    few_passes = plan.forward_kl and teacher is not None and count * classes > SMALL
    elements = CHUNK_ELEMENTS if few_passes else CHUNK_ELEMENTS // 2  # a form has more intermediate results
    size = threads * max(1, round(elements / (max(1, classes) * threads)))
    buffers: tuple[Buffer, ...] = (None,) * 7
    if plan.closed and count * classes > SMALL:
        upcast = (student.dtype != plan.dtype) + (teacher is not None and teacher.dtype != plan.dtype)
        buffers = workspace((3 if few_passes else 5) + upcast, min(size, count), classes, plan.dtype, student.device)
    whole = _Chunk(student, teacher, None, columns_of(shares), soft, hard, gradient)
    for start in range(0, count, size):
        chunk = whole if count <= size else whole.part(slice(start, min(count, start + size)))
        if len(chunk.student) < size and count > size:
            buffers = tuple(None if buffer is None else buffer[: len(chunk.student)] for buffer in buffers)
        if not (plan.closed and (_forward_kl if few_passes else _by_form)(chunk, plan, *buffers)):
            _exactly(chunk, plan)
    return soft, hard


def exact_sweep(
    student: Tensor, teacher: Tensor | None, plan: Plan, shares: Shares, gradient: Tensor | None
) -> tuple[Tensor, Tensor]:
    """``sweep`` by the reference alone, in one chunk."""
    soft, hard = student.new_zeros(2, len(student), dtype=plan.dtype)
    _exactly(_Chunk(student, teacher, None, columns_of(shares), soft, hard, gradient), plan)
    return soft, hard


_kept = threading.local()


def workspace(count: int, rows: int, classes: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, ...]:
    """Buffers of shape (rows, classes). On a CPU this thread keeps the memory: fresh memory costs more than the arithmetic."""
    numel = count * rows * classes
    kept = getattr(_kept, "memory", None) if device.type == "cpu" else None
    if kept is None or kept.dtype != dtype or len(kept) < numel:
        kept = torch.empty(numel, dtype=dtype, device=device)
        if device.type == "cpu" and numel <= 8 * CHUNK_ELEMENTS:
            _kept.memory = kept
    return kept[:numel].view(count, rows, classes).unbind()


class _Chunk(NamedTuple):
    student: Tensor
    teacher: Tensor | None
    rows: slice | None
    """Which rows of the call; None when they are all."""
    shares: Shares
    """One number, or (n, 1)."""
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
        return _Chunk(student, teacher, rows, part_of(self.shares, rows), soft, hard, gradient)  # pyright: ignore[reportArgumentType]


def _by_form(
    chunk: _Chunk, plan: Plan, a: Buffer, b: Buffer, d: Buffer, p: Buffer, scaled: Buffer, *upcast: Buffer
) -> bool:
    """Any divergence with a closed form; False when a value is not finite, and then nothing was written."""
    t_s, t_t = chunk.of(plan.student_temperature), chunk.of(plan.teacher_temperature)
    s, t = _upcast(chunk, plan, upcast)
    divergence = cross_entropy = slope = target = None
    if plan.labels is not None:
        p = torch.log_softmax(s, -1, out=p)
        cross_entropy = _cross_entropy(chunk, plan, p)
    if t is not None:
        if plan.measure.on_logits:  # on the logits themselves, as if all classes were equally likely
            d = torch.sub(t, s, out=d)
            p_s = p_t = 1 / s.shape[-1]
            if plan.measure.share:
                d.sub_(d.mean(-1, keepdim=True))
        else:
            a = torch.log_softmax(_over(s, t_s, scaled), -1, out=a)
            b = torch.log_softmax(_over(t, t_t, scaled), -1, out=b)
            d = torch.sub(b, a, out=d)
            p_s, p_t = a.mul_(LOG2_E).exp2_(), b.mul_(LOG2_E).exp2_()
        terms, slope = plan.measure.form(d, p_s, p_t, plan.measure.share)
        divergence = terms.sum(-1)
    if not _store(chunk, plan, divergence, cross_entropy):
        return False
    if chunk.gradient is None:
        return True
    if slope is not None and plan.measure.on_logits:
        target = slope.mul_(chunk.shares[0] * chunk.of(plan.compensation))
    elif slope is not None and a is not None:
        pull = chunk.shares[0] * (chunk.of(plan.compensation) / t_s)
        target = torch.addcmul(slope, a, slope.sum(-1, keepdim=True), value=-1, out=b).mul_(pull)
    if plan.labels is not None and p is not None:
        push = _push(chunk, plan)
        p.mul_(LOG2_E).exp2_()
        if target is None:
            target = p.mul_(push)
        elif isinstance(push, Tensor):
            target.addcmul_(p, push)
        else:
            target.add_(p, alpha=push)
        _pull_at_labels(target, chunk, plan, push)
    assert target is not None
    chunk.gradient.copy_(target)
    return True


def _forward_kl(chunk: _Chunk, plan: Plan, a: Tensor, b: Tensor, c: Tensor, *upcast: Tensor) -> bool:
    """Forward KL in the fewest passes; False when a value is not finite, and then nothing was written."""
    t_s, t_t = chunk.of(plan.student_temperature), chunk.of(plan.teacher_temperature)
    compensation = chunk.of(plan.compensation)
    s, t = _upcast(chunk, plan, upcast)
    assert t is not None
    max_s = s.amax(-1, keepdim=True)
    _scaled(s, max_s, t_s, out=a)
    _scaled(t, t.amax(-1, keepdim=True), t_t, out=b)
    torch.sub(b, a, out=c)
    a.exp2_()
    b.exp2_()
    sum_a, sum_b = a.sum(-1, keepdim=True), b.sum(-1, keepdim=True)
    kl = (c.mul_(b).sum(-1, keepdim=True) / sum_b).mul_(1 / LOG2_E).add_((sum_a / sum_b).log_())
    cross_entropy = sum_1 = None
    if plan.labels is not None:
        sum_1 = _at_one(s, max_s, a, sum_a, c, t_s)
        cross_entropy = _cross_entropy(chunk, plan, s, max_s + sum_1.log())
    if not _store(chunk, plan, kl.squeeze(-1), cross_entropy):
        return False
    if chunk.gradient is None:
        return True
    pull = chunk.shares[0] * (compensation / t_s)
    push = None if sum_1 is None else _push(chunk, plan)
    if push is None or sum_1 is None:
        a.mul_(pull / sum_a)
    elif sum_1 is sum_a:  # T = 1: both terms pull at the same softmax
        a.mul_((pull + push) / sum_a)
    else:
        a.mul_(pull / sum_a).addcmul_(c, push / sum_1)
    target = chunk.gradient if chunk.gradient.dtype == plan.dtype else a
    torch.addcmul(a, b, -pull / sum_b, out=target)
    if push is not None:
        _pull_at_labels(target, chunk, plan, push)
    if target is not chunk.gradient:
        chunk.gradient.copy_(target)
    return True


def _upcast(chunk: _Chunk, plan: Plan, buffers: tuple[Buffer, ...]) -> tuple[Tensor, Tensor | None]:
    """Both logits in the dtype of the arithmetic, copied where they are not."""
    s, t = chunk.student, chunk.teacher
    if s.dtype != plan.dtype:
        s = s.to(plan.dtype) if buffers[-1] is None else buffers[-1].copy_(s)
    if t is not None and t.dtype != plan.dtype:
        t = t.to(plan.dtype) if buffers[0] is None else buffers[0].copy_(t)
    return s, t


def _store(chunk: _Chunk, plan: Plan, divergence: Tensor | None, cross_entropy: Tensor | None) -> bool:
    """C(T) D and CE of the chunk's rows, when all of them are finite."""
    terms = [term for term in (divergence, cross_entropy) if term is not None]
    total = terms[0] if len(terms) == 1 else terms[0] + terms[1]
    if not math.isfinite(total.sum().item()):
        return False
    if divergence is not None:
        torch.mul(divergence, for_rows(chunk.of(plan.compensation)), out=chunk.soft)
    if cross_entropy is not None:
        chunk.hard.copy_(cross_entropy)
        if plan.labelled is not None:
            chunk.hard.masked_fill_(~chunk.of(plan.labelled), 0.0)
    return True


def _cross_entropy(chunk: _Chunk, plan: Plan, logits: Tensor, log_sum: Tensor | float = 0.0) -> Tensor:
    """``log_sum`` less the label's logit, (n,), with smoothing."""
    labels = chunk.of(plan.labels).unsqueeze(-1)
    picked = logits.gather(-1, labels)
    if plan.label_smoothing:
        picked = picked * (1 - plan.label_smoothing) + plan.label_smoothing * logits.mean(-1, keepdim=True)
    return (log_sum - picked).squeeze(-1)


def _push(chunk: _Chunk, plan: Plan) -> Tensor | float:
    """The share of the hard term: one number, or (n, 1) with 0 where there is no label."""
    if plan.labelled is None:
        return chunk.shares[1]
    return chunk.of(plan.labelled).unsqueeze(-1).to(plan.dtype) * chunk.shares[1]


def _pull_at_labels(target: Tensor, chunk: _Chunk, plan: Plan, push: Tensor | float) -> None:
    """Take ``push`` times the smoothed one-hot of the labels from the gradient."""
    labels = chunk.of(plan.labels).unsqueeze(-1)
    if plan.label_smoothing:
        target.sub_(push * (plan.label_smoothing / target.shape[-1]))
    pulled = -push * (1 - plan.label_smoothing)
    if isinstance(pulled, Tensor):
        target.scatter_add_(-1, labels, pulled.expand(labels.shape))
    else:
        target.scatter_(-1, labels, pulled, reduce="add")


def _over(logits: Tensor, temperature: Tensor | float, out: Tensor) -> Tensor:
    if isinstance(temperature, float):
        return logits if temperature == 1 else torch.mul(logits, 1 / temperature, out=out)
    return torch.div(logits, temperature, out=out)


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


def _exactly(chunk: _Chunk, plan: Plan) -> None:
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

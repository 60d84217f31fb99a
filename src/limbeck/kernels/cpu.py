r"""The loss on the CPU: a few rows at a time, so that everything but the logits stays in cache.

Written one operation after the other, the loss walks through memory some forty times and keeps five tensors of the
logits' size for the backward pass. Here each chunk of rows is read once, and its gradient is written once. For forward KL:

    A = 2^((s - max s) log2(e) / T),  B = 2^((t - max t) log2(e) / T)      one exponential for each distribution
    KL = sum B ((t - max t) - (s - max s)) / (T sum B) - log sum B + log sum A
    softmax(s) comes from A^T when T is 1, 2, 3 or 4, else from a third exponential
    gradient = alpha C/T (A / sum A - B / sum B) + (1 - alpha) (softmax(s) - onehot(y))

Every other divergence that has ``terms_and_slopes``, and calls so small that the number of operations decides, are computed by

    a = log_softmax(s / T),  b = log_softmax(t / T),  terms, slopes = terms_and_slopes(b - a, e^a, e^b, parameters)
    D = sum terms,  dD/ds = (slope - e^a sum slope) / T

A chunk without a closed form (another divergence, class weights, columns of -inf, NaN) is computed by the reference, which is
handed down: its rows are in cache too.
"""

from __future__ import annotations

import math
import threading
from typing import Any, NamedTuple

import torch
from torch import Tensor

from limbeck.kernels.call import GradientScales, LossCall, column_as_rows, scales_as_columns, scales_of_rows
from limbeck.kernels.cross_entropy import cross_entropy_of_finite, subtract_targets, zero_without_label
from limbeck.kernels.sequences import by_sequences

CHUNK_ELEMENTS = 1 << 19
"""Logits in a chunk: three buffers of 2 MB in float32."""
SMALL = 1 << 14
"""Logits in a call below which fewer operations are better than fewer passes."""
LOG2_E = math.log2(math.e)
Buffer = Any
"""A tensor to write to; None takes new memory, which is faster where there is little to write."""


@by_sequences(CHUNK_ELEMENTS)
def row_kernel(
    student: Tensor, teacher: Tensor | None, call: LossCall, scales: GradientScales, gradient: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return the soft and hard values of all rows, and write their scaled gradient; see ``call.RowKernel``."""
    count, classes = student.shape
    soft, hard = student.new_zeros(2, count, dtype=call.dtype)
    threads = torch.get_num_threads()
    closed = call.has_closed_form
    few_passes = call.is_forward_kl and teacher is not None and count * classes > SMALL
    elements = CHUNK_ELEMENTS if few_passes else CHUNK_ELEMENTS // 2  # terms and slopes need more intermediate results
    size = threads * max(1, round(elements / (max(1, classes) * threads)))  # a multiple, so that threads get equal work
    buffers: tuple[Buffer, ...] = (None,) * 7
    if closed and count * classes > SMALL:
        upcast = (student.dtype != call.dtype) + (teacher is not None and teacher.dtype != call.dtype)
        buffers = workspace((3 if few_passes else 5) + upcast, min(size, count), classes, call.dtype, student.device)
    whole = _Chunk(student, teacher, None, scales_as_columns(scales), soft, hard, gradient)
    for start in range(0, count, size):
        chunk = whole if count <= size else whole.part(slice(start, min(count, start + size)))
        if len(chunk.student) < size and count > size:
            buffers = tuple(None if buffer is None else buffer[: len(chunk.student)] for buffer in buffers)
        if not (closed and (_forward_kl if few_passes else _terms_and_slopes)(chunk, call, *buffers)):
            _by_reference(chunk, call)
    return soft, hard


def reference_row_kernel(
    student: Tensor, teacher: Tensor | None, call: LossCall, scales: GradientScales, gradient: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return the same as ``row_kernel``, computed by the reference alone and in one chunk; see ``call.RowKernel``."""
    soft, hard = student.new_zeros(2, len(student), dtype=call.dtype)
    _by_reference(_Chunk(student, teacher, None, scales_as_columns(scales), soft, hard, gradient), call)
    return soft, hard


_kept = threading.local()


def workspace(count: int, rows: int, classes: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, ...]:
    """Return buffers of shape (rows, classes).

    On a CPU this thread keeps the memory, because to take fresh memory costs more than the arithmetic. Memory that belongs to
    a mode, as that of ``torch.inference_mode()`` or ``FakeTensorMode`` does, is not kept, and such a mode is not given any.

    Args:
        count: how many buffers.
        rows: the rows of each buffer.
        classes: the columns of each buffer.
        dtype: the dtype of the arithmetic.
        device: the device of the logits.
    """
    numel = count * rows * classes
    with torch.inference_mode(False):  # a tensor of inference mode could not be written to outside of it
        keeps = device.type == "cpu" and type(torch.empty(0, device=device)) is Tensor
        kept = getattr(_kept, "memory", None) if keeps else None
        if kept is None or kept.dtype != dtype or len(kept) < numel:
            kept = torch.empty(numel, dtype=dtype, device=device)
            if keeps and numel <= 8 * CHUNK_ELEMENTS:
                _kept.memory = kept
    return kept[:numel].view(count, rows, classes).unbind()


class _Chunk(NamedTuple):
    """Some rows of a call, and where their results go."""

    student: Tensor
    teacher: Tensor | None
    rows: slice | None
    """Which rows of the call; None for all of them."""
    scales: GradientScales
    """One number, or (n, 1)."""
    soft: Tensor
    """(n,), to be filled."""
    hard: Tensor
    gradient: Tensor | None
    """(n, V), to be filled; it may be the student."""

    def of(self, value: Any) -> Any:
        """Return the chunk's part of a value that is one number for all rows or one for each."""
        return value[self.rows] if self.rows is not None and isinstance(value, Tensor) else value

    def part(self, rows: slice) -> _Chunk:
        """Return some rows of the whole."""
        fields = (self.student, self.teacher, self.soft, self.hard, self.gradient)
        student, teacher, soft, hard, gradient = (None if field is None else field[rows] for field in fields)
        return _Chunk(student, teacher, rows, scales_of_rows(self.scales, rows), soft, hard, gradient)  # pyright: ignore[reportArgumentType]


def _terms_and_slopes(
    chunk: _Chunk, call: LossCall, a: Buffer, b: Buffer, d: Buffer, p: Buffer, scaled: Buffer, *upcast: Buffer
) -> bool:
    """Compute any divergence that has terms and slopes; return False, with nothing written, if a value is not finite."""
    t_s, t_t = chunk.of(call.student_temperature), chunk.of(call.teacher_temperature)
    s, t = _upcast(chunk, call, upcast)
    divergence, value, cross_entropy, slopes, target = call.divergence, None, None, None, None
    if call.labels is not None:
        p = torch.log_softmax(s, -1, out=p)
        cross_entropy = _cross_entropy(chunk, call, p)
    if t is not None:
        if divergence.on_logits:
            d = torch.sub(t, s, out=d)
            p_s = p_t = 1 / s.shape[-1]
            if divergence.is_centred:
                d.sub_(d.mean(-1, keepdim=True))
        else:
            a = torch.log_softmax(_over(s, t_s, scaled), -1, out=a)
            b = torch.log_softmax(_over(t, t_t, scaled), -1, out=b)
            d = torch.sub(b, a, out=d)
            p_s, p_t = a.mul_(LOG2_E).exp2_(), b.mul_(LOG2_E).exp2_()
        terms, slopes = divergence.terms_and_slopes(d, p_s, p_t, *divergence.parameter_values)
        value = terms.sum(-1)
    if not _store(chunk, call, value, cross_entropy):
        return False
    if chunk.gradient is None:
        return True
    if slopes is not None and divergence.on_logits:
        target = slopes.mul_(chunk.scales[0] * chunk.of(call.compensation))
    elif slopes is not None and a is not None:
        soft_scale = chunk.scales[0] * (chunk.of(call.compensation) / t_s)
        target = torch.addcmul(slopes, a, slopes.sum(-1, keepdim=True), value=-1, out=b).mul_(soft_scale)
    if call.labels is not None and p is not None:
        hard_scale = _hard_scale(chunk, call)
        p.mul_(LOG2_E).exp2_()
        if target is None:
            target = p.mul_(hard_scale)
        elif isinstance(hard_scale, Tensor):
            target.addcmul_(p, hard_scale)
        else:
            target.add_(p, alpha=hard_scale)
        _subtract_labels(target, chunk, call, hard_scale)
    assert target is not None
    chunk.gradient.copy_(target)
    return True


def _forward_kl(chunk: _Chunk, call: LossCall, a: Tensor, b: Tensor, c: Tensor, *upcast: Tensor) -> bool:
    """Compute forward KL in the fewest passes; return False, with nothing written, if a value is not finite."""
    t_s, t_t = chunk.of(call.student_temperature), chunk.of(call.teacher_temperature)
    compensation = chunk.of(call.compensation)
    s, t = _upcast(chunk, call, upcast)
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
    if call.labels is not None:
        sum_1 = _at_one(s, max_s, a, sum_a, c, t_s)
        cross_entropy = _cross_entropy(chunk, call, s, max_s + sum_1.log())
    if not _store(chunk, call, kl.squeeze(-1), cross_entropy):
        return False
    if chunk.gradient is None:
        return True
    soft_scale = chunk.scales[0] * (compensation / t_s)
    hard_scale = None if sum_1 is None else _hard_scale(chunk, call)
    if hard_scale is None or sum_1 is None:
        a.mul_(soft_scale / sum_a)
    elif sum_1 is sum_a:  # at T = 1 both terms pull at the same softmax
        a.mul_((soft_scale + hard_scale) / sum_a)
    else:
        a.mul_(soft_scale / sum_a).addcmul_(c, hard_scale / sum_1)
    target = chunk.gradient if chunk.gradient.dtype == call.dtype else a
    torch.addcmul(a, b, -soft_scale / sum_b, out=target)
    if hard_scale is not None:
        _subtract_labels(target, chunk, call, hard_scale)
    if target is not chunk.gradient:
        chunk.gradient.copy_(target)
    return True


def _upcast(chunk: _Chunk, call: LossCall, buffers: tuple[Buffer, ...]) -> tuple[Tensor, Tensor | None]:
    """Return both logits in the dtype of the arithmetic, copied where they have another."""
    s, t = chunk.student, chunk.teacher
    if s.dtype != call.dtype:
        s = s.to(call.dtype) if buffers[-1] is None else buffers[-1].copy_(s)
    if t is not None and t.dtype != call.dtype:
        t = t.to(call.dtype) if buffers[0] is None else buffers[0].copy_(t)
    return s, t


def _store(chunk: _Chunk, call: LossCall, divergence: Tensor | None, cross_entropy: Tensor | None) -> bool:
    """Write C(T) D and CE of the chunk's rows and return True; return False, with nothing written, if one is not finite."""
    terms = [term for term in (divergence, cross_entropy) if term is not None]
    total = terms[0] if len(terms) == 1 else terms[0] + terms[1]
    if not math.isfinite(total.sum().item()):
        return False
    if divergence is not None:
        torch.mul(divergence, column_as_rows(chunk.of(call.compensation)), out=chunk.soft)
    if cross_entropy is not None:
        chunk.hard.copy_(cross_entropy)
        if call.labelled is not None:
            chunk.hard.masked_fill_(~chunk.of(call.labelled), 0.0)
    return True


def _cross_entropy(chunk: _Chunk, call: LossCall, logits: Tensor, log_sum: Tensor | float = 0.0) -> Tensor:
    """Return CE of the chunk's rows, (n,)."""
    return cross_entropy_of_finite(logits, chunk.of(call.labels).unsqueeze(-1), log_sum, call.label_smoothing)


def _hard_scale(chunk: _Chunk, call: LossCall) -> Tensor | float:
    """Return the scale of the hard gradient: a number, or (n, 1) with 0 where there is no label."""
    return zero_without_label(chunk.scales[1], chunk.of(call.labelled), call.dtype)


def _subtract_labels(target: Tensor, chunk: _Chunk, call: LossCall, hard_scale: Tensor | float) -> None:
    """Take the scaled, smoothed one-hot of the labels from the gradient."""
    eps, labels = call.label_smoothing, chunk.of(call.labels).unsqueeze(-1)
    everywhere = hard_scale * (eps / target.shape[-1]) if eps else None
    subtract_targets(target, labels, hard_scale * (1 - eps), everywhere)


def _over(logits: Tensor, temperature: Tensor | float, out: Tensor) -> Tensor:
    """Return the logits over T: themselves at T = 1, else in ``out``."""
    if isinstance(temperature, float):
        return logits if temperature == 1 else torch.mul(logits, 1 / temperature, out=out)
    return torch.div(logits, temperature, out=out)


def _scaled(x: Tensor, maximum: Tensor, temperature: Tensor | float, out: Tensor) -> None:
    """Write (x - max x) log2(e) / T into ``out`` in one pass."""
    factor = LOG2_E / temperature
    if isinstance(factor, Tensor):
        torch.addcmul(maximum * -factor, x, factor, out=out)
    else:
        torch.add(maximum * -factor, x, alpha=factor, out=out)


def _at_one(s: Tensor, max_s: Tensor, a: Tensor, sum_a: Tensor, out: Tensor, temperature: Tensor | float) -> Tensor:
    """Write exp(s - max s) into ``out`` and return its row sums.

    It is a power of ``a`` = exp((s - max s) / T) if T is a small integer. At T = 1 it is ``a`` itself: nothing is written, and
    ``sum_a`` is returned.
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


def _by_reference(chunk: _Chunk, call: LossCall) -> None:
    """Compute a chunk by the reference, with autograd for its gradient."""
    if chunk.rows is not None:
        call = call.part(chunk.rows)
    with torch.enable_grad():
        leaf = chunk.student.detach().to(call.dtype).requires_grad_(chunk.gradient is not None)
        terms = []
        values = call.reference_rows(call, leaf, chunk.teacher)
        for value, scale, into in zip(values, chunk.scales, (chunk.soft, chunk.hard), strict=True):
            if value is None:
                continue
            into.copy_(value.detach())
            # A term with a scale of 0 is left out and not multiplied by 0, because its gradient may be infinite.
            if chunk.gradient is not None and (bool((scale != 0).any()) if isinstance(scale, Tensor) else scale != 0):
                terms.append((value.unsqueeze(-1) * scale).sum())
        if terms and chunk.gradient is not None:
            chunk.gradient.copy_(torch.autograd.grad(sum(terms[1:], terms[0]), leaf)[0])
        elif chunk.gradient is not None:
            chunk.gradient.zero_()

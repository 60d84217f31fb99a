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

A chunk without a closed form (another divergence, class weights, classes that one model lacks, NaN) is computed by the
reference, which is handed down: its rows are in cache too. Rows whose value is small are computed again with all their digits
(``close_rows``).
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from limbeck.kernels.call import GradientScales, LossCall, column_as_rows, scales_as_columns
from limbeck.kernels.chunk import Chunk
from limbeck.kernels.close_rows import Plain, Short, short_forward_kl, short_log_ratio, written_with
from limbeck.kernels.cross_entropy import cross_entropy_of_finite, mass_of_labels, subtract_targets, zero_without_label
from limbeck.kernels.sequences import by_sequences

CHUNK_ELEMENTS = 1 << 19
"""Logits in a chunk: four buffers of 2 MB in float32."""
SMALL = 1 << 14
"""Logits in a call below which fewer operations are better than fewer passes."""
LOWEST = -1e30
"""A log-probability in the place of -inf, so that the difference of two is a number."""
LOG2_E = math.log2(math.e)
_NONE = torch.zeros(0, dtype=torch.long)
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
        buffers = workspace((4 if few_passes else 5) + upcast, min(size, count), classes, call.dtype, student.device)
    whole = Chunk(student, teacher, None, scales_as_columns(scales), soft, hard, gradient)
    kernel, digits = _forward_kl if few_passes else _terms_and_slopes, False
    for start in range(0, count, size):
        chunk = whole if count <= size else whole.part(slice(start, min(count, start + size)))
        buffers = _first_rows(buffers, len(chunk.student))
        write = kernel(chunk, call, *buffers, digits=digits) if closed else None
        close = _NONE if write is None or digits else _close_rows(chunk, call)
        if 2 * len(close) > len(chunk.student):
            digits = True  # the next chunk of a batch is mostly like this one
            write = kernel(chunk, call, *buffers, digits=True)
        if write is None:
            _by_reference(chunk, call)
        elif digits:
            write()
            digits = 2 * len(_close_rows(chunk, call)) > len(chunk.student)
        elif not len(close):
            write()
        else:
            part = chunk.copies(close)  # the gradient may overwrite the logits
            write()
            again = kernel(part, call.part(close + start), *_first_rows(buffers, len(close)), digits=True)
            again() if again is not None else _by_reference(part, call.part(close + start))
            chunk.put(close, part)
    return soft, hard


def _first_rows(buffers: tuple[Buffer, ...], rows: int) -> tuple[Buffer, ...]:
    """Return the first rows of every buffer."""
    return tuple(x if x is None or len(x) == rows else x[:rows] for x in buffers)


def _close_rows(chunk: Chunk, call: LossCall) -> Tensor:
    """Return the indices of the chunk's rows that need more digits."""
    if chunk.teacher is None or call.divergence.on_logits:
        return _NONE
    close = chunk.soft < column_as_rows(chunk.of(call.compensation)) * call.divergence.digits_lost_below
    return close.nonzero().squeeze(-1) if close.any() else _NONE


def reference_row_kernel(
    student: Tensor, teacher: Tensor | None, call: LossCall, scales: GradientScales, gradient: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return the same as ``row_kernel``, computed by the reference alone and in one chunk; see ``call.RowKernel``."""
    soft, hard = student.new_zeros(2, len(student), dtype=call.dtype)
    _by_reference(Chunk(student, teacher, None, scales_as_columns(scales), soft, hard, gradient), call)
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


def _terms_and_slopes(
    chunk: Chunk,
    call: LossCall,
    a: Buffer,
    b: Buffer,
    d: Buffer,
    p: Buffer,
    scaled: Buffer,
    *upcast: Buffer,
    digits: bool,
) -> Callable[[], None] | None:
    """Compute any divergence that has terms and slopes, as ``_forward_kl`` does."""
    t_s, t_t = chunk.of(call.student_temperature), chunk.of(call.teacher_temperature)
    s, t = _upcast(chunk, call, upcast)
    divergence, functions, value, cross_entropy, slopes = call.divergence, Plain, None, None, None
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
            near, p_s = None, a
            if digits and _is_one_temperature(t_s, t_t):
                p_s = torch.mul(a, LOG2_E, out=scaled).exp2_()
                near = short_log_ratio(s, t, t_s, p_s, d, b)
            if near is not None:
                a, (d, p_t), functions = p_s, near, Short
            else:
                b = torch.log_softmax(_over(t, t_t, scaled), -1, out=b)
                if lacks_classes := _lacks_classes(s):
                    a.clamp_(min=LOWEST)
                    b.clamp_(min=LOWEST)
                d = torch.sub(b, a, out=d)
                if lacks_classes and not (d.amax() < -LOWEST / 2 and d.amin() > LOWEST / 2):  # one model lacks a class
                    return None
                p_s, p_t = a.mul_(LOG2_E).exp2_(), b.mul_(LOG2_E).exp2_()
                if digits:
                    d, functions = divergence.log_ratio(s, t, t_s, t_t, p_s, d), None
        function = divergence.terms_and_slopes
        if functions is not None:
            function = written_with(function, functions)
        terms, slopes = function(d, p_s, p_t, *divergence.parameter_values)
        value = terms.sum(-1)
    if not _store(chunk, call, value, cross_entropy):
        return None
    return partial(_write_gradient, chunk, call, slopes, a, b, p)


def _write_gradient(
    chunk: Chunk, call: LossCall, slopes: Tensor | None, a: Tensor | None, b: Buffer, p: Tensor | None
) -> None:
    """Write the gradient from the slopes, the student's probabilities ``a`` at T and log-probabilities ``p`` at 1."""
    if chunk.gradient is None:
        return
    target, t_s = None, chunk.of(call.student_temperature)
    if slopes is not None and call.divergence.on_logits:
        target = slopes.mul_(chunk.scales[0] * chunk.of(call.compensation))
    elif slopes is not None and a is not None:
        soft_scale = chunk.scales[0] * (chunk.of(call.compensation) / t_s)
        target = torch.addcmul(slopes, a, slopes.sum(-1, keepdim=True), value=-1, out=b).mul_(soft_scale)
    if call.labels is not None and p is not None:
        hard_scale = _hard_scale(chunk, call)
        of_p = hard_scale * mass_of_labels(chunk.labels_of(call), call.label_smoothing)
        p.mul_(LOG2_E).exp2_()
        if target is None:
            target = p.mul_(of_p)
        elif isinstance(of_p, Tensor):
            target.addcmul_(p, of_p)
        else:
            target.add_(p, alpha=of_p)
        _subtract_labels(target, chunk, call, hard_scale)
    assert target is not None
    chunk.gradient.copy_(target)


def _forward_kl(
    chunk: Chunk, call: LossCall, a: Tensor, b: Tensor, c: Tensor, d: Tensor, *upcast: Tensor, digits: bool
) -> Callable[[], None] | None:
    """Compute forward KL in the fewest passes: write the values, and return what writes the gradient.

    Return None, with nothing written, if a value is not finite.
    """
    t_s, t_t = chunk.of(call.student_temperature), chunk.of(call.teacher_temperature)
    s, t = _upcast(chunk, call, upcast)
    assert t is not None
    max_s = s.amax(-1, keepdim=True)
    _scaled(s, max_s, t_s, out=a)
    if digits:
        sum_a = a.exp2_().sum(-1, keepdim=True)
        near = short_forward_kl(s, t, t_s, a, sum_a, b, c, d) if _is_one_temperature(t_s, t_t) else None
        if near is None:
            return _terms_and_slopes(chunk, call, *[None] * 7, digits=True)
        kl, of_a, of_b = near
    else:
        _scaled(t, t.amax(-1, keepdim=True), t_t, out=b)
        if lacks_classes := _lacks_classes(s):
            a.clamp_(min=LOWEST)
            b.clamp_(min=2 * LOWEST)
        torch.sub(b, a, out=c)
        if lacks_classes and not c.amax() < -LOWEST / 2:  # the student alone lacks a class
            return None
        sum_a, sum_b = a.exp2_().sum(-1, keepdim=True), b.exp2_().sum(-1, keepdim=True)
        kl = (c.mul_(b).sum(-1, keepdim=True) / sum_b).mul_(1 / LOG2_E).add_((sum_a / sum_b).log_())
        of_a, of_b = 1 / sum_a, 1 / sum_b
    cross_entropy = of_1 = None
    if call.labels is not None:
        sum_1 = _at_one(s, max_s, a, sum_a, c, t_s)
        cross_entropy = _cross_entropy(chunk, call, s, max_s + sum_1.log())
        of_1 = mass_of_labels(chunk.labels_of(call), call.label_smoothing) / sum_1
    if not _store(chunk, call, kl.squeeze(-1), cross_entropy):
        return None
    return partial(_write_gradient_of_forward_kl, chunk, call, (a, b, c), (of_a, of_b, of_1))


def _write_gradient_of_forward_kl(
    chunk: Chunk, call: LossCall, exponentials: tuple[Tensor, ...], factors: tuple[Tensor, Tensor, Tensor | None]
) -> None:
    """Write the gradient.

    Args:
        chunk: the rows.
        call: the call.
        exponentials: a and b, with p_s - p_t = of_a a - of_b b; and c, with softmax(s) = of_1 c, or of_1 a at T = 1, where
            labels that do not sum to 1 are in of_1.
        factors: of_a, of_b and of_1, (n, 1) each; of_1 is None without labels.
    """
    if chunk.gradient is None:
        return
    (a, b, c), (of_a, of_b, of_1) = exponentials, factors
    t_s = chunk.of(call.student_temperature)
    soft_scale = chunk.scales[0] * (chunk.of(call.compensation) / t_s)
    hard_scale = None if of_1 is None else _hard_scale(chunk, call)
    if hard_scale is None or of_1 is None:
        a.mul_(soft_scale * of_a)
    elif isinstance(t_s, float) and t_s == 1:
        a.mul_(soft_scale * of_a + hard_scale * of_1)
    else:
        a.mul_(soft_scale * of_a).addcmul_(c, hard_scale * of_1)
    target = chunk.gradient if chunk.gradient.dtype == call.dtype else a
    torch.addcmul(a, b, -soft_scale * of_b, out=target)
    if hard_scale is not None:
        _subtract_labels(target, chunk, call, hard_scale)
    if target is not chunk.gradient:
        chunk.gradient.copy_(target)


def _lacks_classes(logits: Tensor) -> bool:
    """Return True if the first row has a logit of -inf, as all rows have where a vocabulary is padded."""
    return logits[0].amin().item() == -math.inf


def _is_one_temperature(t_s: Tensor | float, t_t: Tensor | float) -> bool:
    """Return True if both models are known to have the same temperature."""
    return t_s is t_t or (isinstance(t_s, float) and isinstance(t_t, float) and t_s == t_t)


def _upcast(chunk: Chunk, call: LossCall, buffers: tuple[Buffer, ...]) -> tuple[Tensor, Tensor | None]:
    """Return both logits in the dtype of the arithmetic, copied where they have another."""
    s, t = chunk.student, chunk.teacher
    if s.dtype != call.dtype:
        s = s.to(call.dtype) if buffers[-1] is None else buffers[-1].copy_(s)
    if t is not None and t.dtype != call.dtype:
        t = t.to(call.dtype) if buffers[0] is None else buffers[0].copy_(t)
    return s, t


def _store(chunk: Chunk, call: LossCall, divergence: Tensor | None, cross_entropy: Tensor | None) -> bool:
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


def _cross_entropy(chunk: Chunk, call: LossCall, logits: Tensor, log_sum: Tensor | float = 0.0) -> Tensor:
    """Return CE of the chunk's rows, (n,)."""
    return cross_entropy_of_finite(logits, chunk.labels_of(call), log_sum, call.label_smoothing)


def _hard_scale(chunk: Chunk, call: LossCall) -> Tensor | float:
    """Return the scale of the hard gradient: a number, or (n, 1) with 0 where there is no label."""
    return zero_without_label(chunk.scales[1], chunk.of(call.labelled), call.dtype)


def _subtract_labels(target: Tensor, chunk: Chunk, call: LossCall, hard_scale: Tensor | float) -> None:
    """Take the scaled, smoothed labels from the gradient."""
    eps, labels = call.label_smoothing, chunk.labels_of(call)
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


def _by_reference(chunk: Chunk, call: LossCall) -> None:
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

"""Statistics of each row of logits, which absent classes and positions that do not count cannot reach.

A class is absent from a row when no model can ever choose it: its logit is -inf, or it is padding, which is filled with the
lowest number of its dtype or with a number below -1e30. A position that does not count is treated as a row without any
class, so what its logits hold, NaN too, reaches neither a statistic nor a gradient.

The arithmetic does not depend on a branch on a value, so that it is the same on an accelerator and in compiled code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.compiler import is_compiling as _is_compiling

from limbeck.errors import ArgumentError
from limbeck.losses import IGNORE_INDEX
from limbeck.temperature.policies.base import as_float

ABSENT_BELOW = -1e30
"""A class with this logit or a lower one is absent. No model gives such a logit to a class that it knows."""

BLOCK = 2**16
"""How many logits are worked on at a time on a CPU."""


def is_absent(logits: Tensor) -> Tensor:
    """Return which classes are absent from each row.

    Args:
        logits: (..., V), any floating dtype.

    Returns:
        (..., V) booleans. NaN is not absent, so that a fault of the logits stays visible.
    """
    return logits <= _limit(logits)


def _limit(logits: Tensor) -> float:
    return max(torch.finfo(logits.dtype).min, ABSENT_BELOW)


def counted_positions(logits: Tensor, labels: Tensor | None, mask: Tensor | None) -> Tensor | None:
    """Return the positions that count in the loss, by the same rule as the loss.

    Args:
        logits: (..., V).
        labels: (...,) integers, -100 for a position without a label.
        mask: (...,) booleans. With a mask, the labels do not decide.

    Returns:
        (...,) booleans; None when all positions count.

    Raises:
        ArgumentError: the labels or the mask have another shape than the positions.
    """
    positions = logits.shape[:-1]
    for name, given in (("mask", mask), ("labels", labels)):
        if given is not None:
            if given.shape != positions:
                message = f"expected one for each position of the logits, {tuple(positions)}, got {tuple(given.shape)}."
                raise ArgumentError(name, message)
            return given.bool() if name == "mask" else given.long() != IGNORE_INDEX
    return None


def largest(logits: Tensor, counted: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the largest logit of each row after centering. It has no gradient.

    Args:
        logits: (..., V), any floating dtype.
        counted: (...,) booleans, False at positions that do not count; None when all do.

    Returns:
        The statistic and the number of classes of each row, (...,) both; the number is 0 at a position that does not count.
    """
    found, _, sizes = _of_rows(_largest, logits.detach(), counted)
    return found, sizes


def sharpness(logits: Tensor, counted: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the logsumexp of each row after centering: at least the logarithm of the number of classes.

    Args:
        logits: as in ``largest``.
        counted: as in ``largest``.

    Returns:
        As ``largest``.
    """
    found, _, sizes = _differentiable(_Sharpness, _sharpness, logits, counted)
    return found, sizes


def variance(logits: Tensor, counted: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the variance of each row with the divisor n - 1; it is 0 for a row of one class or none.

    Args:
        logits: as in ``largest``.
        counted: as in ``largest``.

    Returns:
        As ``largest``.
    """
    found, _, sizes = _differentiable(_Variance, _variance, logits, counted)
    return found, sizes


Statistics = tuple[Tensor, Tensor, Tensor]
"""A statistic of each row, the row's mean and its number of classes."""


def _largest(logits: Tensor, absent: Tensor | None) -> Statistics:
    mean, sizes = _mean(logits, absent)
    return _filled(logits, absent, ABSENT_BELOW).amax(-1) - mean, mean, sizes


def _sharpness(logits: Tensor, absent: Tensor | None) -> Statistics:
    mean, sizes = _mean(logits, absent)
    # A row of -inf alone would have NaN as its gradient.
    return _filled(logits, absent, ABSENT_BELOW).logsumexp(-1) - mean, mean, sizes


def _variance(logits: Tensor, absent: Tensor | None) -> Statistics:
    mean, sizes = _mean(logits, absent)
    deviations = _filled(logits - mean.unsqueeze(-1), absent, 0.0)
    return deviations.square().sum(-1) / (sizes - 1).clamp(min=1), mean, sizes


def _mean(logits: Tensor, absent: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the mean of each row, 0 for a row without classes, and its number of classes."""
    sizes = torch.full(logits.shape[:-1], logits.shape[-1], device=logits.device)
    if absent is not None:
        sizes = sizes - absent.sum(-1)
    return _filled(logits, absent, 0.0).sum(-1) / sizes.clamp(min=1), sizes


def _filled(values: Tensor, absent: Tensor | None, fill: float) -> Tensor:
    """Return the values with one number where a class is absent, to which no gradient goes."""
    return values if absent is None else torch.where(absent, fill, values)


def _differentiable(
    function: type[Function], statistic: Callable[..., Statistics], logits: Tensor, counted: Tensor | None
) -> Statistics:
    """Return the statistics of each row, with a gradient. A compiler finds the gradient, and fuses it, by itself."""
    if _is_compiling() or not (logits.requires_grad and torch.is_grad_enabled()):
        return _of_rows(statistic, logits, counted)
    return function.apply(logits, counted)  # pyright: ignore[reportReturnType]


class _Sharpness(Function):
    """The sharpness with a gradient that is computed by blocks of rows: softmax minus 1 / n."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, counted: Tensor | None) -> Statistics:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _forward(ctx, _sharpness, logits, counted)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor, *_: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        def gradient(logits: Tensor, found: Tensor, mean: Tensor, sizes: Tensor) -> Tensor:
            return (logits - (found + mean)).exp_().sub_(1 / sizes.clamp(min=1))

        return _backward(ctx, gradient, upstream), None


class _Variance(Function):
    """The variance with a gradient that is computed by blocks of rows: 2 (z - mean) / (n - 1)."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, counted: Tensor | None) -> Statistics:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _forward(ctx, _variance, logits, counted)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor, *_: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        def gradient(logits: Tensor, _: Tensor, mean: Tensor, sizes: Tensor) -> Tensor:
            return (logits - mean).mul_(2 / (sizes - 1).clamp(min=1))

        return _backward(ctx, gradient, upstream), None


def _forward(ctx: Any, statistic: Callable[..., Statistics], logits: Tensor, counted: Tensor | None) -> Statistics:
    found, mean, sizes = _of_rows(statistic, logits, counted)
    ctx.save_for_backward(logits, counted, found, mean, sizes)
    ctx.mark_non_differentiable(mean, sizes)
    return found, mean, sizes


def _backward(ctx: Any, gradient: Callable[..., Tensor], upstream: Tensor) -> Tensor:
    logits, counted, *statistics = ctx.saved_tensors
    out = torch.empty_like(logits, memory_format=torch.contiguous_format)
    columns = [x.reshape(-1, 1) for x in (*statistics, upstream)]
    rows, start = out.view(-1, logits.shape[-1]), 0
    for block, absent in _blocks(logits, counted):
        part = slice(start, start + len(block))
        found, mean, sizes, factor = (x[part] for x in columns)
        rows[part] = gradient(block, found, mean, sizes).mul_(factor)
        if absent is not None:
            rows[part].masked_fill_(absent, 0.0)
        start += len(block)
    return out


def _of_rows(statistic: Callable[..., Statistics], logits: Tensor, counted: Tensor | None) -> Statistics:
    """Return the statistics of each row, (...,), in the dtype of the arithmetic."""
    parts = [statistic(*block) for block in _blocks(logits, counted)]
    shape = logits.shape[:-1]
    found, mean, sizes = (
        torch.cat(x).reshape(shape) if len(parts) != 1 else x[0].reshape(shape) for x in zip(*parts, strict=True)
    )
    return found, mean, sizes


def _blocks(logits: Tensor, counted: Tensor | None) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Yield blocks of rows (B, V) in the dtype of the arithmetic, with the classes that have no part in them, if any.

    Blocks that stay in the cache, and no masks where none is needed, save most of the time on a CPU. An accelerator and a
    compiler, whose values cannot be read, get one block with a mask.
    """
    readable = logits.device.type == "cpu" and type(logits) in (Tensor, nn.Parameter) and not _is_compiling()
    classes = logits.shape[-1]
    size = max(1, BLOCK // classes) if readable else max(1, logits[..., 0].numel())
    # Shifted logits of a language model are strided between sequences: they are not copied as a whole.
    pieces = logits.unbind(0) if readable and logits.dim() > 2 and not logits.is_contiguous() else [logits]
    flags = None if counted is None else counted.reshape(-1, 1)
    start = 0
    for piece in pieces:
        for block in piece.reshape(-1, classes).split(size):
            own = None if flags is None else flags[start : start + len(block)]
            start += len(block)
            if readable and len(block) and block.amin() > _limit(block) and (own is None or own.all()):
                yield as_float(block), None
                continue
            absent = is_absent(block)
            yield as_float(block), absent if own is None else absent | ~own

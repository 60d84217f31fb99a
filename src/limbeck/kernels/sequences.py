"""Logits (B, L, V) whose sequences do not follow each other in memory, as those that are shifted by ``[:, :-1]``.

They are no matrix of rows with one distance between them, and to make them one would copy both models' logits. The kernels read
them, and write their gradient, where they lie.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec

import torch
from torch import Tensor

from limbeck.kernels.call import GradientScales, LossCall, scales_of_rows

_Arguments = ParamSpec("_Arguments")
Values = tuple[Tensor, Tensor]
"""The soft and the hard values of rows, (N,) each."""


def as_rows(student: Tensor, teacher: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Return both logits (..., V) in one form: as (N, V) where both can be viewed so, else as (B, L, V).

    Args:
        student: logits (..., V).
        teacher: logits of the same shape, or None.

    Returns:
        Views of them; logits that can be viewed in neither form are copied.
    """
    if student.dim() == 2:  # a view that changes nothing would cost a small call a tenth of its time, in the graph too
        return student, teacher
    student, teacher = _least_dimensions(student), None if teacher is None else _least_dimensions(teacher)
    if teacher is None or student.dim() == teacher.dim():
        return student, teacher
    return (student, teacher.view(student.shape)) if student.dim() == 3 else (student.view(teacher.shape), teacher)


def _least_dimensions(logits: Tensor) -> Tensor:
    """Return logits as (N, V), without a copy where possible; as (B, L, V) where only that is without a copy."""
    classes = logits.shape[-1]
    if logits.dim() > 2 and not torch.compiler.is_compiling() and type(logits) in (Tensor, torch.nn.Parameter):
        sequences = logits.flatten(0, -3) if logits.dim() > 3 else logits
        (near, rows), (far, _) = sorted(zip(sequences.stride()[:2], sequences.shape[:2], strict=True))
        count, length, _ = sequences.shape
        is_matrix = sequences.stride(0) == length * sequences.stride(1) or min(count, length) < 2
        if not is_matrix and sequences.stride(2) == 1 and near >= classes and far >= near * rows:
            return sequences
    return logits.reshape(-1, classes)


def by_sequences(elements: int) -> Callable[[Callable[_Arguments, Values]], Callable[_Arguments, Values]]:
    """Return a decorator that lets a kernel for matrices of rows take logits (B, L, V) too, a few sequences at a time.

    Args:
        elements: the logits that may be copied to one matrix. A longer sequence is a matrix by itself, without a copy.
    """

    def decorate(row_kernel: Callable[..., Values]) -> Callable[..., Values]:
        @wraps(row_kernel)
        def kernel(
            student: Tensor,
            teacher: Tensor | None,
            call: LossCall,
            scales: GradientScales,
            gradient: Tensor | None,
            **options: Any,
        ) -> Values:
            if student.dim() == 2:
                return row_kernel(student, teacher, call, scales, gradient, **options)
            count, length, classes = student.shape
            soft, hard = student.new_zeros(2, count * length, dtype=call.dtype)
            size = max(1, elements // (length * classes))
            for start in range(0, count, size):
                part = slice(start, min(count, start + size))
                rows = slice(start * length, part.stop * length)
                s, t, g = (None if x is None else x[part].reshape(-1, classes) for x in (student, teacher, gradient))
                assert s is not None
                soft[rows], hard[rows] = row_kernel(s, t, call.part(rows), scales_of_rows(scales, rows), g, **options)
                if gradient is not None and g is not None and g.data_ptr() != gradient[part].data_ptr():
                    gradient[part] = g.view(-1, length, classes)
            return soft, hard

        return kernel

    return decorate

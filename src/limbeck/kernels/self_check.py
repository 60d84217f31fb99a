"""A row kernel on a few random rows against the reference in float64, before its results are believed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from limbeck.kernels.call import LossCall, RowKernel

ROWS = 4
VALUES_WITHIN = {torch.float64: 1e-7, torch.float32: 1e-3}
"""How far a value may be from the reference, as a part of it, by the dtype of the arithmetic."""
GRADIENT_WITHIN = {torch.float64: 1e-6, torch.float32: 1e-3, torch.float16: 1e-2, torch.bfloat16: 3e-2}
"""How far the gradient may be from the reference, as a part of its norm, by the dtype of the student's logits."""


@torch.inference_mode(False)
def disagreement(row_kernel: RowKernel, call: LossCall, like: Tensor) -> str | None:
    """Return how a kernel differs from the reference on random rows, or None if it agrees.

    The rows are as wide as those of the call, and have its settings, so that a compiler compiles nothing twice.

    Args:
        row_kernel: the kernel.
        call: what it will compute.
        like: a tensor (N, V), for the number of classes, the dtype and the device of the logits.
    """
    call = _on_random_rows(call, like)
    generator = torch.Generator().manual_seed(1)
    student, teacher = (
        # In units of T, so that the softened distributions are as far apart at every T.
        (_draw(like, generator) * min(_number(t), 10.0)).to(like.device, like.dtype)
        for t in (call.student_temperature, call.teacher_temperature)
    )
    given, gradient = teacher if call.has_soft_term else None, torch.empty_like(student)
    with torch.no_grad():
        values = row_kernel(student, given, call, call.gradient_scales(), gradient)
    with torch.enable_grad():
        leaf = student.double().requires_grad_()
        truth = call.reference_rows(replace(call, dtype=torch.float64), leaf, None if given is None else given.double())
        terms = [(x * s).sum() for x, s in zip(truth, call.gradient_scales(), strict=True) if x is not None]
        true_gradient = torch.autograd.grad(sum(terms[1:], terms[0]), leaf)[0]
    rounding = 1e-2 * VALUES_WITHIN[call.dtype] * max(1.0, _number(call.compensation))
    for value, term in zip(values, truth, strict=True):
        if term is None:
            continue
        true = term.detach()
        error = (value - true).abs()
        if not bool((error <= VALUES_WITHIN[call.dtype] * true.abs() + rounding).all()):
            return f"a value of a row is off by {float(error.max()):.1e}"
    error = float((gradient.double() - true_gradient).norm() / true_gradient.norm())
    return None if error <= GRADIENT_WITHIN[like.dtype] else f"the gradient is off by {error:.1e} of its norm"


def _draw(like: Tensor, generator: torch.Generator) -> Tensor:
    return 3 * torch.randn(ROWS, like.shape[-1], generator=generator, dtype=torch.float64)


def _number(column: Tensor | float) -> float:
    """Return a number, or the one that all entries of a column share."""
    return float(column[0]) if isinstance(column, Tensor) else column


def _on_random_rows(call: LossCall, like: Tensor) -> LossCall:
    """Return the call with its settings, and with other rows."""

    def shared(number: Tensor | float) -> Any:
        return like.new_full((ROWS, 1), 2.0, dtype=call.dtype) if isinstance(number, Tensor) else number

    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(like.shape[-1], (ROWS,), generator=generator)
    if call.has_label_rows:
        labels = _draw(like, generator).softmax(-1).to(call.dtype)
    return replace(
        call,
        labels=None if call.labels is None else labels.to(like.device),
        labelled=None if call.labelled is None else torch.arange(ROWS, device=like.device) > 0,
        counted=None,
        weights=1 / ROWS,
        teacher_temperature=shared(call.teacher_temperature),
        student_temperature=shared(call.student_temperature),
        compensation=shared(call.compensation),
    )

r"""The projection to logits and the loss together: a chunk of rows at a time, so that the logits are never whole.

For a chunk X of the student's hidden states and Y of the teacher's:

    Z = X W_s^T,  U = Y W_t^T                in float32, into two buffers that serve every chunk
    Z <- dloss/dZ                            by the row kernel, in place
    dX = Z W_s,  dW_s += Z^T X,  db += sum Z

The gradients come from the forward pass: keeping the logits would take the memory that this saves, and projecting again in the
backward pass would take half as long again. Large chunks keep the matrix products fast. Frozen weights and inputs that need no
gradient cost nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.distributed import ProcessGroup, all_reduce

from limbeck.kernels.autograd import HALF, is_one, refuse_second_derivatives, scale_, scales_for, weighted_total
from limbeck.kernels.call import GradientScales, LossCall, RowKernel, savable, scales_of_rows

BYTES = {"cpu": 1 << 26, "cuda": 1 << 30}
"""The bytes that both buffers of logits may take, by the kind of device."""


@dataclass(frozen=True)
class OutputLayer:
    """The last layer of a model: cap * tanh(scale * (x W^T + b) / cap)."""

    weight: Tensor
    """(V, d)."""
    bias: Tensor | None = None
    """(V,)."""
    scale: float = 1.0
    softcap: float | None = None

    def logits(self, hidden: Tensor, out: Tensor) -> Tensor:
        """Return ``out`` with the logits of hidden states, (n, V); the product leaves the hardware in its dtype."""
        _product(hidden, self.weight.t(), out)
        if self.bias is not None:
            out.add_(self.bias)
        if self.scale != 1:
            out.mul_(self.scale)
        if self.softcap is not None:
            out.div_(self.softcap).tanh_().mul_(self.softcap)
        return out

    def prepared(self, classes: int, hidden: Tensor, dtype: torch.dtype) -> OutputLayer:
        """Return the layer of the first classes, detached.

        The weight is in the dtype of the hidden states; on a CPU, which has no product of half precision that ends in float32,
        in that of the logits.

        Args:
            classes: how many of the first classes are kept.
            hidden: the hidden states that the layer will be given.
            dtype: the dtype of the logits.
        """
        weight = self.weight.detach()[:classes].to(dtype if hidden.device.type == "cpu" else hidden.dtype)
        bias = None if self.bias is None else self.bias.detach()[:classes].to(dtype)
        return OutputLayer(weight, bias, self.scale, self.softcap)


@dataclass(frozen=True)
class Projection:
    """One call of the fused loss: all of it but the student's hidden states, weight and bias as leaves of the graph."""

    student_layer: OutputLayer
    teacher_hidden: Tensor | None
    """(N, d_t); None when there is no soft term, or the teacher is sparse."""
    teacher_layer: OutputLayer | None
    classes: int
    """The number of classes; rows of the weights after them are padding."""
    call: LossCall
    row_kernel: RowKernel
    chunk: int
    """Rows whose logits are held at a time."""
    group: ProcessGroup | None = None
    """Its processes hold the rows of the weights, and each has a part of the hidden states' gradient."""

    @property
    def teacher_tensors(self) -> tuple[Tensor | None, ...]:
        """Return what a backward pass reads of the teacher, first its hidden states, in a form that autograd can save."""
        layer = self.teacher_layer
        tensors = (self.teacher_hidden, *(() if layer is None else (layer.weight, layer.bias)))
        return tuple(None if x is None else savable(x.detach()) for x in tensors)


def rows_in_chunk(classes: int, device: torch.device) -> int:
    """Return the number of rows whose logits fit the budget: a power of two, from 64 to 4096."""
    rows = max(1, BYTES.get(device.type, BYTES["cuda"]) // (8 * classes))
    return min(4096, max(64, 1 << (rows.bit_length() - 1)))


def linear_loss(student_hidden: Tensor, projection: Projection) -> tuple[Tensor, Tensor, Tensor]:
    """Return the weighted total, and the soft and hard values of the rows without weights.

    Args:
        student_hidden: (N, d_s).
        projection: the rest.

    Returns:
        The total as one number or (N,); C(T) D, (N,); CE, (N,).
    """
    inputs = (student_hidden, projection.student_layer.weight, projection.student_layer.bias)
    # Inside of the function gradients are always off, so it is asked here whether they are wanted.
    wanted = tuple(torch.is_grad_enabled() and x is not None and x.requires_grad for x in inputs)
    return _LinearLoss.apply(*inputs, projection, wanted)  # pyright: ignore[reportReturnType]


Wanted = tuple[bool, bool, bool]
"""Which gradients are wanted: of the hidden states, the weight and the bias."""


class _LinearLoss(torch.autograd.Function):
    """The node of the graph; its outputs are those of ``linear_loss``."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, projection: Projection, wanted: Wanted
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        # The hidden states are kept as saved tensors alone, which autograd frees after the backward pass.
        ctx.projection, ctx.wanted = replace(projection, teacher_hidden=None), wanted
        ctx.save_for_backward(hidden, weight, bias, *projection.teacher_tensors, *projection.call.tensors)
        call, ctx.dtypes = projection.call, tuple(None if x is None else x.dtype for x in (hidden, weight, bias))
        ctx.has_gradients = call.summed and any(wanted)
        now = wanted if ctx.has_gradients else (False, False, False)
        soft, hard, ctx.gradients = _by_chunks(hidden, weight, bias, projection, call.gradient_scales(), now)
        return weighted_total(soft, hard, call), soft, hard

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor | None) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        refuse_second_derivatives(
            "compute the logits, and pass them to distillation_loss or sparse_distillation_loss with backend='reference'"
        )
        total, soft, hard = upstream
        gradients, ctx.gradients, has_gradients, ctx.has_gradients = ctx.gradients, None, ctx.has_gradients, False
        if not has_gradients or total is None or soft is not None or hard is not None:
            scales = scales_for(ctx.projection.call, total, soft, hard)
            hidden, weight, bias, teacher_hidden, *_ = ctx.saved_tensors  # raises if one was changed in place
            projection = replace(ctx.projection, teacher_hidden=teacher_hidden)
            gradients = _by_chunks(hidden, weight, bias, projection, scales, ctx.wanted)[2]
        elif not is_one(total):
            gradients = tuple(None if gradient is None else scale_(gradient, total) for gradient in gradients)
        # Half precision is rounded here, when the upstream gradient is known, so that a loss scale comes in time.
        rounded = (None if g is None else g.to(dtype) for g, dtype in zip(gradients, ctx.dtypes, strict=True))
        return *rounded, None, None


class _Gradients:
    """The gradients that are wanted, added up a chunk at a time; the others stay None."""

    def __init__(
        self, hidden: Tensor, weight: Tensor, bias: Tensor | None, classes: int, dtype: torch.dtype, wanted: Wanted
    ) -> None:
        self.classes = classes
        self.hidden = torch.empty_like(hidden, dtype=dtype) if wanted[0] else None
        self.weight = torch.empty_like(weight, dtype=dtype) if wanted[1] else None
        if self.weight is not None:
            self.weight[classes if len(hidden) else 0 :].zero_()  # padding, or nothing to sum
        self.bias = torch.zeros_like(bias, dtype=dtype) if wanted[2] and bias is not None else None

    def add(self, rows: slice, z: Tensor, x: Tensor, layer: OutputLayer, squares: Tensor | None) -> None:
        """Add what some rows contribute.

        Args:
            rows: which rows of the hidden states they are.
            z: the gradient of their logits, (n, V), overwritten.
            x: their hidden states, (n, d).
            layer: the student's, prepared.
            squares: the squares of their logits, where the layer has a cap.
        """
        if squares is not None and layer.softcap is not None:  # the cap's derivative is 1 - (z / cap)²
            z.addcmul_(z, squares, value=-1 / layer.softcap**2)
        if layer.scale != 1:
            z.mul_(layer.scale)
        if self.bias is not None:
            self.bias[: self.classes] += z.sum(0)
        if self.hidden is None and self.weight is None:
            return
        z = z.to(layer.weight.dtype)
        if self.hidden is not None:
            _product(z, layer.weight, self.hidden[rows])
        if self.weight is not None:
            _product(z.t(), x, self.weight[: self.classes], accumulate=rows.start > 0)


@torch.no_grad()
def _by_chunks(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    projection: Projection,
    scales: GradientScales,
    wanted: Wanted,
) -> tuple[Tensor, Tensor, tuple[Tensor | None, Tensor | None, Tensor | None]]:
    """Return soft and hard values, and the gradients that are wanted, in the dtype of the arithmetic."""
    with _bfloat16_units(hidden):
        return _all_chunks(hidden, weight, bias, projection, scales, wanted)


def _all_chunks(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    projection: Projection,
    scales: GradientScales,
    wanted: Wanted,
) -> tuple[Tensor, Tensor, tuple[Tensor | None, Tensor | None, Tensor | None]]:
    """Return what ``_by_chunks`` does."""
    call, count, classes = projection.call, len(hidden), projection.classes
    student = projection.student_layer
    student = OutputLayer(weight, bias, student.scale, student.softcap).prepared(classes, hidden, call.dtype)
    teacher, teacher_hidden = projection.teacher_layer, projection.teacher_hidden
    if teacher is not None and teacher_hidden is not None:
        teacher = teacher.prepared(classes, teacher_hidden, call.dtype)
    rows = min(projection.chunk, count)
    buffer = torch.empty(rows, classes, dtype=call.dtype, device=hidden.device)
    teacher_buffer = buffer if teacher is None else torch.empty_like(buffer)
    square_buffer = torch.empty_like(buffer) if student.softcap is not None and any(wanted) else None
    soft, hard = hidden.new_zeros(2, count, dtype=call.dtype)
    gradients = _Gradients(hidden, weight, bias, classes, call.dtype, wanted)
    for start in range(0, count, max(1, rows)):
        part = slice(start, min(count, start + rows))
        x = hidden[part].to(student.weight.dtype)
        z, u = student.logits(x, buffer[: len(x)]), None
        if teacher is not None and teacher_hidden is not None:
            u = teacher.logits(teacher_hidden[part].to(teacher.weight.dtype), teacher_buffer[: len(x)])
        squares = None if square_buffer is None else torch.square(z, out=square_buffer[: len(x)])
        soft[part], hard[part] = projection.row_kernel(
            z, u, call.part(part), scales_of_rows(scales, part), z if any(wanted) else None
        )
        if any(wanted):
            gradients.add(part, z, x, student, squares)
    if gradients.hidden is not None and projection.group is not None:
        all_reduce(gradients.hidden, group=projection.group)
    return soft, hard, (gradients.hidden, gradients.weight, gradients.bias)


@contextmanager
def _bfloat16_units(hidden: Tensor) -> Iterator[None]:
    """Let a CPU that has units for bfloat16 use them for the products of float32, if the hidden states are in bfloat16.

    They multiply in bfloat16 and add in float32. Hidden states and weights have no more digits than that; the gradient of the
    logits is rounded, as on a GPU.
    """
    settings = getattr(torch.backends.mkldnn, "matmul", None)  # since torch 2.9
    has_units = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    if settings is None or hidden.device.type != "cpu" or hidden.dtype != torch.bfloat16 or not has_units:
        yield
        return
    before, settings.fp32_precision = settings.fp32_precision, "bf16"
    try:
        yield
    finally:
        settings.fp32_precision = before


def _product(x: Tensor, y: Tensor, out: Tensor, accumulate: bool = False) -> None:
    """Compute out = x y, or out += x y; half precision leaves the product in the dtype of ``out``, where the hardware can."""
    if x.dtype == out.dtype:
        torch.addmm(out, x, y, out=out) if accumulate else torch.mm(x, y, out=out)
    elif x.dtype not in HALF:
        out.copy_(torch.mm(x, y))
    elif accumulate:
        torch.addmm(out, x, y, out_dtype=out.dtype, out=out)  # pyright: ignore[reportCallIssue]
    else:
        torch.mm(x, y, out_dtype=out.dtype, out=out)  # pyright: ignore[reportCallIssue]

"""From hidden states to the loss: what the projection to the vocabulary needs, and logits that are not computed."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Integral
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from limbeck.errors import ArgumentError, ArgumentTypeError
from limbeck.kernels.call import LossCall, RowKernel
from limbeck.kernels.linear import OutputLayer, Projection, linear_loss, rows_in_chunk
from limbeck.losses.dispatch import loss_parts
from limbeck.losses.number_checks import check_positive, is_number
from limbeck.losses.parts import LossParts

Chunk = int | Literal["auto"]
Watch = Callable[[RowKernel], RowKernel]
"""Returns a row kernel that looks at the logits of each chunk, and then does what the given one does."""


class Unprojected(NamedTuple):
    """The logits of a model that are not computed."""

    hidden: Tensor
    """(..., d), the inputs of the model's last layer."""
    layer: OutputLayer


def project(
    student: Unprojected,
    call: LossCall,
    row_kernel: RowKernel,
    *,
    classes: int,
    chunk: Chunk,
    teacher: Unprojected | None = None,
    group: ProcessGroup | None = None,
) -> LossParts:
    """Return the loss of the positions that count, which alone are projected, in the shape of all positions.

    Args:
        student: its logits, not computed.
        call: the call on all positions.
        row_kernel: computes the loss of a chunk.
        classes: the number of classes.
        chunk: positions whose logits are held at a time.
        teacher: the same; None when there is no soft term, or the teacher is sparse.
        group: the processes that hold shards of the vocabulary.

    Returns:
        The total, with its terms where the call asks for them.

    Raises:
        ArgumentError: ``chunk`` is not a number of positions.
    """
    if chunk != "auto" and (isinstance(chunk, bool) or not isinstance(chunk, int) or chunk < 1):
        raise ArgumentError("chunk", f"expected 'auto' or a positive number of positions, got {chunk!r}.")
    hidden = student.hidden
    kept, student_rows = None, _rows(hidden)
    teacher_rows = None if teacher is None else _rows(teacher.hidden.detach())
    if call.counted is not None:
        kept = call.counted.nonzero().squeeze(-1)
        call, student_rows = call.part(kept), student_rows.index_select(0, kept)
        teacher_rows = None if teacher_rows is None else teacher_rows.index_select(0, kept)
    projection = Projection(
        student_layer=student.layer,
        teacher_hidden=teacher_rows,
        teacher_layer=None if teacher is None else teacher.layer,
        classes=classes,
        call=call,
        row_kernel=row_kernel,
        chunk=rows_in_chunk(classes, hidden.device) if chunk == "auto" else chunk,
        group=group,
    )
    with torch.autocast(hidden.device.type, enabled=False):
        parts = loss_parts(call, *linear_loss(student_rows, projection))
    if call.summed:
        return parts
    spread = (None if part is None else _spread(part, kept, hidden.shape[:-1]) for part in parts)
    return LossParts(*spread)  # pyright: ignore[reportArgumentType]


def check_projection(model: str, hidden: Any, weight: Any, bias: Any) -> None:
    """Require hidden states (..., d), a weight (V, d) and a bias (V,) of one model.

    Args:
        model: "student" or "teacher".
        hidden: what was given.
        weight: what was given.
        bias: what was given; None is accepted.

    Raises:
        ArgumentTypeError: not a floating-point tensor.
        ArgumentError: shapes that do not fit, or another device.
    """
    for name, given in ((f"{model}_hidden", hidden), (f"{model}_weight", weight), (f"{model}_bias", bias)):
        if given is None and name.endswith("bias"):
            continue
        if not isinstance(given, Tensor) or not given.is_floating_point():
            got = given.dtype if isinstance(given, Tensor) else type(given).__name__
            needed = " Only alpha=0 does without a teacher." if given is None and model == "teacher" else ""
            raise ArgumentTypeError(name, f"expected a floating-point tensor, got {got}.{needed}")
    if weight.dim() != 2 or hidden.dim() == 0 or weight.shape[1] != hidden.shape[-1] or len(weight) == 0:
        raise ArgumentError(
            f"{model}_weight",
            f"expected (V, d) with d = {tuple(hidden.shape)[-1:]} as in {model}_hidden, "
            f"got {tuple(weight.shape)}. torch.nn.Linear keeps its weight that way round.",
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ArgumentError(
            f"{model}_bias", f"expected one number per class, ({len(weight)},), got {tuple(bias.shape)}."
        )
    if weight.device != hidden.device:
        raise ArgumentError(
            f"{model}_weight", f"on {weight.device}, but {model}_hidden is on {hidden.device}. Move one of them."
        )


def output_layer(
    model: str, weight: Tensor, bias: Tensor | None, logit_scale: float, softcap: float | None
) -> OutputLayer:
    """Return the last layer of a model.

    Args:
        model: "student" or "teacher".
        weight: (V, d).
        bias: (V,), or None.
        logit_scale: the factor on the logits.
        softcap: the bound of the logits, or None.

    Raises:
        ArgumentTypeError: the factor or the cap is not a number.
        ArgumentError: the factor is not finite, or the cap is not positive.
    """
    if not is_number(logit_scale):
        raise ArgumentTypeError(f"{model}_logit_scale", f"expected a number, got {logit_scale!r}.")
    if not math.isfinite(logit_scale):
        raise ArgumentError(f"{model}_logit_scale", f"expected a finite number, got {logit_scale!r}.")
    softcap = None if softcap is None else check_positive(f"{model}_softcap", softcap, remedy=" None is for no cap.")
    return OutputLayer(weight, bias, float(logit_scale), softcap)


def count_classes(sizes: dict[str, int], vocab_size: int | None) -> int:
    """Return how many classes the weights share.

    Args:
        sizes: each model's number of rows.
        vocab_size: as given.

    Raises:
        ArgumentError: the weights differ and ``vocab_size`` is not given, or it is out of range.
    """
    smallest = min(sizes.values())
    if vocab_size is None:
        if len(set(sizes.values())) > 1:
            raise ArgumentError(
                "teacher_weight",
                f"{sizes['teacher']} classes, but student_weight has {sizes['student']}. If one vocabulary is "
                f"the other plus padding, say so by vocab_size={smallest}. Different tokenizers cannot be compared "
                "class by class.",
            )
        return smallest
    if isinstance(vocab_size, bool) or not isinstance(vocab_size, Integral) or not 1 <= vocab_size <= smallest:
        raise ArgumentError("vocab_size", f"expected a number of classes from 1 to {smallest}, got {vocab_size!r}.")
    return int(vocab_size)


def logits_placeholder(hidden: Tensor, classes: int, dtype: torch.dtype | None = None) -> Tensor:
    """Return a stride-0 placeholder with the logits' shape, dtype and device.

    Args:
        hidden: (..., d).
        classes: V.
        dtype: of the logits; by default that of the hidden states.

    Returns:
        (..., V), of memory for one number and without meaning.
    """
    return hidden.detach().new_empty((), dtype=dtype).expand(*hidden.shape[:-1], classes)


def _rows(hidden: Tensor) -> Tensor:
    """Return hidden states as (N, d), in autocast's dtype where it is on."""
    if torch.is_autocast_enabled(hidden.device.type):
        hidden = hidden.to(torch.get_autocast_dtype(hidden.device.type))
    return hidden.reshape(-1, hidden.shape[-1])


def _spread(values: Tensor, kept: Tensor | None, shape: torch.Size) -> Tensor:
    """Return the values of the rows that were kept in the shape of all positions, with 0 at the others."""
    if kept is not None:
        values = values.new_zeros(shape.numel()).index_copy(0, kept, values)
    return values.reshape(shape)

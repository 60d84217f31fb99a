"""The losses from hidden states: the projection to the vocabulary is part of them, and the logits are never whole."""

from __future__ import annotations

import math
from numbers import Integral
from typing import Any, Literal

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from limbeck.errors import ArgumentError, ArgumentTypeError
from limbeck.kernels.call import LossCall, RowKernel
from limbeck.kernels.linear import OutputLayer, Projection, linear_loss, rows_in_chunk
from limbeck.losses import checks
from limbeck.losses.arguments import (
    DEFAULT_ALPHA,
    DEFAULT_TEMPERATURE,
    IGNORE_INDEX,
    Compensate,
    Reduction,
    Temperature,
)
from limbeck.losses.dispatch import loss_parts
from limbeck.losses.divergence_base import DivergenceChoice
from limbeck.losses.functional import prepare
from limbeck.losses.kernel_choice import fused_kernel
from limbeck.losses.number_checks import check_fraction, check_positive, is_number
from limbeck.losses.parts import LossParts, with_arguments_of

Chunk = int | Literal["auto"]


def linear_distillation_loss(
    student_hidden: Tensor,
    student_weight: Tensor,
    teacher_hidden: Tensor | None,
    teacher_weight: Tensor | None,
    labels: Tensor | None = None,
    *,
    student_bias: Tensor | None = None,
    teacher_bias: Tensor | None = None,
    student_softcap: float | None = None,
    teacher_softcap: float | None = None,
    student_logit_scale: float = 1.0,
    teacher_logit_scale: float = 1.0,
    vocab_size: int | None = None,
    chunk: Chunk = "auto",
    temperature: Temperature = DEFAULT_TEMPERATURE,
    alpha: float = DEFAULT_ALPHA,
    divergence: DivergenceChoice = "forward_kl",
    beta: float = 0.5,
    skew: float = 0.1,
    compensate: Compensate = True,
    label_smoothing: float = 0.0,
    ignore_index: int = IGNORE_INDEX,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: Reduction = "mean",
    num_items: Tensor | float | None = None,
    backend: str = "auto",
    group: ProcessGroup | None = None,
) -> Tensor:
    r"""Return the distillation loss of two language models, from their last hidden states and output embeddings.

        student_logits = softcap * tanh( logit_scale * (student_hidden @ student_weight^T + student_bias) / softcap )

    and the same for the teacher; the loss of these logits is that of ``distillation_loss``. The logits exist for ``chunk``
    positions at a time, and positions that do not count are dropped before they are projected. It takes the memory of the
    gradients and of two chunks of logits. A half-precision product leaves the hardware in float32 where the hardware can do
    that (CUDA), so that the difference of two close distributions is not rounded away; a CPU multiplies half-precision weights
    in float32.

    Args:
        student_hidden: (..., d_s), any floating dtype: the input of the student's last layer. Receives gradient, and so do
            ``student_weight`` and ``student_bias``; a tensor that needs no gradient costs nothing.
        student_weight: (V, d_s), the output embedding (``model.lm_head.weight``).
        teacher_hidden: (..., d_t). The teacher never receives gradient. None only with ``alpha=0``.
        teacher_weight: (V, d_t).
        labels: (...,) integers or label rows (..., V), aligned with the hidden states: for next-token prediction shift them
            first, as in ``hidden[:, :-1]`` with ``input_ids[:, 1:]``.
        student_bias: (V,).
        teacher_bias: (V,).
        student_softcap: Gemma 2's ``final_logit_softcapping``.
        teacher_softcap: the same for the teacher.
        student_logit_scale: a factor on the logits, as Cohere's ``logit_scale``; 1 / ``logits_scaling`` for Granite.
        teacher_logit_scale: the same for the teacher.
        vocab_size: the number of classes that both models share; further rows of either weight are padding and take no
            part. Needed when the weights have different numbers of rows. By default all rows.
        chunk: positions whose logits are held at a time; "auto" takes a power of two that fits a budget.
        temperature: as in ``distillation_loss``, but it cannot ask for gradient.
        alpha: the weight of the soft term, in [0, 1].
        divergence: as in ``distillation_loss``, as are the arguments that follow.
        beta: for "jsd".
        skew: for the skew divergences.
        compensate: True multiplies the soft term by C(T).
        label_smoothing: eps in [0, 1].
        ignore_index: the label of a position without one.
        mask: bool (...,), True where a position counts.
        weight: (V,) class weights of the hard term.
        reduction: "mean", "sum" or "none". With "none" the gradients are computed in the backward pass, which projects again;
            "mean" and "sum" have them from the forward pass.
        num_items: replaces the mean's denominator.
        backend: "auto", "reference" (the loss of a chunk in plain torch), "cpu" or "triton".
        group: as in ``distillation_loss``: each rank holds consecutive rows of both weights, and the same hidden states. The
            gradient of ``student_hidden`` is summed over the group; ``vocab_size`` and ``weight`` are the rank's own.

    Returns:
        A scalar, or (...,) with ``reduction="none"``, like ``distillation_loss``.

    Raises:
        ArgumentError: an argument has a wrong shape, range or choice; the message names it and the remedy. A ``ValueError``.
        ArgumentTypeError: an argument has a wrong type. A ``TypeError``.

    References:
        The chunked projection is as in Liger-Kernel (Hsu et al., 2024, arXiv 2410.10989).

    Example:
        >>> import torch
        >>> from limbeck import linear_distillation_loss
        >>> student, teacher = torch.nn.Linear(2, 3, bias=False), torch.nn.Linear(4, 3, bias=False)
        >>> _ = torch.nn.init.eye_(student.weight), torch.nn.init.eye_(teacher.weight)
        >>> hidden = torch.tensor([[1.0, 2.0]], requires_grad=True)
        >>> loss = linear_distillation_loss(
        ...     hidden, student.weight, torch.tensor([[0.5, 3.0, -1.0, 0.0]]), teacher.weight, torch.tensor([1]), alpha=0.5
        ... )
        >>> loss.backward()
        >>> print(f"{loss.item():.4f}", tuple(hidden.grad.shape), tuple(student.weight.grad.shape))
        0.3935 (1, 2) (3, 2)
    """
    return _linear_parts(
        student_hidden, student_weight, teacher_hidden, teacher_weight, labels, student_bias=student_bias,
        teacher_bias=teacher_bias, student_softcap=student_softcap, teacher_softcap=teacher_softcap,
        student_logit_scale=student_logit_scale, teacher_logit_scale=teacher_logit_scale, vocab_size=vocab_size, chunk=chunk,
        temperature=temperature, alpha=alpha, divergence=divergence, beta=beta, skew=skew, compensate=compensate,
        label_smoothing=label_smoothing, ignore_index=ignore_index, mask=mask, weight=weight, reduction=reduction,
        num_items=num_items, backend=backend, group=group, with_parts=False,
    ).total  # fmt: skip


@with_arguments_of(linear_distillation_loss)
def linear_distillation_loss_parts(*args: Any, **options: Any) -> LossParts:
    """Return the loss of ``linear_distillation_loss`` together with its soft and hard terms.

    Args:
        *args: the positional arguments of ``linear_distillation_loss``.
        **options: its keyword arguments, with the same defaults.

    Returns:
        ``LossParts``: total, soft and hard, each reduced like the total. A gradient of a term projects again.

    Raises:
        ArgumentError: as ``linear_distillation_loss`` does.
        ArgumentTypeError: as ``linear_distillation_loss`` does.

    Example:
        >>> import torch
        >>> from limbeck import linear_distillation_loss_parts
        >>> weight, hidden = torch.eye(3), torch.tensor([[1.0, 2.0, 0.5]])
        >>> parts = linear_distillation_loss_parts(hidden, weight, hidden, weight, torch.tensor([1]))
        >>> print(f"{parts.soft:.4f} {parts.hard:.4f}")
        0.0000 0.4644
    """
    return _linear_parts(*args, **options, with_parts=True)


def _linear_parts(
    student_hidden: Tensor,
    student_weight: Tensor,
    teacher_hidden: Tensor | None,
    teacher_weight: Tensor | None,
    labels: Tensor | None = None,
    *,
    student_bias: Tensor | None,
    teacher_bias: Tensor | None,
    student_softcap: float | None,
    teacher_softcap: float | None,
    student_logit_scale: float,
    teacher_logit_scale: float,
    vocab_size: int | None,
    chunk: Chunk,
    temperature: Temperature,
    alpha: float,
    backend: str,
    group: ProcessGroup | None,
    with_parts: bool,
    **options: Any,
) -> LossParts:
    """Return the loss of both models' hidden states, with its terms where they are asked for."""
    alpha = check_fraction("alpha", alpha)
    check_projection("student", student_hidden, student_weight, student_bias)
    sizes, teacher_layer = {"student": len(student_weight)}, None
    if teacher_hidden is not None or teacher_weight is not None or alpha > 0:
        check_projection("teacher", teacher_hidden, teacher_weight, teacher_bias)
        assert teacher_hidden is not None
        assert teacher_weight is not None
        sizes["teacher"] = len(teacher_weight)
        teacher_layer = output_layer("teacher", teacher_weight, teacher_bias, teacher_logit_scale, teacher_softcap)
    classes = count_classes(sizes, vocab_size)
    backend = checks.check_backend(backend)
    call, student_logits, teacher_logits = prepare(
        logits_placeholder(student_hidden, classes),
        None if teacher_hidden is None else logits_placeholder(teacher_hidden, classes),
        labels, temperature=temperature, alpha=alpha, backend=backend, group=group, with_parts=with_parts, inplace=True,
        **options,
    )  # fmt: skip
    return project(
        student_hidden,
        output_layer("student", student_weight, student_bias, student_logit_scale, student_softcap),
        call,
        fused_kernel(call, student_logits, backend, group),
        classes=classes,
        chunk=chunk,
        teacher_hidden=None if teacher_logits is None else teacher_hidden,
        teacher_layer=None if teacher_logits is None else teacher_layer,
        group=group,
    )


def project(
    hidden: Tensor,
    student_layer: OutputLayer,
    call: LossCall,
    row_kernel: RowKernel,
    *,
    classes: int,
    chunk: Chunk,
    teacher_hidden: Tensor | None = None,
    teacher_layer: OutputLayer | None = None,
    group: ProcessGroup | None = None,
) -> LossParts:
    """Return the loss of the positions that count, which alone are projected, in the shape of all positions.

    Args:
        hidden: the student's, (..., d_s).
        student_layer: projects them.
        call: the call on all positions.
        row_kernel: computes the loss of a chunk.
        classes: the number of classes.
        chunk: positions whose logits are held at a time.
        teacher_hidden: (..., d_t); None when there is no soft term, or the teacher is sparse.
        teacher_layer: projects them.
        group: the processes that hold shards of the vocabulary.

    Returns:
        The total, with its terms where the call asks for them.

    Raises:
        ArgumentError: ``chunk`` is not a number of positions.
    """
    if chunk != "auto" and (isinstance(chunk, bool) or not isinstance(chunk, int) or chunk < 1):
        raise ArgumentError("chunk", f"expected 'auto' or a positive number of positions, got {chunk!r}.")
    kept, student_rows = None, _rows(hidden)
    teacher_rows = None if teacher_hidden is None else _rows(teacher_hidden.detach())
    if call.counted is not None:
        kept = call.counted.nonzero().squeeze(-1)
        call, student_rows = call.part(kept), student_rows.index_select(0, kept)
        teacher_rows = None if teacher_rows is None else teacher_rows.index_select(0, kept)
    projection = Projection(
        student_layer=student_layer,
        teacher_hidden=teacher_rows,
        teacher_layer=teacher_layer,
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

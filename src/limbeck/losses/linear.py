"""The losses from hidden states: the projection to the vocabulary is part of them, and the logits are never whole."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.distributed import ProcessGroup

from limbeck.losses import checks
from limbeck.losses.arguments import (
    DEFAULT_ALPHA,
    DEFAULT_TEMPERATURE,
    IGNORE_INDEX,
    Compensate,
    Reduction,
    Temperature,
)
from limbeck.losses.divergence_base import DivergenceChoice
from limbeck.losses.functional import prepare
from limbeck.losses.kernel_choice import fused_kernel
from limbeck.losses.number_checks import check_fraction
from limbeck.losses.parts import LossParts, with_arguments_of
from limbeck.losses.projection import (
    Chunk,
    Unprojected,
    Watch,
    check_projection,
    count_classes,
    logits_placeholder,
    output_layer,
    project,
)


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
    alpha: float,
    **options: Any,
) -> LossParts:
    """Return the loss of both models' hidden states, with its terms where they are asked for."""
    alpha = check_fraction("alpha", alpha)
    check_projection("student", student_hidden, student_weight, student_bias)
    layer = output_layer("student", student_weight, student_bias, student_logit_scale, student_softcap)
    sizes, teacher = {"student": len(student_weight)}, None
    if teacher_hidden is not None or teacher_weight is not None or alpha > 0:
        check_projection("teacher", teacher_hidden, teacher_weight, teacher_bias)
        assert teacher_hidden is not None
        assert teacher_weight is not None
        sizes["teacher"] = len(teacher_weight)
        teacher_layer = output_layer("teacher", teacher_weight, teacher_bias, teacher_logit_scale, teacher_softcap)
        teacher = Unprojected(teacher_hidden, teacher_layer)
    classes = count_classes(sizes, vocab_size)
    student = Unprojected(student_hidden, layer)
    return unprojected_loss_parts(student, teacher, labels, classes=classes, alpha=alpha, **options)


def unprojected_loss_parts(
    student: Unprojected,
    teacher: Unprojected | None,
    labels: Tensor | None,
    *,
    classes: int,
    chunk: Chunk = "auto",
    backend: str,
    group: ProcessGroup | None,
    watch: Watch | None = None,
    **options: Any,
) -> LossParts:
    """Return the loss of logits that are not computed.

    Args:
        student: its logits, (..., V_s).
        teacher: its logits, (..., V_t); None with ``alpha=0``.
        labels: as in ``linear_distillation_loss``.
        classes: the leading columns that both models share; further ones take no part.
        chunk: positions whose logits are held at a time.
        backend: as in ``linear_distillation_loss``.
        group: the same.
        watch: looks at the logits of each chunk; None for nothing.
        **options: the other arguments of ``prepare``.

    Returns:
        The total; with its terms where ``with_parts`` asks for them.
    """
    backend = checks.check_backend(backend)
    call, student_logits, teacher_logits = prepare(
        logits_placeholder(student.hidden, classes),
        None if teacher is None else logits_placeholder(teacher.hidden, classes),
        labels, backend=backend, group=group, inplace=True, **options,
    )  # fmt: skip
    kernel = fused_kernel(call, student_logits, backend, group)
    return project(
        student,
        call,
        kernel if watch is None else watch(kernel),
        classes=classes,
        chunk=chunk,
        teacher=None if teacher_logits is None else teacher,
        group=group,
    )

"""Distillation from a teacher that is known by a few classes of each position: its most likely ones, or drawn ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from limbeck.errors import ArgumentTypeError
from limbeck.kernels.call import LossCall
from limbeck.losses import checks
from limbeck.losses.arguments import DEFAULT_ALPHA, IGNORE_INDEX, Compensate, Reduction, Temperature
from limbeck.losses.dispatch import compute
from limbeck.losses.divergence_base import DivergenceChoice, resolve_divergence
from limbeck.losses.functional import as_positions, prepare
from limbeck.losses.kernel_choice import fused_kernel, kernel_for
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
from limbeck.losses.sparse_modes import MODES, Mode, check_mode, sparse_rows
from limbeck.losses.sparse_targets import SparseTargets, check_targets


def sparse_distillation_loss(
    student_logits: Tensor,
    targets: SparseTargets,
    labels: Tensor | None = None,
    *,
    mode: Mode | None = None,
    temperature: float | tuple[float, float] = 1.0,
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
    inplace: bool = False,
    backend: str = "auto",
) -> Tensor:
    r"""Return the distillation loss against a teacher that is known by K classes of each position.

    The ``mode`` says what is done about the classes that are not listed:

    - "tail": they are one bucket in both models, and the divergence is taken over K + 1 outcomes. For forward KL its
      gradient is p_s - p_t at the listed classes and p_s (1 - r_t / r_s) at the others, r being the mass of the rest. This
      is the dense gradient that a teacher would give whose rest has the student's shape. The value never exceeds the dense
      divergence.
    - "zero": the teacher gives them a probability of 0. This pulls the student's tail to 0, a bias that grows with T.
    - "renormalise": both models are renormalised over the listed classes. The student learns nothing about the others.
    - "sample": the ids are draws from the teacher, and the loss is an unbiased estimate of forward KL and of its gradient. At
      another temperature than that of the draws it uses importance weights.

    Args:
        student_logits: (..., V), any floating dtype. Receives gradient.
        targets: the listed classes, (..., K), and what is known of them.
        labels: (...,) integers or label rows (..., V), as in ``distillation_loss``. Needed unless ``alpha`` is 1.
        mode: by default "sample" for targets with counts, else "tail".
        temperature: T > 0, or a pair (T_teacher, T_student). The targets must know their log-normaliser at (the teacher's)
            T, except for "renormalise". The default is 1, which all targets know.
        alpha: the weight of the soft term, in [0, 1].
        divergence: as in ``distillation_loss``, as are the arguments that follow. "sample" computes forward KL only; "zero"
            refuses reverse KL, which is infinite there; "logit_mse" needs dense logits.
        beta: for "jsd".
        skew: for the skew divergences.
        compensate: True multiplies the soft term by C(T).
        label_smoothing: eps in [0, 1].
        ignore_index: the label of a position without one.
        mask: bool (...,), True where a position counts.
        weight: (V,) class weights of the hard term.
        reduction: "mean", "sum" or "none".
        num_items: replaces the mean's denominator.
        inplace: allows ``student_logits`` to be overwritten with their gradient.
        backend: "auto" for the kernel of sparse targets, which runs on every device; "reference" for plain torch, which has
            second derivatives; or "cpu", the kernel on a CPU.

    Returns:
        A scalar, or (...,) with ``reduction="none"``, like ``distillation_loss``.

    Raises:
        ArgumentError: an argument has a wrong shape, range or choice; the message names it and the remedy. A ``ValueError``.
        ArgumentTypeError: an argument has a wrong type. A ``TypeError``.

    Example:
        >>> import torch
        >>> from limbeck import SparseTargets, distillation_loss, sparse_distillation_loss
        >>> student, teacher = torch.tensor([[1.0, 2.0, 0.5, 0.0]]), torch.tensor([[0.5, 3.0, -1.0, -2.0]])
        >>> targets = SparseTargets.top_k(teacher, k=2, temperatures=[2.0])
        >>> sparse = sparse_distillation_loss(student, targets, alpha=1, temperature=2.0)
        >>> dense = distillation_loss(student, teacher, alpha=1, temperature=2.0)
        >>> print(f"{sparse.item():.4f} {dense.item():.4f}")
        0.5935 0.5978
    """
    return sparse_loss_parts(
        student_logits, targets, labels, mode=mode, temperature=temperature, alpha=alpha, divergence=divergence, beta=beta,
        skew=skew, compensate=compensate, label_smoothing=label_smoothing, ignore_index=ignore_index, mask=mask,
        weight=weight, reduction=reduction, num_items=num_items, inplace=inplace, backend=backend, with_parts=False,
    ).total  # fmt: skip


@with_arguments_of(sparse_distillation_loss)
def sparse_distillation_loss_parts(*args: Any, **options: Any) -> LossParts:
    """Return the loss of ``sparse_distillation_loss`` together with its soft and hard terms.

    Args:
        *args: the positional arguments of ``sparse_distillation_loss``.
        **options: its keyword arguments, with the same defaults.

    Returns:
        ``LossParts``: total, soft and hard, each reduced like the total.

    Raises:
        ArgumentError: as ``sparse_distillation_loss`` does.
        ArgumentTypeError: as ``sparse_distillation_loss`` does.

    Example:
        >>> import torch
        >>> from limbeck import SparseTargets, sparse_distillation_loss_parts
        >>> logits = torch.tensor([[1.0, 2.0, 0.5, 0.0]])
        >>> parts = sparse_distillation_loss_parts(logits, SparseTargets.top_k(logits, k=2), torch.tensor([1]))
        >>> print(f"{parts.soft.abs():.4f} {parts.hard:.4f}")
        0.0000 0.5460
    """
    return sparse_loss_parts(*args, **options, with_parts=True)


def sparse_linear_distillation_loss(
    student_hidden: Tensor,
    student_weight: Tensor,
    targets: SparseTargets,
    labels: Tensor | None = None,
    *,
    student_bias: Tensor | None = None,
    student_softcap: float | None = None,
    student_logit_scale: float = 1.0,
    vocab_size: int | None = None,
    chunk: Chunk = "auto",
    mode: Mode | None = None,
    temperature: float | tuple[float, float] = 1.0,
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
) -> Tensor:
    """Return the loss of ``sparse_distillation_loss`` from the student's hidden states: its logits are never whole.

    Args:
        student_hidden: (..., d), any floating dtype. Receives gradient, and so do ``student_weight`` and ``student_bias``.
        student_weight: (V, d), the output embedding.
        targets: the listed classes, (..., K), and what is known of them.
        labels: (...,) integers or label rows (..., V), aligned with the hidden states. Needed unless ``alpha`` is 1.
        student_bias: (V,).
        student_softcap: Gemma 2's ``final_logit_softcapping``.
        student_logit_scale: a factor on the logits.
        vocab_size: the number of classes; further rows of the weight are padding. By default all rows.
        chunk: positions whose logits are held at a time; "auto" takes a power of two that fits a budget.
        mode: as in ``sparse_distillation_loss``, as are the arguments that follow.
        temperature: T > 0, or a pair (T_teacher, T_student).
        alpha: the weight of the soft term, in [0, 1].
        divergence: of the soft term.
        beta: for "jsd".
        skew: for the skew divergences.
        compensate: True multiplies the soft term by C(T).
        label_smoothing: eps in [0, 1].
        ignore_index: the label of a position without one.
        mask: bool (...,), True where a position counts.
        weight: (V,) class weights of the hard term.
        reduction: "mean", "sum" or "none".
        num_items: replaces the mean's denominator.
        backend: "auto", "reference" (the loss of a chunk in plain torch) or "cpu".

    Returns:
        A scalar, or (...,) with ``reduction="none"``, like ``distillation_loss``.

    Raises:
        ArgumentError: an argument has a wrong shape, range or choice; the message names it and the remedy. A ``ValueError``.
        ArgumentTypeError: an argument has a wrong type. A ``TypeError``.

    Example:
        >>> import torch
        >>> from limbeck import SparseTargets, sparse_linear_distillation_loss
        >>> targets = SparseTargets.top_k(torch.tensor([[0.5, 3.0, -1.0, -2.0]]), k=2, temperatures=[2.0])
        >>> hidden, weight = torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 0.0], [0.0, 0.0]])
        >>> loss = sparse_linear_distillation_loss(hidden, weight, targets, alpha=1, temperature=2.0)
        >>> print(f"{loss.item():.4f}")
        0.5935
    """
    return _sparse_linear_parts(
        student_hidden, student_weight, targets, labels, student_bias=student_bias, student_softcap=student_softcap,
        student_logit_scale=student_logit_scale, vocab_size=vocab_size, chunk=chunk, mode=mode, temperature=temperature,
        alpha=alpha, divergence=divergence, beta=beta, skew=skew, compensate=compensate, label_smoothing=label_smoothing,
        ignore_index=ignore_index, mask=mask, weight=weight, reduction=reduction, num_items=num_items, backend=backend,
        with_parts=False,
    ).total  # fmt: skip


@with_arguments_of(sparse_linear_distillation_loss)
def sparse_linear_distillation_loss_parts(*args: Any, **options: Any) -> LossParts:
    """Return the loss of ``sparse_linear_distillation_loss`` together with its soft and hard terms.

    Args:
        *args: the positional arguments of ``sparse_linear_distillation_loss``.
        **options: its keyword arguments, with the same defaults.

    Returns:
        ``LossParts``: total, soft and hard, each reduced like the total. A gradient of a term projects again.

    Raises:
        ArgumentError: as ``sparse_linear_distillation_loss`` does.
        ArgumentTypeError: as ``sparse_linear_distillation_loss`` does.

    Example:
        >>> import torch
        >>> from limbeck import SparseTargets, sparse_linear_distillation_loss_parts
        >>> hidden, weight = torch.tensor([[1.0, 2.0, 0.5]]), torch.eye(3)
        >>> targets = SparseTargets.top_k(hidden @ weight.T, k=2)
        >>> parts = sparse_linear_distillation_loss_parts(hidden, weight, targets, torch.tensor([1]))
        >>> print(f"{parts.soft.abs():.4f} {parts.hard:.4f}")
        0.0000 0.4644
    """
    return _sparse_linear_parts(*args, **options, with_parts=True)


def sparse_loss_parts(
    student_logits: Tensor, targets: SparseTargets, labels: Tensor | None = None, *, backend: str, **options: Any
) -> LossParts:
    """Return the loss of logits against sparse targets.

    Args:
        student_logits: as in ``sparse_distillation_loss``.
        targets: the same.
        labels: the same.
        backend: the same.
        **options: the other arguments of ``prepare``, and ``mode``.

    Returns:
        The total; with its terms where ``with_parts`` asks for them.
    """
    backend = checks.check_backend(backend)
    call, student = _prepare(student_logits, targets, labels, **options)
    parts = compute(call, student, None, kernel_for(call, student, backend))
    return parts if call.summed else as_positions(parts, student_logits.shape[:-1])


def _sparse_linear_parts(
    student_hidden: Tensor,
    student_weight: Tensor,
    targets: SparseTargets,
    labels: Tensor | None = None,
    *,
    student_bias: Tensor | None,
    student_softcap: float | None,
    student_logit_scale: float,
    vocab_size: int | None,
    **options: Any,
) -> LossParts:
    """Return the loss of hidden states against sparse targets, with its terms where they are asked for."""
    check_projection("student", student_hidden, student_weight, student_bias)
    classes = count_classes({"student": len(student_weight)}, vocab_size)
    layer = output_layer("student", student_weight, student_bias, student_logit_scale, student_softcap)
    student = Unprojected(student_hidden, layer)
    return unprojected_sparse_loss_parts(student, targets, labels, classes=classes, **options)


def unprojected_sparse_loss_parts(
    student: Unprojected,
    targets: SparseTargets,
    labels: Tensor | None,
    *,
    classes: int,
    chunk: Chunk = "auto",
    backend: str,
    watch: Watch | None = None,
    **options: Any,
) -> LossParts:
    """Return the loss of logits that are not computed, against sparse targets.

    Args:
        student: its logits, (..., V).
        targets: as in ``sparse_distillation_loss``.
        labels: the same.
        classes: the leading columns that take part.
        chunk: positions whose logits are held at a time.
        backend: as in ``sparse_linear_distillation_loss``.
        watch: looks at the logits of each chunk; None for nothing.
        **options: the other arguments of ``prepare``, and ``mode``.

    Returns:
        The total; with its terms where ``with_parts`` asks for them.
    """
    backend = checks.check_backend(backend)
    placeholder = logits_placeholder(student.hidden, classes)
    call, rows = _prepare(placeholder, targets, labels, inplace=True, **options)
    kernel = fused_kernel(call, rows, backend)
    return project(student, call, kernel if watch is None else watch(kernel), classes=classes, chunk=chunk)


def _prepare(
    student_logits: Tensor,
    targets: SparseTargets,
    labels: Tensor | None,
    *,
    mode: Mode | None,
    temperature: Temperature,
    alpha: float,
    divergence: DivergenceChoice,
    beta: float,
    skew: float,
    with_parts: bool,
    **options: Any,
) -> tuple[LossCall, Tensor]:
    """Check everything, and return the call with the targets in it, and the student's logits as rows."""
    check_targets(targets, student_logits)
    mode = mode or ("tail" if targets.counts is None else "sample")
    checks.check_choice("mode", mode, MODES)
    chosen = resolve_divergence(divergence, beta=beta, skew=skew)
    check_mode(mode, chosen.simplest, targets)
    sides = tuple(temperature) if isinstance(temperature, tuple | list) else (temperature, temperature)
    if any(isinstance(t, Tensor) for t in sides):
        raise ArgumentTypeError(
            "temperature", "sparse targets take one number for T, or a pair (T_teacher, T_student), not a tensor."
        )
    # There are no teacher's logits; a placeholder of their shape and dtype takes their place in the checks.
    dtype = None if targets.log_probs is None else targets.log_probs.dtype
    teacher = logits_placeholder(student_logits, student_logits.shape[-1], dtype)
    call, student, _ = prepare(
        student_logits, teacher, labels, temperature=temperature, alpha=alpha, divergence=chosen, beta=beta, skew=skew,
        with_parts=with_parts, **options,
    )  # fmt: skip
    if call.has_soft_term:
        call = replace(call, sparse=sparse_rows(targets, mode, chosen.simplest, float(sides[0]), student))
    return call, student

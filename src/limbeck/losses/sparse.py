"""Distillation from a teacher that is known by a few classes of each position: its most likely ones, or drawn ones."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from limbeck.kernels import cpu
from limbeck.kernels import sparse as kernel
from limbeck.kernels.autograd import rows_loss
from limbeck.kernels.call import LOG_ZERO, Plan, Sweep
from limbeck.kernels.linear import Head
from limbeck.losses import checks
from limbeck.losses.dispatch import Call, Compensate, plan_of, weighted
from limbeck.losses.divergences import Divergence, ForwardKL, ReverseKL, resolve_divergence
from limbeck.losses.functional import LossParts, Reduction, Temperature, prepare
from limbeck.losses.linear import as_logits, check_head, project
from limbeck.losses.sparse_targets import SparseTargets, check_targets

Mode = Literal["tail", "zero", "renormalise", "sample"]
MODES = ("tail", "zero", "renormalise", "sample")


def sparse_distillation_loss(
    student_logits: Tensor,
    targets: SparseTargets,
    labels: Tensor | None = None,
    *,
    mode: Mode | None = None,
    temperature: float | tuple[float, float] = 1.0,
    alpha: float = 0.5,
    divergence: str | Divergence = "forward_kl",
    beta: float = 0.5,
    skew: float = 0.1,
    compensate: Compensate = True,
    label_smoothing: float = 0.0,
    ignore_index: int = -100,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: Reduction = "mean",
    num_items: Tensor | float | None = None,
    inplace: bool = False,
    return_parts: bool = False,
) -> Tensor | LossParts:
    r"""``distillation_loss`` against a teacher that is known by K classes of each position.

    What is done about the classes that are not listed is the ``mode``:

    - "tail": they are one bucket for either model, and the divergence is taken over K + 1 outcomes. For forward KL its
      gradient is p_s - p_t at the listed classes and p_s (1 - r_t / r_s) at the others, r being the mass of the rest: the
      dense gradient, were the teacher's rest shaped like the student's. It never exceeds the dense divergence.
    - "zero": the teacher gives them nothing. Pulls the student's tail to 0: biased, the more so the higher T.
    - "renormalise": both models are renormalised over the listed classes. Says nothing about the others.
    - "sample": the ids are draws from the teacher; an unbiased estimate of forward KL and of its gradient, also at another
      temperature than they were drawn at, by importance weights.

    Args:
        student_logits: (..., V), any floating dtype. Receives gradient.
        targets: ids (..., K) with what is known of them.
        labels: (...,) integers; needed unless ``alpha`` is 1.
        mode: by default "sample" for targets with counts, else "tail".
        temperature: T > 0, or a pair (T_teacher, T_student). The targets must know their log-normaliser at (the teacher's)
            T, except for "renormalise".
        alpha: as in ``distillation_loss``, and so are the following.
        divergence: "sample" knows forward KL alone; "zero" has no reverse KL, which is infinite there; "logit_mse" needs
            dense logits.

    Returns:
        As ``distillation_loss``.

    Raises:
        TypeError, ValueError: an argument of a wrong type, shape or range; the message names it and the remedy.

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
    call, plan = _plan(
        student_logits, targets, labels, mode=mode, temperature=temperature, alpha=alpha, divergence=divergence, beta=beta,
        skew=skew, compensate=compensate, label_smoothing=label_smoothing, ignore_index=ignore_index, mask=mask,
        weight=weight, reduction=reduction, num_items=num_items, inplace=inplace, parts=return_parts,
    )  # fmt: skip
    total, soft, hard = rows_loss(call.student, None, plan, _sweep(plan))
    summed = reduction != "none"
    shape = () if summed else student_logits.shape[:-1]
    if not return_parts:
        return total.reshape(shape)
    soft = None if soft is None else weighted(soft, plan.weights, summed).reshape(shape)
    hard = None if hard is None or labels is None else weighted(hard, plan.weights, summed).reshape(shape)
    return LossParts(total.reshape(shape), soft, hard)


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
    chunk: int | Literal["auto"] = "auto",
    mode: Mode | None = None,
    temperature: float | tuple[float, float] = 1.0,
    alpha: float = 0.5,
    divergence: str | Divergence = "forward_kl",
    beta: float = 0.5,
    skew: float = 0.1,
    compensate: Compensate = True,
    label_smoothing: float = 0.0,
    ignore_index: int = -100,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: Reduction = "mean",
    num_items: Tensor | float | None = None,
    return_parts: bool = False,
) -> Tensor | LossParts:
    """``sparse_distillation_loss`` from the student's hidden states: its logits are never whole.

    Args:
        student_hidden: (..., d); this and the heads' arguments are those of ``linear_distillation_loss``.
        targets: this and the following are those of ``sparse_distillation_loss``.

    Returns:
        As ``distillation_loss``.

    Raises:
        TypeError, ValueError: an argument of a wrong type, shape or range; the message names it and the remedy.

    Example:
        >>> import torch
        >>> from limbeck import SparseTargets, sparse_linear_distillation_loss
        >>> targets = SparseTargets.top_k(torch.tensor([[0.5, 3.0, -1.0, -2.0]]), k=2, temperatures=[2.0])
        >>> hidden, weight = torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 0.0], [0.0, 0.0]])
        >>> loss = sparse_linear_distillation_loss(hidden, weight, targets, alpha=1, temperature=2.0)
        >>> print(f"{loss.item():.4f}")
        0.5935
    """
    check_head("student", student_hidden, student_weight, student_bias)
    classes = len(student_weight) if vocab_size is None else vocab_size
    call, plan = _plan(
        as_logits(student_hidden, classes), targets, labels, mode=mode, temperature=temperature, alpha=alpha,
        divergence=divergence, beta=beta, skew=skew, compensate=compensate, label_smoothing=label_smoothing,
        ignore_index=ignore_index, mask=mask, weight=weight, reduction=reduction, num_items=num_items, inplace=True,
        parts=return_parts,
    )  # fmt: skip
    head = Head(student_weight, student_bias, student_logit_scale, student_softcap)
    return project(student_hidden, head, None, None, call, plan, _sweep(plan), classes, chunk, return_parts)


def _plan(
    student_logits: Tensor,
    targets: SparseTargets,
    labels: Tensor | None,
    *,
    mode: Mode | None,
    temperature: Temperature,
    alpha: float,
    divergence: str | Divergence,
    beta: float,
    skew: float,
    reduction: Reduction,
    inplace: bool,
    parts: bool,
    **options: Any,
) -> tuple[Call, Plan]:
    """Check everything; the call, and the plan with the targets in it."""
    check_targets(targets, student_logits)
    mode = mode or ("tail" if targets.counts is None else "sample")
    checks.check_choice("mode", mode, MODES)
    measure = resolve_divergence(divergence, beta=beta, skew=skew)
    _check_mode(mode, measure.simplest, targets)
    sides = tuple(temperature) if isinstance(temperature, tuple | list) else (temperature, temperature)
    if any(isinstance(t, Tensor) for t in sides):
        raise TypeError(
            "temperature: sparse targets take one number for T, or a pair (T_teacher, T_student), not a tensor."
        )
    # The teacher's logits are not there; what has their shape takes their place in the checks.
    teacher = as_logits(student_logits, student_logits.shape[-1]) if alpha > 0 or parts else None
    call, weights = prepare(
        student_logits, teacher, labels, temperature=temperature, alpha=alpha, divergence=measure, beta=beta, skew=skew,
        reduction=reduction, backend="auto", parts=parts, **options,
    )  # fmt: skip
    sparse = None if teacher is None else _rows(targets, mode, measure, float(sides[0]), call)
    plan = plan_of(call, weights, alpha, inplace, reduction != "none", targets=sparse)
    return call, plan


def _sweep(plan: Plan) -> Sweep:
    """Without a soft term there is no sparse teacher either."""
    return cpu.sweep if plan.sparse is None else kernel.sweep


def _rows(targets: SparseTargets, mode: str, measure: Divergence, t: float, call: Call) -> kernel.SparseRows:
    """The targets at T as rows, with the divergence of the mode."""

    def flat(x: Tensor) -> Tensor:
        return x.detach().to(call.student.device).reshape(len(call.student), x.shape[-1])

    ids = flat(targets.ids).long()
    if mode == "sample":
        assert targets.counts is not None
        weights = flat(targets.counts).double().masked_fill(ids < 0, 0.0)
        weights = weights / weights.sum(-1, keepdim=True).clamp(min=1)
        b = torch.zeros_like(weights)
        if targets.log_probs is not None and (t == targets.drawn_at == 1 or targets.log_normalizers):
            b = flat(targets.at(t).double())
        if t != targets.drawn_at:
            weights = weights * (b - flat(targets.at(targets.drawn_at).double())).exp()
        known, distance = (weights, b), _drawn
    elif mode == "renormalise":
        log_probs = targets.log_probs
        assert log_probs is not None
        b = flat(log_probs).double().masked_fill(ids < 0, -torch.inf)
        known, distance = (b / t,), partial(_renormalised, measure)
    else:
        b = flat(targets.at(t).double()).masked_fill(ids < 0, -torch.inf)
        rest = torch.log1p(-b.exp().sum(-1, keepdim=True).clamp(max=1.0))
        if mode == "zero":
            rest = torch.full_like(rest, -torch.inf)
        every_class = (ids >= 0).sum(-1, keepdim=True) == call.student.shape[-1]
        rest = rest.masked_fill(every_class, -torch.inf)  # what rounding left
        known, distance = (torch.cat([b, rest], -1),), partial(_with_rest, measure)
    return kernel.SparseRows(ids, tuple(x.to(call.dtype) for x in known), distance, repeated=mode == "sample")


def _with_rest(measure: Divergence, a: Tensor, b: Tensor) -> Tensor:
    """D over the listed classes and the rest as one more."""
    absent = a.isneginf() & b.isneginf()
    return measure.value(a.masked_fill(absent, LOG_ZERO), b.masked_fill(absent, LOG_ZERO), ~absent)


def _renormalised(measure: Divergence, a: Tensor, b: Tensor) -> Tensor:
    """D over the listed classes, as if there were no others; 0 where none is listed."""
    absent = b.isneginf()
    a, b = (
        torch.log_softmax(x.masked_fill(absent, LOG_ZERO), -1).masked_fill(absent, LOG_ZERO) for x in (a[:, :-1], b)
    )
    return measure.value(a, b, ~absent)


def _drawn(a: Tensor, weights: Tensor, b: Tensor) -> Tensor:
    """sum w (b - a): an unbiased estimate of forward KL, or of the cross-entropy where b is not known."""
    return (weights * (b - a[:, :-1])).masked_fill(weights == 0, 0.0).sum(-1)


def _check_mode(mode: str, measure: Divergence, targets: SparseTargets) -> None:
    if measure.on_logits:
        raise ValueError(f"divergence: {measure.name!r} compares dense logits, which sparse targets do not have.")
    if mode == "sample":
        if targets.counts is None:
            raise ValueError(
                "mode: 'sample' needs targets with counts, made by SparseTargets.sample. A top-k list is not a sample."
            )
        if not isinstance(measure, ForwardKL):
            raise ValueError(
                "divergence: only forward KL can be estimated from draws without bias; use it, or mode='tail' on a top-k list."
            )
        return
    if targets.counts is not None:
        raise ValueError(
            f"mode: these targets are draws, and {mode!r} needs a list of distinct classes. Use mode='sample'."
        )
    if targets.log_probs is None:
        raise ValueError("targets.log_probs: needed for everything but draws.")
    if mode == "zero" and isinstance(measure, ReverseKL):
        raise ValueError(
            "divergence: reverse KL is infinite where the teacher gives nothing. Use mode='tail' or 'renormalise'."
        )

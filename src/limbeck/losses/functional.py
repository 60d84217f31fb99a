"""The public functions: check what is given, compute one value per position, reduce."""

from __future__ import annotations

from typing import Literal, NamedTuple, overload

from torch import Tensor
from torch.distributed import ProcessGroup

from limbeck.losses import checks
from limbeck.losses.dispatch import BACKENDS, Call, Compensate, compute, flatten
from limbeck.losses.divergences import Divergence, LogitMSE, resolve_divergence

Temperature = float | Tensor | tuple[float | Tensor, float | Tensor]
Reduction = Literal["mean", "sum", "none"]


class LossParts(NamedTuple):
    """The total loss and its two terms before alpha mixes them: total = alpha * soft + (1 - alpha) * hard."""

    total: Tensor
    soft: Tensor | None
    """C(T) * D; None without a teacher."""
    hard: Tensor | None
    """CE at T = 1; None without labels."""


# fmt: off
@overload
def distillation_loss(
    student_logits: Tensor, teacher_logits: Tensor | None, labels: Tensor | None = ..., *, temperature: Temperature = ...,
    alpha: float = ..., divergence: str | Divergence = ..., beta: float = ..., skew: float = ...,
    compensate: Compensate = ..., label_smoothing: float = ..., ignore_index: int = ..., mask: Tensor | None = ...,
    weight: Tensor | None = ..., reduction: Reduction = ..., num_items: Tensor | float | None = ...,
    inplace: bool = ..., backend: str = ..., group: ProcessGroup | None = ..., return_parts: Literal[False] = ...,
) -> Tensor: ...
@overload
def distillation_loss(
    student_logits: Tensor, teacher_logits: Tensor | None, labels: Tensor | None = ..., *, temperature: Temperature = ...,
    alpha: float = ..., divergence: str | Divergence = ..., beta: float = ..., skew: float = ...,
    compensate: Compensate = ..., label_smoothing: float = ..., ignore_index: int = ..., mask: Tensor | None = ...,
    weight: Tensor | None = ..., reduction: Reduction = ..., num_items: Tensor | float | None = ...,
    inplace: bool = ..., backend: str = ..., group: ProcessGroup | None = ..., return_parts: Literal[True],
) -> LossParts: ...
# fmt: on
def distillation_loss(
    student_logits: Tensor,
    teacher_logits: Tensor | None,
    labels: Tensor | None = None,
    *,
    temperature: Temperature = 4.0,
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
    backend: str = "auto",
    group: ProcessGroup | None = None,
    return_parts: bool = False,
) -> Tensor | LossParts:
    r"""The distillation loss: soft targets at temperature T and hard labels at T = 1.

        loss = alpha * C(T) * D( softmax(z_t / T), softmax(z_s / T) ) + (1 - alpha) * CE(z_s, y)

    C(T) keeps the size of the soft gradient independent of T: T² for every KL, JSD and skew KL, T for total variation,
    1 for logit MSE. ``limbeck.losses.reference`` derives it.

    Args:
        student_logits: (..., V), any floating dtype. The only argument that receives gradient, besides a temperature
            that asks for it.
        teacher_logits: (..., V), any floating dtype. Never receives gradient. None only with ``alpha=0``, which has no soft
            term: a student trained alone.
        labels: (...,) integers, the true classes. Needed unless ``alpha`` is 1.
        temperature: T > 0: a number, a tensor (...,) with one T per position, or a pair (T_teacher, T_student). With a
            pair, C is taken at T_student, so that the curvature of the student's loss stays independent of T.
        alpha: the weight of the soft term, in [0, 1].
        divergence: "forward_kl", "reverse_kl", "jsd" (with ``beta``), "skew_kl", "skew_reverse_kl" (with ``skew``),
            "tvd", "logit_mse", or a ``limbeck.losses.divergences.Divergence``.
        beta: the teacher's share in the mixture of "jsd"; 0 is forward KL, 1 is reverse KL.
        skew: the share that the first distribution has in the mixture of the skew divergences, in [0, 1).
        compensate: True multiplies by C(T), False leaves it out, "curvature" divides it further by the divergence's
            second-order coefficient, so that all smooth divergences pull alike at high T and choosing one is not a
            hidden change of the learning rate.
        label_smoothing: eps in [0, 1], spread over the classes in the hard term.
        ignore_index: the label of a position without one.
        mask: bool (...,), True where a position counts; by default where ``labels != ignore_index``. A position inside
            the mask whose label is ``ignore_index`` (an unlabelled example) counts in the soft term alone.
        weight: (V,) class weights of the hard term. They do not enter the mean's denominator.
        reduction: "mean" over the counted positions, one denominator for both terms; "sum"; or "none": (...,), 0 where
            a position does not count.
        num_items: replaces the mean's denominator: the number of counted positions of the whole accumulated batch, on
            all devices, so that the gradients of its parts add up to its own.
        inplace: permits a backend to consume ``student_logits``: they hold their gradient afterwards, and no memory is
            taken for it. Who saved them for another gradient, or asks for a second backward pass, gets an error. The
            reference backend leaves them as they are.
        backend: "auto", "reference" (plain torch on whole tensors), "rows" (the CPU kernel, rows in chunks) or "triton"
            (the GPU kernel, a program for each row).
        group: a process group whose ranks hold consecutive columns of both models' logits, in rank order, of one or of
            different numbers; the rest of the arguments is the same on all, and labels count over the whole vocabulary. All
            ranks get the whole loss, each with the gradient of its columns, for two collectives over a few numbers per row
            (three for other divergences than forward and reverse KL). ``weight`` is the rank's own part.
        return_parts: return ``LossParts`` (total, soft, hard) in place of the total.

    Returns:
        A scalar, or (...,) with ``reduction="none"``, in float32; in float64 when both logits are float64. When no
        position counts: 0, attached to the graph, with gradient 0.

    Raises:
        TypeError, ValueError: an argument of a wrong type, shape or range; the message names it and the remedy.

    References:
        Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015 (arXiv 1503.02531).

    Example:
        >>> import torch
        >>> from limbeck import distillation_loss
        >>> student = torch.tensor([[1.0, 2.0, 0.5]], requires_grad=True)
        >>> teacher = torch.tensor([[0.5, 3.0, -1.0]])
        >>> loss = distillation_loss(student, teacher, torch.tensor([1]), temperature=2.0, alpha=0.5)
        >>> loss.backward()
        >>> print(f"{loss.item():.4f}", [round(g, 4) for g in student.grad[0].tolist()])
        0.4517 [0.2059, -0.408, 0.2022]
    """
    call, weights = prepare(
        student_logits, teacher_logits, labels, temperature=temperature, alpha=alpha, divergence=divergence, beta=beta,
        skew=skew, compensate=compensate, label_smoothing=label_smoothing, ignore_index=ignore_index, mask=mask,
        weight=weight, reduction=reduction, num_items=num_items, backend=backend, group=group, parts=return_parts,
    )  # fmt: skip
    values = compute(
        call, weights, alpha=alpha, backend=backend, group=group, inplace=inplace, summed=reduction != "none",
        parts=return_parts,
    )  # fmt: skip
    if reduction == "none":
        values = tuple(None if value is None else value.reshape(student_logits.shape[:-1]) for value in values)
    total, *parts = values
    assert total is not None
    return LossParts(total, *parts) if return_parts else total


def logit_mse_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    center: bool = True,
    mask: Tensor | None = None,
    reduction: Reduction = "mean",
    num_items: Tensor | float | None = None,
) -> Tensor:
    r"""Logit matching: half the mean over classes of the squared difference of row-centred logits.

        loss = 1 / (2 V) * || (z_s - mean z_s) - (z_t - mean z_t) ||²

    It is what T² KL tends to when T grows. It has no temperature.

    Args:
        student_logits: (..., V), any floating dtype.
        teacher_logits: (..., V), any floating dtype. Never receives gradient.
        center: take each row's mean away first, which softmax never sees. False compares the logits as they are.
        mask: bool (...,), True where a position counts; by default everywhere.
        reduction: "mean" over the counted positions, "sum" or "none".
        num_items: replaces the mean's denominator; see ``distillation_loss``.

    Returns:
        A scalar, or (...,) with ``reduction="none"``.

    Raises:
        TypeError, ValueError: an argument of a wrong type, shape or range; the message names it and the remedy.

    References:
        Ba and Caruana, "Do Deep Nets Really Need to be Deep?", 2014. Hinton et al., 2015, section 2.1.

    Example:
        >>> import torch
        >>> from limbeck import logit_mse_loss
        >>> logit_mse_loss(torch.tensor([[1.0, 3.0]]), torch.tensor([[7.0, 5.0]]))
        tensor(2.)
    """
    return distillation_loss(
        student_logits,
        teacher_logits,
        alpha=1.0,
        divergence=LogitMSE(center=center),
        mask=mask,
        reduction=reduction,
        num_items=num_items,
    )


def prepare(
    student_logits: Tensor,
    teacher_logits: Tensor | None,
    labels: Tensor | None,
    *,
    temperature: Temperature,
    alpha: float,
    divergence: str | Divergence,
    beta: float,
    skew: float,
    compensate: Compensate,
    label_smoothing: float,
    ignore_index: int,
    mask: Tensor | None,
    weight: Tensor | None,
    reduction: Reduction,
    num_items: Tensor | float | None,
    backend: str,
    parts: bool,
    group: ProcessGroup | None = None,
) -> tuple[Call, Tensor | float]:
    """Check every argument; the call as rows, and 1 over the mean's denominator."""
    checks.check_share("alpha", alpha)
    checks.check_logits(student_logits, teacher_logits, alpha)
    checks.check_share("label_smoothing", label_smoothing)
    checks.check_choice("compensate", compensate, (True, False, "curvature"))
    checks.check_choice("reduction", reduction, ("mean", "sum", "none"))
    checks.check_choice("backend", backend, BACKENDS)
    checks.check_group(group, backend, temperature)
    all_labelled = checks.check_labels(labels, student_logits, ignore_index, alpha, sharded=group is not None)
    checks.check_mask(mask, student_logits)
    checks.check_weight(weight, student_logits)
    checks.check_num_items(num_items, reduction)
    teacher_temperature, student_temperature = checks.split_temperature(temperature, student_logits)
    call = flatten(
        student_logits,
        teacher_logits if alpha > 0 or parts else None,
        labels if alpha < 1 or parts else None,
        counted=_counted(labels, mask, ignore_index, all_labelled),
        labelled=None if labels is None or all_labelled else labels != ignore_index,
        measure=resolve_divergence(divergence, beta=beta, skew=skew),
        teacher_temperature=teacher_temperature,
        student_temperature=student_temperature,
        compensate=compensate,
        label_smoothing=label_smoothing,
        weight=weight,
    )
    return call, call.weights(reduction, num_items)


def _counted(labels: Tensor | None, mask: Tensor | None, ignore_index: int, all_labelled: bool) -> Tensor | None:
    """Which positions count; None when all do."""
    if mask is not None or labels is None or all_labelled:
        return mask
    return labels != ignore_index

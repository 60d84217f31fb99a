"""The losses of logits: the public functions check what is given, compute one value per position, and reduce."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from limbeck.kernels.call import LossCall
from limbeck.losses import checks, kernel_choice, number_checks, reference
from limbeck.losses.arguments import (
    DEFAULT_ALPHA,
    DEFAULT_TEMPERATURE,
    IGNORE_INDEX,
    Compensate,
    Reduction,
    Temperature,
)
from limbeck.losses.class_axis import classes_last, labels_last
from limbeck.losses.dispatch import build_call, compute
from limbeck.losses.divergence_base import DivergenceChoice, resolve_divergence
from limbeck.losses.divergences import LogitMSE
from limbeck.losses.kernel_choice import kernel_for
from limbeck.losses.labels import check_labels, labelled_positions
from limbeck.losses.parts import LossParts, with_arguments_of
from limbeck.losses.plain import plain_loss


def distillation_loss(
    student_logits: Tensor,
    teacher_logits: Tensor | None,
    labels: Tensor | None = None,
    *,
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
    class_dim: int = -1,
    inplace: bool = False,
    backend: str = "auto",
    group: ProcessGroup | None = None,
) -> Tensor:
    r"""Return the distillation loss: soft targets at temperature T and hard labels at T = 1.

        loss = alpha * C(T) * D( softmax(z_t / T), softmax(z_s / T) ) + (1 - alpha) * CE(z_s, y)

    C(T) keeps the size of the soft gradient independent of T: T² for every KL, JSD and skew KL, T for total variation,
    1 for logit MSE. ``limbeck.losses.reference`` derives it.

    Args:
        student_logits: (..., V), any floating dtype. They receive gradient, and so does a temperature that asks for it. V is
            2 or more: over one column softmax is always 1.
        teacher_logits: (..., V), any floating dtype. Never receives gradient. None only with ``alpha=0``, which has no soft
            term: a student trained alone. This function does not look for NaN, nor for probabilities in the place of logits,
            which would take longer than a small loss; ``DistillationLoss`` looks once.
        labels: (...,) integers, the true classes; or the probability of each class in the form of the logits, as mixup, cutmix
            and label smoothing by hand make them. Needed unless ``alpha`` is 1. Such label rows are numbers >= 0 that sum to 1
            (checked where that is cheap: on the CPU), and may have gradient where the reference computes the call.
        temperature: T > 0: a number, a tensor (...,) with one T per position, or a pair (T_teacher, T_student). With a
            pair, C is taken at T_student, so that the curvature of the student's loss stays independent of T.
        alpha: the weight of the soft term, in [0, 1].
        divergence: "forward_kl", "reverse_kl", "jsd" (with ``beta``), "skew_kl", "skew_reverse_kl" (with ``skew``),
            "tvd", "logit_mse" or another registered name; a mapping with the name and the divergence's own parameters, as in
            ``{"name": "jsd", "beta": 0.1}``; or a ``limbeck.losses.Divergence``.
        beta: the weight of the teacher in the mixture of "jsd"; 0 is forward KL, 1 is reverse KL.
        skew: the weight of the first distribution in the mixture of the skew divergences, in [0, 1).
        compensate: True multiplies by C(T), False leaves it out, "curvature" divides it further by the divergence's
            second-order coefficient, so that all smooth divergences pull alike at high T and choosing one is not a
            hidden change of the learning rate.
        label_smoothing: eps in [0, 1], spread over the classes in the hard term.
        ignore_index: the label of a position without one; in label rows it stands in every class of such a position.
        mask: bool (...,), True where a position counts; by default where ``labels != ignore_index``. A position inside
            the mask whose label is ``ignore_index`` (an unlabelled example) counts in the soft term alone. A label outside
            the mask may be any number.
        weight: (V,) class weights of the hard term, 0 or more. They do not enter the mean's denominator.
        reduction: "mean" over the counted positions, one denominator for both terms; "sum"; or "none": (...,), 0 where
            a position does not count.
        num_items: replaces the mean's denominator: the number of counted positions of the whole accumulated batch, on
            all devices, so that the gradients of its parts add up to its own. A number or a tensor of one element; 0 only
            where no position counts. A wrong one in a tensor that only a device can read makes the loss infinite.
        class_dim: the dimension of the classes in both models' logits: 1 for the (N, C, H, W) of segmentation, with labels and
            masks of shape (N, H, W). Wherever (..., V) stands here, V is this dimension. Another than the last costs one
            copy of each model's logits, with the classes last. Shapes alone cannot show it where C = H = W.
        inplace: allows a backend to overwrite ``student_logits`` with their gradient, which then needs no memory of its own.
            If another operation has saved them for its gradient, or a second backward pass is asked for, an error is raised.
            The reference backend leaves them as they are.
        backend: "auto" for the fastest that can compute the call; "reference" (plain torch on whole tensors), "cpu" (a kernel
            that takes rows in chunks) or "triton" (a GPU kernel with a program for each row).
        group: a process group whose ranks hold consecutive columns of both models' logits, in rank order; the number of
            columns may differ. ``weight`` and label rows are the rank's own part, the other arguments are the same on all
            ranks, and integer labels count over the whole vocabulary. All ranks get the whole loss, each with the gradient of
            its columns, after two collectives over a few numbers per row (three for divergences other than forward and
            reverse KL; one more for label rows on a CPU, which checks them).

    Returns:
        A scalar, or (...,) with ``reduction="none"``, in float32; in float64 when all logits that are given are float64. When
        no position counts: 0, attached to the graph, with gradient 0.

        Second derivatives need ``backend="reference"``. Inside of the transforms of ``torch.func`` and with forward-mode
        derivatives "auto" takes the reference, and values are not checked, as in a compiled graph.

    Raises:
        ArgumentError: an argument has a wrong shape, range or choice; the message names it and the remedy. A ``ValueError``.
        ArgumentTypeError: an argument has a wrong type. A ``TypeError``.

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
    return dense_loss_parts(
        student_logits, teacher_logits, labels, temperature=temperature, alpha=alpha, divergence=divergence, beta=beta,
        skew=skew, compensate=compensate, label_smoothing=label_smoothing, ignore_index=ignore_index, mask=mask,
        weight=weight, reduction=reduction, num_items=num_items, class_dim=class_dim, inplace=inplace, backend=backend,
        group=group, with_parts=False,
    ).total  # fmt: skip


@with_arguments_of(distillation_loss)
def distillation_loss_parts(*args: Any, **options: Any) -> LossParts:
    """Return the distillation loss together with its soft and hard terms.

    Args:
        *args: the positional arguments of ``distillation_loss``.
        **options: its keyword arguments, with the same defaults.

    Returns:
        ``LossParts``: total, soft and hard, each reduced like the total. Both terms are computed whatever alpha is, as far as
        their targets are given.

    Raises:
        ArgumentError: as ``distillation_loss`` does.
        ArgumentTypeError: as ``distillation_loss`` does.

    Example:
        >>> import torch
        >>> from limbeck import distillation_loss_parts
        >>> student, teacher = torch.tensor([[1.0, 2.0, 0.5]]), torch.tensor([[0.5, 3.0, -1.0]])
        >>> parts = distillation_loss_parts(student, teacher, torch.tensor([1]), temperature=2.0, alpha=0.5)
        >>> print(f"{parts.total:.4f} = 0.5 * {parts.soft:.4f} + 0.5 * {parts.hard:.4f}")
        0.4517 = 0.5 * 0.4391 + 0.5 * 0.4644
    """
    return dense_loss_parts(*args, **options, with_parts=True)


def logit_mse_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    center: bool = True,
    mask: Tensor | None = None,
    reduction: Reduction = "mean",
    num_items: Tensor | float | None = None,
    class_dim: int = -1,
) -> Tensor:
    r"""Return the loss of logit matching: half the mean over classes of the squared difference of row-centred logits.

        loss = 1 / (2 V) * || (z_s - mean z_s) - (z_t - mean z_t) ||²

    T² KL tends to this when T grows. It has no temperature.

    Args:
        student_logits: (..., V), any floating dtype.
        teacher_logits: (..., V), any floating dtype. Never receives gradient.
        center: subtract the mean of each row first, which does not change its softmax. False compares the logits as they are.
        mask: bool (...,), True where a position counts; by default everywhere.
        reduction: "mean" over the counted positions, "sum" or "none".
        num_items: replaces the mean's denominator; see ``distillation_loss``.
        class_dim: the dimension of the classes, as in ``distillation_loss``.

    Returns:
        A scalar, or (...,) with ``reduction="none"``.

    Raises:
        ArgumentError: an argument has a wrong shape, range or choice; the message names it and the remedy. A ``ValueError``.
        ArgumentTypeError: an argument has a wrong type. A ``TypeError``.

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
        class_dim=class_dim,
    )


def dense_loss_parts(
    student_logits: Tensor,
    teacher_logits: Tensor | None,
    labels: Tensor | None = None,
    *,
    class_dim: int,
    backend: str,
    group: ProcessGroup | None,
    **options: Any,
) -> LossParts:
    """Return the loss of whole logits.

    Args:
        student_logits: as in ``distillation_loss``.
        teacher_logits: the same.
        labels: the same.
        class_dim: the same.
        backend: the same.
        group: the same.
        **options: the other arguments of ``prepare``.

    Returns:
        The total; with its terms where ``with_parts`` asks for them.
    """
    backend = checks.check_backend(backend)
    if class_dim != -1:
        labels = labels_last(labels, student_logits, class_dim)
        student_logits = classes_last("student_logits", student_logits, class_dim)
        teacher_logits = classes_last("teacher_logits", teacher_logits, class_dim)
    if group is None and backend in ("auto", "cpu") and kernel_choice.default_backend in ("auto", "cpu"):
        loss = plain_loss(student_logits, teacher_logits, labels, options)
        if loss is not None:
            return loss
    call, student, teacher = prepare(
        student_logits, teacher_logits, labels, class_dim=class_dim, backend=backend, group=group, **options
    )
    parts = compute(call, student, teacher, kernel_for(call, student, backend, group))
    return parts if call.summed else as_positions(parts, student_logits.shape[:-1])


def as_positions(parts: LossParts, shape: torch.Size) -> LossParts:
    """Return values of rows in the shape of the positions.

    Args:
        parts: (N,) each.
        shape: of the positions.

    Returns:
        The same values, in that shape.
    """
    return LossParts(*(None if part is None else part.reshape(shape) for part in parts))  # pyright: ignore[reportArgumentType]


def prepare(
    student_logits: Tensor,
    teacher_logits: Tensor | None,
    labels: Tensor | None,
    *,
    temperature: Temperature,
    alpha: float,
    divergence: DivergenceChoice,
    beta: float,
    skew: float,
    compensate: Compensate,
    label_smoothing: float,
    ignore_index: int,
    mask: Tensor | None,
    weight: Tensor | None,
    reduction: Reduction,
    num_items: Tensor | float | None,
    inplace: bool,
    with_parts: bool,
    class_dim: int | None = None,
    backend: str = "auto",
    group: ProcessGroup | None = None,
    scale: Tensor | float | None = None,
) -> tuple[LossCall, Tensor, Tensor | None]:
    """Check every argument, and return the call as rows.

    Args:
        student_logits: (..., V). This and all that is not named here is as in ``distillation_loss``.
        teacher_logits: (..., V), or None.
        labels: (...,), or None.
        temperature: T.
        alpha: the weight of the soft term.
        divergence: of the soft term.
        beta: of the JSD.
        skew: of the skew divergences.
        compensate: whether C(T) is used.
        label_smoothing: eps.
        ignore_index: the label of a position without one.
        mask: which positions count.
        weight: class weights.
        reduction: of the positions.
        num_items: the mean's denominator.
        inplace: allows the logits to be overwritten.
        with_parts: the two terms are asked for beside the total.
        class_dim: the dimension that the classes had in what was given, for the errors; None for a function that does not
            take it.
        backend: one of ``checks.BACKENDS``.
        group: the processes that hold shards of the vocabulary.
        scale: takes the place of C(T): a number, or (...,) with one for each position.

    Returns:
        The call, the student's logits, (N, V) or (B, L, V), and the teacher's in the same form, or None when the soft term
        is not asked for.

    Raises:
        ArgumentError: a wrong shape, range or choice.
        ArgumentTypeError: a wrong type.
    """
    alpha = number_checks.check_fraction("alpha", alpha)
    checks.check_logits(student_logits, teacher_logits, alpha, class_dim)
    chosen = resolve_divergence(divergence, beta=beta, skew=skew)
    has_hard_term = alpha < 1 or (with_parts and labels is not None)
    checks.check_columns(student_logits, chosen, has_hard_term=has_hard_term, sharded=group is not None)
    label_smoothing = number_checks.check_fraction("label_smoothing", label_smoothing)
    checks.check_choice("compensate", compensate, (True, False, "curvature"))
    checks.check_choice("reduction", reduction, ("mean", "sum", "none"))
    checks.check_group(group, backend)
    checks.check_mask(mask, student_logits, class_dim)
    labels, all_labelled = check_labels(
        labels, student_logits, ignore_index, alpha, mask, sharded=group is not None, class_dim=class_dim
    )
    checks.check_weight(weight, student_logits)
    labelled = None if labels is None or all_labelled else labelled_positions(labels, mask, ignore_index)
    counted = labelled if mask is None else mask
    num_items = number_checks.check_num_items(num_items, reduction, counted, student_logits)
    teacher_temperature, student_temperature = number_checks.split_temperature(temperature, student_logits)
    if scale is None:
        scale = reference.compensation(chosen, student_temperature, compensate)
    else:
        scale = number_checks.check_scale(scale, student_logits)
    given = (student_logits,) if teacher_logits is None else (student_logits, teacher_logits)
    return build_call(
        student_logits,
        teacher_logits if alpha > 0 or with_parts else None,
        labels if alpha < 1 or with_parts else None,
        counted=counted,
        labelled=labelled,
        divergence=chosen,
        teacher_temperature=teacher_temperature,
        student_temperature=student_temperature,
        compensation=scale,
        alpha=alpha,
        label_smoothing=label_smoothing,
        class_weights=weight,
        reduction=reduction,
        num_items=num_items,
        dtype=torch.float64 if all(x.dtype == torch.float64 for x in given) else torch.float32,
        with_parts=with_parts,
        inplace=inplace,
    )

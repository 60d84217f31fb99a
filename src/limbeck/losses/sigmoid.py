r"""The losses of several labels at once: each class has a sigmoid of its own, and so a distribution over "no" and "yes".

    loss = sum over classes c of  alpha * C(T) * D( (1 - q_c, q_c), (1 - p_c, p_c) ) + (1 - alpha) * BCE(z_c, y_c)

with q_c = sigmoid(z_tc / T) of the teacher, p_c = sigmoid(z_sc / T) of the student, and BCE at T = 1. The sum runs over the
classes, as that of a softmax does, and the mean over positions. A sigmoid of z is the softmax of the two logits 0 and z, with
every temperature, so the soft term is ``distillation_loss`` on these two columns.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from limbeck.errors import ArgumentError, ArgumentTypeError
from limbeck.losses import checks, number_checks
from limbeck.losses.arguments import (
    DEFAULT_ALPHA,
    DEFAULT_TEMPERATURE,
    IGNORE_INDEX,
    Compensate,
    Reduction,
    Temperature,
)
from limbeck.losses.class_axis import classes_last
from limbeck.losses.divergence_base import DivergenceChoice
from limbeck.losses.functional import dense_loss_parts
from limbeck.losses.inspection import check_numbers
from limbeck.losses.module import DistillationLoss
from limbeck.losses.parts import LossParts, with_arguments_of
from limbeck.losses.sparse_targets import SparseTargets

ENOUGH = 16
"""The number of logits that show whether they are probabilities: fewer may all lie between 0 and 1 by chance."""


def sigmoid_distillation_loss(
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
    backend: str = "auto",
) -> Tensor:
    r"""Return the distillation loss of several labels at once: an independent sigmoid for each class.

        loss = sum over classes of  alpha * C(T) * D( sigmoid(z_t / T), sigmoid(z_s / T) ) + (1 - alpha) * BCE(z_s, y)

    The mean is over positions, not over classes: ``torch.nn.BCEWithLogitsLoss`` divides by the number of classes as well.

    Args:
        student_logits: (..., C), any floating dtype. They receive gradient. C may be 1.
        teacher_logits: (..., C), any floating dtype. Never receives gradient. None only with ``alpha=0``.
        labels: (..., C), 1 where a position has the class and 0 where it has not, or a number between; ``ignore_index``
            where that is not known. Needed unless ``alpha`` is 1.
        temperature: T > 0: a number, a tensor (...,) with one T per position, or a pair (T_teacher, T_student).
        alpha: the weight of the soft term, in [0, 1].
        divergence: between the teacher's and the student's distribution over "no" and "yes" of each class; as in
            ``distillation_loss``, and so are the next three.
        beta: of "jsd".
        skew: of the skew divergences.
        compensate: whether C(T) is used.
        label_smoothing: eps in [0, 1]: a label y becomes (1 - eps) y + eps / 2.
        ignore_index: the label of a class that is not known. It has no hard term.
        mask: bool (...,), True where a position counts; by default where at least one label is known.
        weight: (C,), the weight of each class's hard term. They do not enter the mean's denominator.
        reduction: "mean" over the counted positions, "sum", or "none": (...,).
        num_items: replaces the mean's denominator; see ``distillation_loss``.
        class_dim: the dimension of the classes in both models' logits and in the labels.
        backend: computes the soft term; see ``distillation_loss``.

    Returns:
        A scalar, or (...,) with ``reduction="none"``, in float32; in float64 when both logits are float64.

    Raises:
        ArgumentError: an argument has a wrong shape, range or choice; the message names it and the remedy.
        ArgumentTypeError: an argument has a wrong type.

    Example:
        >>> import torch
        >>> from limbeck.losses import sigmoid_distillation_loss
        >>> student, teacher = torch.tensor([[1.0, -2.0, 0.5]]), torch.tensor([[2.0, -3.0, 1.0]])
        >>> loss = sigmoid_distillation_loss(student, teacher, torch.tensor([[1, 0, 1]]), temperature=2.0, alpha=0.5)
        >>> print(f"{loss.item():.4f}")
        0.5660
    """
    return sigmoid_loss_parts(
        student_logits, teacher_logits, labels, temperature=temperature, alpha=alpha, divergence=divergence, beta=beta,
        skew=skew, compensate=compensate, label_smoothing=label_smoothing, ignore_index=ignore_index, mask=mask,
        weight=weight, reduction=reduction, num_items=num_items, class_dim=class_dim, backend=backend, with_parts=False,
    ).total  # fmt: skip


@with_arguments_of(sigmoid_distillation_loss)
def sigmoid_distillation_loss_parts(*args: Any, **options: Any) -> LossParts:
    """Return the distillation loss of several labels at once together with its soft and hard terms.

    Args:
        *args: the positional arguments of ``sigmoid_distillation_loss``.
        **options: its keyword arguments, with the same defaults.

    Returns:
        ``LossParts``: total, soft and hard, each reduced like the total.

    Raises:
        ArgumentError: as ``sigmoid_distillation_loss`` does.
        ArgumentTypeError: as ``sigmoid_distillation_loss`` does.
    """
    return sigmoid_loss_parts(*args, **options, with_parts=True)


def sigmoid_loss_parts(
    student_logits: Tensor,
    teacher_logits: Tensor | None,
    labels: Tensor | None = None,
    *,
    temperature: Temperature,
    alpha: float,
    label_smoothing: float,
    ignore_index: int,
    mask: Tensor | None,
    weight: Tensor | None,
    reduction: Reduction,
    num_items: Tensor | float | None,
    class_dim: int,
    with_parts: bool,
    scale: Tensor | float | None = None,
    **of_soft_term: Any,
) -> LossParts:
    """Return the loss with the terms that are asked for.

    Args:
        student_logits: as in ``sigmoid_distillation_loss``, and so are all that are not named here.
        teacher_logits: the same.
        labels: the same.
        temperature: the same.
        alpha: the same.
        label_smoothing: the same.
        ignore_index: the same.
        mask: the same.
        weight: the same.
        reduction: the same.
        num_items: the same.
        class_dim: the same.
        with_parts: the two terms are asked for beside the total.
        scale: takes the place of C(T): a number, or (...,) with one for each position.
        **of_soft_term: ``divergence``, ``beta``, ``skew``, ``compensate`` and ``backend``.

    Returns:
        The total; and each term whose targets are given, if it is asked for or weighs in the total.
    """
    student = classes_last("student_logits", student_logits, class_dim)
    teacher = classes_last("teacher_logits", teacher_logits, class_dim)
    labels = classes_last("labels", labels, class_dim)
    alpha = number_checks.check_fraction("alpha", alpha)
    label_smoothing = number_checks.check_fraction("label_smoothing", label_smoothing)
    checks.check_choice("reduction", reduction, ("mean", "sum", "none"))
    checks.check_logits(student, teacher, alpha, class_dim)
    checks.check_mask(mask, student)
    _check_labels(labels, student, mask, ignore_index, alpha)
    checks.check_weight(weight, student)
    both_double = all(logits.dtype == torch.float64 for logits in (student, teacher) if logits is not None)
    student = student.to(torch.float64 if both_double else torch.float32)
    known = None if labels is None else labels != ignore_index
    counted = mask
    if counted is None:
        counted = torch.ones_like(student[..., 0], dtype=torch.bool) if known is None else known.any(-1)
    num_items = number_checks.check_num_items(num_items, reduction, counted, student)
    soft = hard = None
    if teacher is not None and (alpha > 0 or with_parts):
        soft = _soft_rows(student, teacher, counted, temperature, scale, of_soft_term)
    if labels is not None and known is not None and (alpha < 1 or with_parts):
        known = known & counted.unsqueeze(-1)
        hard = _hard_rows(student, labels, known, weight, label_smoothing)
    weighted = [part * rows for part, rows in ((alpha, soft), (1 - alpha, hard)) if rows is not None and part > 0]
    parts = (sum(weighted[1:], weighted[0]), soft, hard)
    return LossParts(*(None if rows is None else _reduced(rows, counted, reduction, num_items) for rows in parts))  # pyright: ignore[reportArgumentType]


def _soft_rows(
    student: Tensor,
    teacher: Tensor,
    counted: Tensor,
    temperature: Temperature,
    scale: Tensor | float | None,
    of_soft_term: dict[str, Any],
) -> Tensor:
    """Return C(T) D summed over the classes, (...,), by the two columns whose softmax is the sigmoid."""

    def for_each_class(value: Any) -> Any:
        is_of_positions = isinstance(value, Tensor) and value.dim() > 0
        return value.unsqueeze(-1).expand(student.shape) if is_of_positions else value

    if isinstance(temperature, tuple | list):
        temperature = tuple(map(for_each_class, temperature))  # pyright: ignore[reportAssignmentType]
    return dense_loss_parts(
        _no_and_yes(student), _no_and_yes(teacher), None, temperature=for_each_class(temperature), alpha=1.0,
        scale=for_each_class(scale), mask=for_each_class(counted), reduction="none", label_smoothing=0.0,
        ignore_index=IGNORE_INDEX, weight=None, num_items=None, class_dim=-1, inplace=False, group=None, with_parts=False,
        **of_soft_term,
    ).total.sum(-1)  # fmt: skip


def _no_and_yes(logits: Tensor) -> Tensor:
    """Return the logits of "no" and "yes" of each class: (..., C) becomes (..., C, 2).

    The likelier one is 0, so that the gradient comes from the other: where one is sure, its own gradient has no digits left.
    """
    yes, zero = logits > 0, logits.new_zeros(())
    return torch.stack([torch.where(yes, -logits, zero), torch.where(yes, zero, logits)], -1)


def _hard_rows(student: Tensor, labels: Tensor, known: Tensor, weight: Tensor | None, label_smoothing: float) -> Tensor:
    """Return BCE at T = 1 summed over the classes whose label is known: (...,)."""
    wanted = labels.to(student.dtype).masked_fill(~known, 0.0) * (1 - label_smoothing) + label_smoothing / 2
    terms = binary_cross_entropy_with_logits(student.masked_fill(~known, 0.0), wanted, weight, reduction="none")
    return terms.masked_fill(~known, 0.0).sum(-1)


def _reduced(rows: Tensor, counted: Tensor, reduction: Reduction, num_items: Tensor | float | None) -> Tensor:
    """Return the values of the positions reduced; a position that does not count is 0 already."""
    if reduction == "none":
        return rows
    if reduction == "sum":
        return rows.sum()
    if num_items is None:
        return rows.sum() / counted.sum().clamp(min=1)
    return rows.sum() / (num_items.to(rows).reshape(()) if isinstance(num_items, Tensor) else num_items or 1)


def _check_labels(labels: Any, student: Tensor, mask: Tensor | None, ignore_index: int, alpha: float) -> None:
    """Require a label between 0 and 1 for each class of each position, or ``ignore_index``; labels unless alpha is 1."""
    if labels is None:
        if alpha < 1:
            raise ArgumentError(
                "labels",
                f"needed for the hard term when alpha = {alpha}. Pass labels, or alpha=1 for soft targets only.",
            )
        return
    if not isinstance(labels, Tensor) or labels.is_complex():
        got = labels.dtype if isinstance(labels, Tensor) else type(labels).__name__
        raise ArgumentTypeError("labels", f"expected a tensor of numbers between 0 and 1, got {got}.")
    if labels.shape != student.shape:
        raise ArgumentError(
            "labels",
            f"expected one for each class, shape {tuple(student.shape)}, got {tuple(labels.shape)}. Where each position has "
            "one class, use distillation_loss, or torch.nn.functional.one_hot(labels, classes).",
        )
    if checks.is_cheap_to_read(labels):
        labels = labels if mask is None else labels[mask]
        wrong = labels[(labels != ignore_index) & ~((labels >= 0) & (labels <= 1))]
        if wrong.numel():
            raise ArgumentError(
                "labels",
                f"{wrong[0].item():g} is not between 0 and 1, nor ignore_index = {ignore_index} for a label that is not known.",
            )


class SigmoidDistillationLoss(DistillationLoss):
    """``limbeck.losses.sigmoid_distillation_loss`` with its settings held in a module.

    It takes the settings of ``DistillationLoss``, except for ``inplace`` and ``group``. It looks once at the first teacher's
    logits that it sees: NaN is an error, as are probabilities in the place of logits.

    Example:
        >>> import torch
        >>> from limbeck.losses import SigmoidDistillationLoss
        >>> objective = SigmoidDistillationLoss(temperature=2.0, alpha=0.5)
        >>> student, teacher = torch.tensor([[1.0, -2.0, 0.5]]), torch.tensor([[2.0, -3.0, 1.0]])
        >>> print(f"{objective(student, teacher, torch.tensor([[1, 0, 1]])).item():.4f}")
        0.5660
    """

    def _check_settings(self) -> None:
        for name in ("inplace", "group"):
            if getattr(self, name):
                raise ArgumentError(name, "the loss of several labels at once does not take it. Leave it out.")
        logits = torch.zeros(*self._positions(), 1 if self.weight is None else len(self.weight))
        weight = None if self.weight is None else self.weight.cpu()
        self._loss(logits, logits, logits, with_parts=True, class_dim=-1, weight=weight, backend="auto")

    def _inspect(self, teacher: Tensor, labels: Tensor | None, mask: Tensor | None, temperature: Temperature) -> bool:
        """Check that the logits are no probabilities of several labels. Return False if these cannot tell, as small logits.

        The logits of a teacher that has learned little lie close to 0, and by chance all between 0 and 1. Where a class is
        likely, a probability is above 1/2.
        """
        rows = classes_last("teacher_logits", teacher.detach(), self.class_dim)
        rows = rows if mask is None else rows[mask]
        check_numbers("teacher_logits", rows)
        if bool(((rows < 0) | (rows > 1)).any()):
            return True
        if rows.numel() < ENOUGH or bool((rows == rows[0]).all()) or bool((rows <= 0.5).all()):
            return False
        raise ArgumentError(
            "teacher_logits",
            "all lie between 0 and 1: these are probabilities, and the losses take logits. Pass teacher.logit().",
        )

    def _loss(
        self,
        student_logits: Tensor,
        teacher: Tensor | SparseTargets | None,
        labels: Tensor | None,
        *,
        mask: Tensor | None = None,
        num_items: Tensor | float | None = None,
        **changed: Any,
    ) -> LossParts:
        """Return the loss with the module's settings, except for those that are changed."""
        if isinstance(teacher, SparseTargets):
            raise ArgumentError(
                "teacher",
                "sparse targets are the few likely classes of a softmax. Several labels at once need all logits.",
            )
        own = {"mask": mask, "num_items": num_items, "class_dim": self.class_dim, "backend": self.backend}
        return sigmoid_loss_parts(student_logits, teacher, labels, **self._settings() | own | changed)

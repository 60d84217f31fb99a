r"""The losses of outputs that are numbers: a distance between the student's and the teacher's, without any softmax.

    loss = alpha * D(z_t, z_s) + (1 - alpha) * (mean over outputs of (z_s - y)²)

D is the mean over outputs of (z_s - z_t)² ("mse"), or 1 - cos(z_s, z_t) ("cosine"). The mean is over positions. There are no
probabilities, so there is no temperature.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from limbeck.errors import ArgumentError, ArgumentTypeError
from limbeck.losses import checks, number_checks
from limbeck.losses.arguments import DEFAULT_ALPHA, DEFAULT_TEMPERATURE, Reduction
from limbeck.losses.inspection import check_numbers
from limbeck.losses.module import DistillationLoss
from limbeck.losses.parts import LossParts, with_arguments_of
from limbeck.losses.sparse_targets import SparseTargets

Distance = Literal["mse", "cosine"]
"""How far outputs are apart: the mean of squared differences, or 1 minus the cosine of the angle between them."""
DISTANCES: tuple[Distance, ...] = ("mse", "cosine")
NO_TEMPERATURE = (
    "these outputs are numbers, not the logits of a softmax: there are no probabilities that a temperature could soften. "
    "Leave it out."
)
"""Why the losses here take no temperature."""


def distance_distillation_loss(
    student_outputs: Tensor,
    teacher_outputs: Tensor | None,
    labels: Tensor | None = None,
    *,
    distance: Distance = "mse",
    alpha: float = DEFAULT_ALPHA,
    mask: Tensor | None = None,
    reduction: Reduction = "mean",
    num_items: Tensor | float | None = None,
) -> Tensor:
    r"""Return the distillation loss of outputs that are numbers, as in regression or in embeddings.

        loss = alpha * D(teacher, student) + (1 - alpha) * MSE(student, labels)

    Args:
        student_outputs: (..., K), any floating dtype. They receive gradient.
        teacher_outputs: (..., K), any floating dtype. Never receives gradient. None only with ``alpha=0``.
        labels: (..., K), the true numbers. A position with a NaN has no label, and no hard term. Needed unless ``alpha`` is 1.
        distance: D: "mse", the mean over outputs of the squared difference; or "cosine", 1 minus the cosine of the angle.
        alpha: the weight of the soft term, in [0, 1].
        mask: bool (...,), True where a position counts; by default all do.
        reduction: "mean" over the counted positions, "sum", or "none": (...,).
        num_items: replaces the mean's denominator; see ``distillation_loss``.

    Returns:
        A scalar, or (...,) with ``reduction="none"``, in float32; in float64 when both outputs are float64.

    Raises:
        ArgumentError: an argument has a wrong shape, range or choice; the message names it and the remedy.
        ArgumentTypeError: an argument has a wrong type.

    Example:
        >>> import torch
        >>> from limbeck.losses import distance_distillation_loss
        >>> student, teacher, labels = torch.tensor([[1.0], [2.0]]), torch.tensor([[2.0], [4.0]]), torch.tensor([[3.0], [3.0]])
        >>> distance_distillation_loss(student, teacher, labels, alpha=0.5)
        tensor(2.5000)
    """
    return distance_distillation_loss_parts(
        student_outputs, teacher_outputs, labels, distance=distance, alpha=alpha, mask=mask, reduction=reduction,
        num_items=num_items,
    ).total  # fmt: skip


@with_arguments_of(distance_distillation_loss)
def distance_distillation_loss_parts(
    student_outputs: Tensor,
    teacher_outputs: Tensor | None,
    labels: Tensor | None = None,
    *,
    distance: Distance,
    alpha: float,
    mask: Tensor | None,
    reduction: Reduction,
    num_items: Tensor | float | None,
) -> LossParts:
    """Return the distillation loss of outputs that are numbers together with its soft and hard terms.

    Args:
        student_outputs: as in ``distance_distillation_loss``, and so are all others.
        teacher_outputs: the same.
        labels: the same.
        distance: the same.
        alpha: the same.
        mask: the same.
        reduction: the same.
        num_items: the same.

    Returns:
        ``LossParts``: total, soft and hard, each reduced like the total.

    Raises:
        ArgumentError: as ``distance_distillation_loss`` does.
        ArgumentTypeError: as ``distance_distillation_loss`` does.
    """
    alpha = number_checks.check_fraction("alpha", alpha)
    checks.check_choice("reduction", reduction, ("mean", "sum", "none"))
    checks.check_choice("distance", distance, DISTANCES)
    _check_outputs(student_outputs, teacher_outputs, labels, alpha, distance)
    checks.check_mask(mask, student_outputs)
    both_double = all(t is None or t.dtype == torch.float64 for t in (student_outputs, teacher_outputs))
    student = student_outputs.to(torch.float64 if both_double else torch.float32)
    counted = torch.ones_like(student[..., 0], dtype=torch.bool) if mask is None else mask
    num_items = number_checks.check_num_items(num_items, reduction, counted, student)
    soft = hard = None
    if teacher_outputs is not None:
        teacher = teacher_outputs.detach().to(student.dtype).masked_fill(~counted.unsqueeze(-1), 0.0)
        within = student.masked_fill(~counted.unsqueeze(-1), 0.0)
        is_mse = distance == "mse"
        soft = (within - teacher).square().mean(-1) if is_mse else 1 - cosine_similarity(within, teacher, -1)
    if labels is not None:
        known = counted & is_known(labels)
        missing = ~known.unsqueeze(-1)
        hard = (student.masked_fill(missing, 0.0) - labels.to(student).masked_fill(missing, 0.0)).square().mean(-1)
    weighted = [part * rows for part, rows in ((alpha, soft), (1 - alpha, hard)) if rows is not None and part > 0]
    rows_of_parts = (sum(weighted[1:], weighted[0]), soft, hard)
    return LossParts(
        *(None if rows is None else _reduced(rows, counted, reduction, num_items) for rows in rows_of_parts)  # pyright: ignore[reportArgumentType]
    )


def is_known(labels: Tensor) -> Tensor:
    """Return a bool tensor (...,), True at the positions whose numbers are all known.

    Args:
        labels: (..., K), NaN where a number is not known.
    """
    return ~labels.isnan().any(-1)


def _reduced(rows: Tensor, counted: Tensor, reduction: Reduction, num_items: Tensor | float | None) -> Tensor:
    """Return the values of the positions reduced, 0 at those that do not count."""
    rows = rows.masked_fill(~counted, 0.0)
    if reduction == "none":
        return rows
    if reduction == "sum":
        return rows.sum()
    if num_items is None:
        return rows.sum() / counted.sum().clamp(min=1)
    return rows.sum() / (num_items.to(rows).reshape(()) if isinstance(num_items, Tensor) else num_items or 1)


def _check_outputs(student: Any, teacher: Any, labels: Any, alpha: float, distance: str) -> None:
    """Require floating-point outputs of one shape (..., K), labels of that shape, and what alpha needs."""
    given = {"student_outputs": student}
    if teacher is not None or alpha > 0:
        given["teacher_outputs"] = teacher
    for name, outputs in given.items():
        if not isinstance(outputs, Tensor) or not outputs.is_floating_point():
            got = outputs.dtype if isinstance(outputs, Tensor) else type(outputs).__name__
            raise ArgumentTypeError(name, f"expected a floating-point tensor (..., K), got {got}.")
        if outputs.dim() == 0 or outputs.shape[-1] == 0:
            raise ArgumentError(name, f"expected shape (..., K) with at least one output, got {tuple(outputs.shape)}.")
    if teacher is not None and teacher.shape != student.shape:
        raise ArgumentError(
            "teacher_outputs",
            f"shape {tuple(teacher.shape)}, but student_outputs have {tuple(student.shape)}. Both models need the same batch "
            "and the same outputs; embeddings of another width need a torch.nn.Linear after the student.",
        )
    if teacher is not None and distance == "cosine" and student.shape[-1] == 1:
        raise ArgumentError(
            "distance", "the cosine of single numbers is their sign alone. Take distance='mse' for one output."
        )
    if labels is None:
        if alpha < 1:
            raise ArgumentError(
                "labels",
                f"needed for the hard term when alpha = {alpha}. Pass labels, or alpha=1 for the teacher alone.",
            )
        return
    if not isinstance(labels, Tensor) or labels.is_complex() or labels.dtype == torch.bool:
        got = labels.dtype if isinstance(labels, Tensor) else type(labels).__name__
        raise ArgumentTypeError("labels", f"expected a tensor of numbers, got {got}.")
    if labels.shape != student.shape:
        raise ArgumentError(
            "labels",
            f"expected one for each output, shape {tuple(student.shape)}, got {tuple(labels.shape)}. For one output: "
            "labels.unsqueeze(-1).",
        )


class DistanceLoss(DistillationLoss):
    """``limbeck.losses.distance_distillation_loss`` with its settings held in a module.

    It is called like ``DistillationLoss``. Of that loss's settings it takes ``alpha`` and ``reduction``; the others belong to a
    softmax and are refused.

    Args:
        distance: "mse", the default, or "cosine".
        **settings: those of ``DistillationLoss``.

    Raises:
        ArgumentError: a setting has a wrong range or choice, or belongs to a softmax, as the temperature.
        ArgumentTypeError: a setting has a wrong type.

    Example:
        >>> import torch
        >>> from limbeck.losses import DistanceLoss
        >>> objective = DistanceLoss(alpha=0.5)
        >>> objective(torch.tensor([[1.0]]), torch.tensor([[2.0]]), torch.tensor([[3.0]]))
        tensor(2.5000)
        >>> objective
        DistanceLoss(alpha=0.5, distance='mse')
    """

    def __init__(self, *, distance: Distance = "mse", **settings: Any) -> None:
        checks.check_choice("distance", distance, DISTANCES)
        super().__init__(**settings)
        self.distance: Distance = distance

    def _check_settings(self) -> None:
        number_checks.check_fraction("alpha", self.alpha)
        checks.check_choice("reduction", self.reduction, ("mean", "sum", "none"))
        if not (number_checks.is_number(self.temperature) and self.temperature == DEFAULT_TEMPERATURE):
            raise ArgumentError("temperature", NO_TEMPERATURE)
        plain = DistillationLoss()
        for name in ("divergence", "compensate", "label_smoothing", "ignore_index", "class_dim", "inplace", "group"):
            if getattr(self, name) != getattr(plain, name):
                raise ArgumentError(
                    name,
                    f"{getattr(self, name)!r} is for the classes of a softmax, and these outputs are numbers. Leave it out.",
                )
        if self.weight is not None:
            raise ArgumentError("weight", "is for classes, and these outputs are numbers. Leave it out.")

    def _inspect(self, teacher: Tensor, labels: Tensor | None, mask: Tensor | None, temperature: Any) -> bool:
        """Check that the outputs are numbers."""
        check_numbers("teacher_outputs", teacher, mask)
        return True

    def _loss(
        self,
        student_logits: Tensor,
        teacher: Tensor | SparseTargets | None,
        labels: Tensor | None,
        *,
        mask: Tensor | None = None,
        num_items: Tensor | float | None = None,
        temperature: Any = DEFAULT_TEMPERATURE,
        **_changed: Any,
    ) -> LossParts:
        """Return the loss with the module's settings."""
        if isinstance(teacher, SparseTargets):
            raise ArgumentError("teacher", "sparse targets are the few likely classes of a softmax. Give all outputs.")
        if temperature is not DEFAULT_TEMPERATURE and temperature != DEFAULT_TEMPERATURE:
            raise ArgumentError("temperature", NO_TEMPERATURE)
        return distance_distillation_loss_parts(
            student_logits, teacher, labels, distance=self.distance, alpha=self.alpha, mask=mask,
            reduction=self.reduction, num_items=num_items,
        )  # fmt: skip

    def extra_repr(self) -> str:
        """Return the settings that ``repr`` shows."""
        return f"alpha={self.alpha}, distance={self.distance!r}"


class EmbeddingLoss(DistanceLoss):
    """The ``DistanceLoss`` of embeddings. Nobody labels those, so there is no hard term and ``alpha`` is 1.

    Args:
        alpha: 1; its default in other losses is taken as 1.
        **settings: those of ``DistanceLoss``.

    Raises:
        ArgumentError: ``alpha`` is another number, or as ``DistanceLoss`` does.

    Example:
        >>> from limbeck.losses import EmbeddingLoss
        >>> EmbeddingLoss(distance="cosine")
        EmbeddingLoss(alpha=1.0, distance='cosine')
    """

    def __init__(self, *, alpha: float = DEFAULT_ALPHA, **settings: Any) -> None:
        if alpha not in (1, DEFAULT_ALPHA):
            raise ArgumentError(
                "alpha",
                f"embeddings have no labels, so there is no hard term and alpha is 1, got {alpha!r}. Leave it out.",
            )
        super().__init__(alpha=1.0, **settings)

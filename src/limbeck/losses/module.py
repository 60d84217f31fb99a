"""The losses as modules: they hold the settings, look once at the teacher, and call the functions."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from limbeck.losses import checks
from limbeck.losses.dispatch import Compensate
from limbeck.losses.divergences import Divergence, resolve_divergence
from limbeck.losses.functional import LossParts, Reduction, Temperature, distillation_loss
from limbeck.losses.sparse import sparse_distillation_loss
from limbeck.losses.sparse_targets import SparseTargets


class DistillationLoss(nn.Module):
    """``limbeck.distillation_loss`` with its settings held in a module.

    The first rows of the teacher that it sees are looked at once: NaN is an error, and a teacher that is one-hot at this
    temperature is a warning with the number.

    Args:
        temperature: as in ``limbeck.distillation_loss``, and so are all the others.

    Example:
        >>> import torch
        >>> from limbeck import DistillationLoss
        >>> objective = DistillationLoss(temperature=2.0, alpha=0.9)
        >>> student, teacher = torch.tensor([[1.0, 2.0, 0.5]]), torch.tensor([[0.5, 3.0, -1.0]])
        >>> print(f"{objective(student, teacher, torch.tensor([1])).item():.4f}")
        0.4416
        >>> objective
        DistillationLoss(temperature=2.0, alpha=0.9, divergence=ForwardKL())
    """

    weight: Tensor | None

    def __init__(
        self,
        *,
        temperature: Temperature = 4.0,
        alpha: float = 0.5,
        divergence: str | Divergence = "forward_kl",
        beta: float = 0.5,
        skew: float = 0.1,
        compensate: Compensate = True,
        label_smoothing: float = 0.0,
        ignore_index: int = -100,
        weight: Tensor | None = None,
        reduction: Reduction = "mean",
        inplace: bool = False,
        backend: str = "auto",
    ) -> None:
        super().__init__()
        self.temperature = temperature
        self.alpha = alpha
        self.divergence = resolve_divergence(divergence, beta=beta, skew=skew)
        self.compensate: Compensate = compensate
        self.label_smoothing = label_smoothing
        self.ignore_index = ignore_index
        self.register_buffer("weight", weight, persistent=False)
        self.reduction: Reduction = reduction
        self.inplace = inplace
        self.backend = backend
        self._teacher_seen = False
        self._check_settings()

    def forward(
        self,
        student_logits: Tensor,
        teacher: Tensor | SparseTargets | None,
        labels: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        num_items: Tensor | float | None = None,
    ) -> Tensor:
        """The loss of a batch; ``teacher`` is its logits, or sparse targets as in ``limbeck.sparse_distillation_loss``."""
        return self.parts(student_logits, teacher, labels, mask=mask, num_items=num_items).total

    def parts(
        self,
        student_logits: Tensor,
        teacher: Tensor | SparseTargets | None,
        labels: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        num_items: Tensor | float | None = None,
        temperature: Temperature | None = None,
        scale: Tensor | float | None = None,
    ) -> LossParts:
        """The loss of a batch with its soft and hard terms.

        Args:
            student_logits: as in ``limbeck.distillation_loss``, and so are the others that are not named here.
            teacher: its logits, or sparse targets.
            labels: hard labels.
            mask: which positions count.
            num_items: the mean's denominator.
            temperature: for this batch, in the place of the module's own.
            scale: a number, or (...,) one for each position, in the place of C(T).
        """
        if not self._teacher_seen and isinstance(teacher, Tensor):
            checks.check_logits(student_logits, teacher, self.alpha)
            checks.inspect_teacher(teacher, self.temperature, self._counted(labels, mask))
            self._teacher_seen = True
        changed: dict[str, Any] = {} if temperature is None else {"temperature": temperature}
        if scale is None:
            return self._loss(student_logits, teacher, labels, mask=mask, num_items=num_items, **changed)
        changed |= {"compensate": False, "reduction": "none"}
        rows = self._loss(student_logits, teacher, labels, mask=mask, **changed)
        return self._reduced(rows, scale, self._counted(labels, mask), num_items)

    def _counted(self, labels: Tensor | None, mask: Tensor | None) -> Tensor | None:
        return labels != self.ignore_index if mask is None and labels is not None else mask

    def _reduced(
        self, rows: LossParts, scale: Tensor | float, counted: Tensor | None, num_items: Tensor | float | None
    ) -> LossParts:
        """The soft term of every position scaled, and both reduced as the module was told."""
        soft, hard = None if rows.soft is None else rows.soft * scale, rows.hard
        total = sum((w * x for w, x in ((self.alpha, soft), (1 - self.alpha, hard)) if w and x is not None))
        parts = LossParts(cast(Tensor, total), soft, hard)
        if self.reduction == "none":
            return parts
        share: Tensor | float = 1.0
        if self.reduction == "mean":
            number = parts.total.numel() if counted is None else counted.sum().clamp(min=1)
            share = 1 / (number if num_items is None else num_items)
        return LossParts(*(None if x is None else x.sum() * share for x in (parts.total, soft, hard)))  # pyright: ignore[reportArgumentType]

    def _check_settings(self) -> None:
        """Ask the function itself, so that a wrong setting is known before the first batch."""
        sides = self.temperature if isinstance(self.temperature, tuple | list) else (self.temperature,)
        positions = next((side.shape for side in sides if isinstance(side, Tensor) and side.dim()), (1,))
        classes, device = (2, None) if self.weight is None else (len(self.weight), self.weight.device)
        logits = torch.zeros(*positions, classes, device=device)
        self._loss(logits, logits, torch.zeros(positions, dtype=torch.long, device=device))

    def _loss(
        self,
        student_logits: Tensor,
        teacher: Tensor | SparseTargets | None,
        labels: Tensor | None,
        mask: Tensor | None = None,
        num_items: Tensor | float | None = None,
        **changed: Any,
    ) -> LossParts:
        settings: dict[str, Any] = dict(
            temperature=self.temperature,
            alpha=self.alpha,
            divergence=self.divergence,
            compensate=self.compensate,
            label_smoothing=self.label_smoothing,
            ignore_index=self.ignore_index,
            mask=mask,
            weight=self.weight,
            reduction=self.reduction,
            num_items=num_items,
            inplace=self.inplace,
            return_parts=True,
        )
        settings |= changed
        if isinstance(teacher, SparseTargets):
            return cast(LossParts, sparse_distillation_loss(student_logits, teacher, labels, **settings))
        return distillation_loss(student_logits, teacher, labels, backend=self.backend, **settings)

    def extra_repr(self) -> str:
        return f"temperature={self.temperature}, alpha={self.alpha}, divergence={self.divergence}"

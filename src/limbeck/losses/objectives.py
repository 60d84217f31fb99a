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
from limbeck.losses.targets import SparseTargets


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
    ) -> LossParts:
        """The loss of a batch with its soft and hard terms."""
        if not self._teacher_seen and isinstance(teacher, Tensor):
            checks.check_logits(student_logits, teacher, self.alpha)
            counted = labels != self.ignore_index if mask is None and labels is not None else mask
            checks.inspect_teacher(teacher, self.temperature, counted)
            self._teacher_seen = True
        return self._loss(student_logits, teacher, labels, mask=mask, num_items=num_items)

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
        if isinstance(teacher, SparseTargets):
            return cast(LossParts, sparse_distillation_loss(student_logits, teacher, labels, **settings))
        return distillation_loss(student_logits, teacher, labels, backend=self.backend, **settings)

    def extra_repr(self) -> str:
        return f"temperature={self.temperature}, alpha={self.alpha}, divergence={self.divergence}"

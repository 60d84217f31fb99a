"""The losses as a module: it holds the settings, looks once at the teacher, and calls the functions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed import ProcessGroup

from limbeck.errors import ArgumentError
from limbeck.kernels.call import RowKernel
from limbeck.losses import checks
from limbeck.losses.arguments import (
    DEFAULT_ALPHA,
    DEFAULT_TEMPERATURE,
    IGNORE_INDEX,
    Compensate,
    Reduction,
    Temperature,
)
from limbeck.losses.class_axis import check_class_dim, classes_last, labels_last
from limbeck.losses.divergence_base import DivergenceChoice, resolve_divergence
from limbeck.losses.functional import dense_loss_parts
from limbeck.losses.inspection import inspect_teacher
from limbeck.losses.labels import counted_positions
from limbeck.losses.linear import unprojected_loss_parts
from limbeck.losses.parts import LossParts
from limbeck.losses.projection import Unprojected, Watch
from limbeck.losses.sparse import sparse_loss_parts, unprojected_sparse_loss_parts
from limbeck.losses.sparse_targets import SparseTargets


class DistillationLoss(nn.Module):
    """``limbeck.distillation_loss`` with its settings held in a module.

    It looks once at the first teacher's logits that it sees, outside of ``torch.compile``: NaN is an error, as are
    probabilities in the place of logits, and a teacher that is one-hot at this temperature is a warning with the number.

    Args:
        temperature: T > 0, 4 by default: a number, a tensor (...,) with one T per position, or a pair (T_teacher, T_student).
        alpha: the weight of the soft term, in [0, 1], 0.9 by default. With 0 there is no teacher.
        divergence: of the soft term, "forward_kl" by default: a name, a mapping with the name and the divergence's own
            parameters, or a ``limbeck.losses.Divergence``.
        beta: the weight of the teacher in the mixture of "jsd", 0.5 by default.
        skew: the weight of the first distribution in the mixture of the skew divergences, 0.1 by default.
        compensate: True, the default, multiplies the soft term by C(T); "curvature" also divides by the divergence's
            second-order coefficient; False does neither.
        label_smoothing: eps in [0, 1], 0 by default, spread over the classes in the hard term.
        ignore_index: the label of a position without one, -100 by default.
        weight: (V,) class weights of the hard term; none by default. A buffer, so that it moves with the module.
        reduction: "mean", the default, over the counted positions; "sum"; or "none".
        class_dim: the dimension of the classes in the logits of both models, -1 by default; 1 for the (N, C, H, W) of
            segmentation, with labels and masks of shape (N, H, W). Sparse targets have their classes last in any case.
        inplace: allows the student's logits to be overwritten with their gradient; False by default.
        backend: "auto", the default, "reference", "cpu" or "triton".
        group: the process group whose ranks hold columns of the vocabulary; none by default. Sparse targets cannot have one.

    Raises:
        ArgumentError: a setting has a wrong shape, range or choice; the message names it and the remedy.
        ArgumentTypeError: a setting has a wrong type.

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
        temperature: Temperature = DEFAULT_TEMPERATURE,
        alpha: float = DEFAULT_ALPHA,
        divergence: DivergenceChoice = "forward_kl",
        beta: float = 0.5,
        skew: float = 0.1,
        compensate: Compensate = True,
        label_smoothing: float = 0.0,
        ignore_index: int = IGNORE_INDEX,
        weight: Tensor | None = None,
        reduction: Reduction = "mean",
        class_dim: int = -1,
        inplace: bool = False,
        backend: str = "auto",
        group: ProcessGroup | None = None,
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
        self.class_dim = check_class_dim(class_dim)
        self.inplace = inplace
        self.backend = checks.check_backend(backend)
        self.group = group
        self._teacher_was_seen = False
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
        """Return the loss of a batch.

        Args:
            student_logits: (..., V).
            teacher: its logits (..., V), sparse targets as in ``limbeck.sparse_distillation_loss``, or None with ``alpha=0``.
            labels: (...,) integers, or label rows in the form of the logits. Needed unless ``alpha`` is 1.
            mask: bool (...,), True where a position counts.
            num_items: replaces the mean's denominator.

        Returns:
            A scalar, or (...,) with ``reduction="none"``.

        Raises:
            ArgumentError: an argument has a wrong shape or range, or the teacher's logits contain NaN or are probabilities.
            ArgumentTypeError: an argument has a wrong type.
        """
        parts = self._loss(student_logits, teacher, labels, mask=mask, num_items=num_items, with_parts=False)
        self._look_at(teacher, labels, mask, self.temperature)
        return parts.total

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
        """Return the loss of a batch with its soft and hard terms.

        Args:
            student_logits: (..., V).
            teacher: as in ``forward``.
            labels: (...,) integers, or label rows in the form of the logits. Needed unless ``alpha`` is 1.
            mask: bool (...,), True where a position counts.
            num_items: replaces the mean's denominator.
            temperature: for this batch, in the place of the module's own.
            scale: takes the place of C(T): a number, or (...,) with one for each position. It may ask for gradient.

        Returns:
            ``LossParts``: total, soft and hard, each reduced like the total.

        Raises:
            ArgumentError: an argument has a wrong shape or range, or the teacher's logits contain NaN or are probabilities.
            ArgumentTypeError: an argument has a wrong type.
        """
        temperature = self.temperature if temperature is None else temperature
        parts = self._loss(
            student_logits, teacher, labels, mask=mask, num_items=num_items, scale=scale, with_parts=True,
            temperature=temperature,
        )  # fmt: skip
        self._look_at(teacher, labels, mask, temperature)
        return parts

    def unprojected_parts(
        self,
        student: Unprojected,
        teacher: Unprojected | SparseTargets | None,
        labels: Tensor | None = None,
        *,
        classes: int,
        mask: Tensor | None = None,
        num_items: Tensor | float | None = None,
        watch: Watch | None = None,
        **softening: Any,
    ) -> LossParts:
        """Return the loss of a batch with its soft and hard terms, from logits that are not computed.

        Args:
            student: its logits, (..., V).
            teacher: the same, or sparse targets, or None with ``alpha=0``.
            labels: as in ``parts``.
            classes: the leading columns that both models share.
            mask: as in ``parts``.
            num_items: the same.
            watch: looks at the logits of each chunk; None for nothing.
            **softening: ``temperature`` and ``scale``, as in ``parts``; ``temperature`` cannot ask for gradient.

        Returns:
            ``LossParts``: total, soft and hard, each reduced like the total.

        Raises:
            ArgumentError: as ``parts`` does.
            ArgumentTypeError: as ``parts`` does.
        """
        changed = {name: value for name, value in softening.items() if value is not None}
        settings = self._settings() | {"mask": mask, "num_items": num_items, "with_parts": True} | changed

        def looking(kernel: RowKernel) -> RowKernel:
            kernel = kernel if watch is None else watch(kernel)

            def looked(student: Tensor, teacher: Tensor | None, *rest: Any) -> tuple[Tensor, Tensor]:
                self._look_at(teacher, None, None, settings["temperature"])
                return kernel(student, teacher, *rest)

            return looked

        settings |= {"classes": classes, "backend": self.backend, "watch": looking}
        if isinstance(teacher, SparseTargets):
            return unprojected_sparse_loss_parts(student, teacher, labels, mode=None, **settings)
        return unprojected_loss_parts(student, teacher, labels, group=self.group, **settings)

    def _look_at(
        self,
        teacher: Tensor | SparseTargets | None,
        labels: Tensor | None,
        mask: Tensor | None,
        temperature: Temperature,
    ) -> None:
        """Check the first teacher's logits that are seen, after the loss has checked that all shapes fit."""
        if self._teacher_was_seen or not isinstance(teacher, Tensor) or torch.compiler.is_compiling():
            return  # a compiled graph cannot decide by values
        self._teacher_was_seen = self._inspect(teacher, labels, mask, temperature)

    def _inspect(self, teacher: Tensor, labels: Tensor | None, mask: Tensor | None, temperature: Temperature) -> bool:
        """Raise an error if a teacher's outputs are not what the loss takes. Return True if they told enough."""
        counted = counted_positions(labels_last(labels, teacher, self.class_dim), mask, self.ignore_index)
        logits = classes_last("teacher_logits", teacher, self.class_dim)
        return inspect_teacher(logits, temperature, counted, sharded=self.group is not None)

    def _check_settings(self) -> None:
        """Call the function itself, so that a wrong setting is known before the first batch."""
        checks.check_group(self.group, self.backend)
        positions = self._positions()
        # One column may be a shard of more, or a wrong shape that the first batch tells better.
        weight = self.weight.expand(2) if self.weight is not None and self.weight.shape == (1,) else self.weight
        classes, device = (2, None) if weight is None else (len(weight), weight.device)
        logits = torch.zeros(*positions, classes, device=device)
        labels = torch.zeros(positions, dtype=torch.long, device=device)
        # Without the group: to call it would wait for the other processes.
        # These few logits may stand on a CPU, where "triton" is refused.
        backend = "auto" if self.backend == "triton" else self.backend
        self._loss(logits, logits, labels, with_parts=True, group=None, class_dim=-1, weight=weight, backend=backend)

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
        settings = self._settings() | {"mask": mask, "num_items": num_items, "inplace": self.inplace} | changed
        if not isinstance(teacher, SparseTargets):
            own = {"class_dim": self.class_dim, "backend": self.backend, "group": self.group}
            return dense_loss_parts(student_logits, teacher, labels, **own | settings)
        if self.group is not None:
            raise ArgumentError("group", "sparse targets know no shards of the vocabulary. Use whole logits.")
        labels = labels_last(labels, student_logits, self.class_dim)
        student_logits = classes_last("student_logits", student_logits, self.class_dim)
        return sparse_loss_parts(student_logits, teacher, labels, mode=None, **{"backend": self.backend} | settings)

    def _settings(self) -> dict[str, Any]:
        """Return the arguments of the function that every kind of targets and labels takes."""
        return dict(
            temperature=self.temperature,
            alpha=self.alpha,
            divergence=self.divergence,
            beta=0.0,  # the divergence has its parameters already
            skew=0.0,
            compensate=self.compensate,
            label_smoothing=self.label_smoothing,
            ignore_index=self.ignore_index,
            weight=self.weight,
            reduction=self.reduction,
        )

    def _positions(self) -> tuple[int, ...]:
        """Return the shape of positions that the temperature fits."""
        sides = self.temperature if isinstance(self.temperature, tuple | list) else (self.temperature,)
        return next((tuple(side.shape) for side in sides if isinstance(side, Tensor) and side.dim()), (1,))

    def extra_repr(self) -> str:
        """Return the settings that ``repr`` shows."""
        return f"temperature={self.temperature}, alpha={self.alpha}, divergence={self.divergence}"

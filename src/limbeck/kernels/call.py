"""One call of the loss, as every kernel sees it, and what a kernel is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import torch
from torch import Tensor
from torch.autograd import forward_ad

if TYPE_CHECKING:
    from limbeck.kernels.sparse import SparseRows

RowIndex = slice | Tensor
"""Some rows of a call: a slice, or a tensor of indices."""
GradientScales = tuple[Tensor | float, Tensor | float]
"""The factors of the soft and of the hard gradient: numbers, or (N,)."""


class DivergenceProtocol(Protocol):
    """What a kernel asks of a divergence; ``limbeck.losses.divergences.Divergence`` describes it."""

    on_logits: ClassVar[bool]
    log_zero: ClassVar[float]
    has_terms_and_slopes: ClassVar[bool]

    @property
    def is_centred(self) -> bool: ...
    @property
    def parameter_values(self) -> tuple[Any, ...]: ...
    @property
    def terms_and_slopes(self) -> Callable[..., tuple[Any, Any]]: ...
    @property
    def log_ratio(self) -> Callable[..., Tensor]: ...
    @property
    def digits_lost_below(self) -> float: ...
    @property
    def logit_difference(self) -> Callable[..., Tensor]: ...
    @property
    def mirrored(self) -> Any: ...
    def terms_with_digits(self, a: Tensor, b: Tensor, d: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class LossCall:
    """One call of the loss on N rows: everything but the logits, which a fused loss makes a few rows at a time.

    The first fields have one entry for each row, or one number for all rows; the others are settings of the whole call.
    """

    labels: Tensor | None
    """(N,), in [0, V) everywhere, 0 where a row has none; None when the hard term is not asked for.

    Label rows are (N, V), the probability of each class in the dtype of the arithmetic, 0 where a row has no label.
    """
    labelled: Tensor | None
    """bool (N,); None when all rows have a label."""
    counted: Tensor | None
    """bool (N,); None when all rows count."""
    weights: Tensor | float
    """1 over the mean's denominator; (N,) with 0 where a row does not count."""
    teacher_temperature: Tensor | float
    """A number, or (N, 1)."""
    student_temperature: Tensor | float
    """A number, or (N, 1)."""
    compensation: Tensor | float
    """C(T), or the factor that takes its place: a number, or (N, 1)."""

    divergence: DivergenceProtocol
    is_forward_kl: bool
    """The divergence is KL(p_t ‖ p_s), which needs the fewest passes."""
    is_reverse_kl: bool
    """The divergence is KL(p_s ‖ p_t)."""
    has_soft_term: bool
    """The divergence is asked for."""
    alpha: float
    """The weight of the soft term."""
    label_smoothing: float
    """eps, of the hard term."""
    class_weights: Tensor | None
    """(V,), of the hard term."""
    dtype: torch.dtype
    """The dtype of the arithmetic."""
    reference_rows: ReferenceRows
    """Computes rows without any kernel."""
    summed: bool
    """The total is one number; else it is (N,)."""
    with_parts: bool
    """The soft and the hard term are asked for beside the total."""
    inplace: bool
    """The gradient may take the place of the student's logits."""
    sparse: SparseRows | None = None
    """The teacher, where only some classes of each row are known."""

    @property
    def has_label_rows(self) -> bool:
        """Return True if a label is the probability of each class, not the number of one."""
        return self.labels is not None and self.labels.dim() == 2

    @property
    def has_closed_form(self) -> bool:
        """Return True if terms and slopes describe the call; else only ``reference_rows`` can compute it."""
        return self.class_weights is None and (not self.has_soft_term or self.divergence.has_terms_and_slopes)

    def gradient_scales(self, upstream: Tensor | float = 1.0) -> GradientScales:
        """Return the factors of the soft and the hard gradient in the gradient of the total."""
        weights = self.weights * upstream
        return self.alpha * weights, (1 - self.alpha) * weights

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """Return what a backward pass reads beside the logits, so that autograd notices when one of them is changed."""
        fields = (
            self.labels, self.labelled, self.counted, self.weights, self.teacher_temperature, self.student_temperature,
            self.compensation, self.class_weights,
        )  # fmt: skip
        sparse = () if self.sparse is None else (self.sparse.ids, *self.sparse.known)
        return tuple(savable(x) for x in (*fields, *sparse) if isinstance(x, Tensor))

    def part(self, rows: RowIndex) -> LossCall:
        """Return the call for some of its rows."""
        per_row = (
            "labels", "labelled", "counted", "weights", "teacher_temperature", "student_temperature", "compensation",
        )  # fmt: skip
        changed = {name: value[rows] for name in per_row if isinstance(value := getattr(self, name), Tensor)}
        return replace(self, sparse=None if self.sparse is None else self.sparse.part(rows), **changed)


ReferenceRows = Callable[[LossCall, Tensor, Tensor | None], tuple[Tensor | None, Tensor | None]]
"""(call, student (N, V), teacher (N, V) or None) -> C(T) D and CE of the rows, (N,) each, attached to the graph.

A term that is not asked for is None.
"""

RowKernel = Callable[[Tensor, Tensor | None, LossCall, GradientScales, Tensor | None], tuple[Tensor, Tensor]]
"""(student (N, V), teacher (N, V) or None, call, scales, gradient or None) -> C(T) D and CE of the rows, (N,) each.

The two gradients, times their scales, are added up in ``gradient``, which may be the student's own logits. All three may
also be (B, L, V) with N = B L, where sequences do not follow each other in memory; see ``sequences``.
"""


def scales_of_rows(scales: GradientScales, rows: RowIndex) -> GradientScales:
    """Return the scales of some rows."""
    return tuple(x[rows] if isinstance(x, Tensor) and x.dim() else x for x in scales)  # pyright: ignore[reportReturnType]


def scales_as_columns(scales: GradientScales) -> GradientScales:
    """Return the scales as numbers or (n, 1), to multiply logits by."""
    return tuple(x.unsqueeze(-1) if isinstance(x, Tensor) and x.dim() else x for x in scales)  # pyright: ignore[reportReturnType]


def savable(tensor: Tensor) -> Tensor:
    """Return a tensor that autograd can save for a backward pass.

    Args:
        tensor: any; autograd refuses to save one that was made under ``torch.inference_mode()``.

    Returns:
        The tensor itself; or, for one of inference mode, another tensor on the same memory, without a copy.
    """
    if torch.compiler.is_compiling() or not tensor.is_inference() or torch.is_inference_mode_enabled():
        return tensor
    if type(tensor) is not Tensor:
        return tensor.clone()  # a subclass has more than its memory
    alias = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
    return alias.set_(tensor.untyped_storage(), tensor.storage_offset(), tensor.shape, tensor.stride())  # pyright: ignore[reportArgumentType]


def is_transformed() -> bool:
    """Return True inside of a transform of ``torch.func``, or while forward-mode derivatives are computed.

    Both follow plain operations only, and not a node of the graph that a kernel makes.
    """
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0  # pyright: ignore[reportAttributeAccessIssue]


def column_as_rows(column: Tensor | float) -> Tensor | float:
    """Return a number as it is, or (n, 1) as (n,), to multiply the values of rows by."""
    return column.squeeze(-1) if isinstance(column, Tensor) else column

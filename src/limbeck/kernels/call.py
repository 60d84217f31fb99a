"""What every kernel is told about one call of the loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

Rows = Any
"""Which rows of a call: a slice, or a tensor of indices."""
ExactRows = Callable[[Tensor, Tensor | None, Rows], tuple[Tensor | None, Tensor | None]]
Shares = tuple[Tensor | float, Tensor | float]
"""What soft and hard are multiplied by in the gradient: floats, or (N,)."""


LOG_ZERO = -1e4
"""A log-probability whose exponential is 0 in float32 and float64, yet finite, so that no 0 * inf arises."""
FORMS: dict[str, Callable[..., Any]] = {}
"""Every divergence's form, by the name under which a custom operator, which takes no functions, finds it."""


class Measure(Protocol):
    """What a kernel asks of a divergence; see ``limbeck.losses.divergences.Divergence``."""

    on_logits: ClassVar[bool]
    form_name: ClassVar[str]

    @property
    def share(self) -> float: ...
    def terms(self, a: Tensor, b: Tensor) -> Tensor: ...
    @staticmethod
    def form(d: Any, p_s: Any, p_t: Any, share: float) -> tuple[Any, Any]: ...


@dataclass(frozen=True)
class Plan:
    """One call of the loss, for logits that are flattened to (N, V)."""

    labels: Tensor | None
    """(N,), in [0, V) everywhere."""
    labelled: Tensor | None
    """bool (N,); None when every row has a label."""
    weights: Tensor | float
    """1 over the denominator; (N,) with 0 where a position does not count."""
    dtype: torch.dtype
    """Of the arithmetic."""
    alpha: float
    teacher_temperature: Tensor | float
    student_temperature: Tensor | float
    """Floats, or (N, 1)."""
    compensation: Tensor | float
    """C(T), a float or (N, 1)."""
    label_smoothing: float
    weight: Tensor | None
    """(V,), class weights of the hard term."""
    measure: Measure
    forward_kl: bool
    """Whether ``measure`` is KL(p_t ‖ p_s), which needs the fewest passes."""
    reverse_kl: bool
    exact: ExactRows
    """Soft and hard values of some rows by the reference, attached to the graph."""
    closed: bool
    """Whether the divergence has a closed form and there are no class weights; else only ``exact`` knows the loss."""
    inplace: bool
    summed: bool
    """The total is wanted as one number."""
    sparse: Any = None
    """The teacher, where only some classes of each row are known: ``limbeck.kernels.sparse.SparseRows``."""

    def shares(self, upstream: Tensor | float = 1.0) -> Shares:
        """Of both terms in the gradient of the total."""
        weights = self.weights * upstream
        return self.alpha * weights, (1 - self.alpha) * weights

    def part(self, rows: Rows) -> Plan:
        """The plan of some rows, by a slice or their indices; a kernel then counts them from 0."""
        one_for_each = ("labels", "labelled", "weights", "teacher_temperature", "student_temperature", "compensation")
        changed = {name: value[rows] for name in one_for_each if isinstance(value := getattr(self, name), Tensor)}

        def exact(student: Tensor, teacher: Tensor | None, part: Rows) -> tuple[Tensor | None, Tensor | None]:
            if isinstance(rows, Tensor):
                return self.exact(student, teacher, rows[part])
            start, stop, _ = part.indices(rows.stop - rows.start)
            return self.exact(student, teacher, slice(rows.start + start, rows.start + stop))

        sparse = None if self.sparse is None else self.sparse.part(rows)
        return replace(self, exact=exact, sparse=sparse, **changed)


Sweep = Callable[[Tensor, Tensor | None, Plan, Shares, Tensor | None], tuple[Tensor, Tensor]]
"""(student (N, V), teacher (N, V) or None, plan, shares, gradient or None) -> soft and hard values, (N,) each.

The gradient, in the given shares, is written into ``gradient``, which may be the student's own logits.
"""


def part_of(shares: Shares, rows: slice) -> Shares:
    """The shares of some rows."""
    return tuple(share[rows] if isinstance(share, Tensor) and share.dim() else share for share in shares)  # pyright: ignore[reportReturnType]


def columns_of(shares: Shares) -> Shares:
    """The shares as one number, or (n, 1), to multiply rows by."""
    return tuple(share.unsqueeze(-1) if isinstance(share, Tensor) and share.dim() else share for share in shares)  # pyright: ignore[reportReturnType]


def for_rows(column: Tensor | float) -> Tensor | float:
    """One number, or (n, 1) as (n,), to multiply the values of rows by."""
    return column.squeeze(-1) if isinstance(column, Tensor) else column

"""What every kernel is told about one call of the loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

ExactRows = Callable[[Tensor, Tensor | None, slice], tuple[Tensor | None, Tensor | None]]
Shares = tuple[Tensor | float, Tensor | float]
"""What soft and hard are multiplied by in the gradient: floats, or (N,)."""


class Measure(Protocol):
    """What a kernel asks of a divergence; see ``limbeck.losses.divergences.Divergence``."""

    @property
    def on_logits(self) -> bool: ...
    @property
    def form(self) -> Callable[[Any, Any, Any, float], tuple[Any, Any]] | None: ...
    @property
    def share(self) -> float: ...


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
    measure: Measure
    forward_kl: bool
    """Whether ``measure`` is KL(p_t ‖ p_s), which needs the fewest passes."""
    exact: ExactRows
    """Soft and hard values of some rows by the reference, attached to the graph."""
    closed: bool
    """Whether the divergence has a closed form and there are no class weights; else only ``exact`` knows the loss."""
    inplace: bool
    summed: bool
    """The total is wanted as one number."""

    def shares(self, upstream: Tensor | float = 1.0) -> Shares:
        """Of both terms in the gradient of the total."""
        weights = self.weights * upstream
        return self.alpha * weights, (1 - self.alpha) * weights


Sweep = Callable[[Tensor, Tensor | None, Plan, Shares, Tensor | None], tuple[Tensor, Tensor]]
"""(student (N, V), teacher (N, V) or None, plan, shares, gradient or None) -> soft and hard values, (N,) each.

The gradient, in the given shares, is written into ``gradient``, which may be the student's own logits.
"""

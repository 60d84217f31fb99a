"""What each temperature does to a teacher's soft targets: measured on its logits, without training.

For logits (N, V) of a teacher, and of a student where there is one (else of one that knows nothing: all logits 0):

    p(T)                = softmax(z_t / T)
    entropy             H(p(T)), in nats; effective classes exp(H)
    first class         max p(T)
    soft gradient       g(T) = (softmax(z_s / T) - p(T)) / T          with respect to the student's logits, for forward KL
    hard gradient       softmax(z_s) - onehot(y)
    on negative labels  sum of g² over the classes other than y, over all of g²
    on the lowest       the same for the half of the negative labels that the teacher likes least
    in the limit        T² g(T) -> (z_s - z_t) / V                     centred logits, T large
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from limbeck.temperature.policies.base import centred

TEMPERATURES = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 20.0)


@dataclass(frozen=True)
class Softness:
    """What one temperature does, averaged over the examples."""

    temperature: float
    entropy: float
    effective_classes: float
    first_class: float
    on_negative_labels: float
    on_the_lowest: float
    soft_over_hard: float
    """Norm of the soft gradient over that of the hard one, without C(T)."""
    compensated_over_hard: float
    """The same times T²."""
    limit_over_hard: float
    """What the last tends to when T grows."""


@dataclass(frozen=True)
class Calibration:
    """The teacher's own honesty. Its T divides the logits that are served, and has nothing to do with distillation."""

    temperature: float
    """That minimises the NLL of true labels (Guo et al., "On Calibration of Modern Neural Networks", 2017)."""
    error_before: float
    error_after: float
    nll_before: float
    nll_after: float


@dataclass(frozen=True)
class Rank:
    """How far the negative label of one rank can be believed."""

    rank: int
    """1 for the teacher's second choice."""
    gap: float
    """By which its logit is below the first class's, on average."""
    spread: float
    """Standard deviation of that gap over views of one example, on average."""
    agreement: float
    """Share of pairs of views in which the same class has this rank."""


@dataclass(frozen=True)
class Analysis:
    """Everything that was measured."""

    classes: int
    examples: int
    softness: list[Softness]
    calibration: Calibration | None
    ranks: list[Rank]
    views: str
    """What kind of views the ranks were compared over."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def analyze(
    teacher_logits: Tensor,
    labels: Tensor | None = None,
    *,
    student_logits: Tensor | None = None,
    held_out: tuple[Tensor, Tensor] | None = None,
    views: Tensor | None = None,
    kind: str = "",
    temperatures: Sequence[float] = TEMPERATURES,
) -> Analysis:
    """Measure.

    Args:
        teacher_logits: (N, V).
        labels: (N,), -100 for none; by default the teacher's first class stands for the label.
        student_logits: (N, V), of the same examples.
        held_out: the teacher's logits and the labels of examples that it was not trained on, for its calibration.
        views: (M, N, V), the teacher's logits on M >= 2 views of the same examples.
        kind: what the views are, for the reader.
        temperatures: positive numbers.

    Example:
        >>> found = analyze(torch.tensor([[4.0, 2.0, 0.0], [0.0, 5.0, 1.0]]), torch.tensor([0, 1]), temperatures=[1, 4])
        >>> [f"{row.effective_classes:.2f}" for row in found.softness]
        ['1.35', '2.67']
    """
    if any(not (t > 0 and math.isfinite(t)) for t in temperatures):
        raise ValueError(f"temperatures: expected positive numbers, got {list(temperatures)}.")
    z_t = teacher_logits.double()
    z_s = torch.zeros_like(z_t) if student_logits is None else student_logits.double()
    if z_t.shape != z_s.shape or z_t.dim() != 2 or not len(z_t):
        raise ValueError(f"expected logits of one shape (N, V), got {tuple(z_t.shape)} and {tuple(z_s.shape)}.")
    known = None if labels is None else labels != -100
    if held_out is None and known is not None and labels is not None and bool(known.any()):
        held_out = z_t[known], labels[known]
    y = z_t.argmax(-1) if labels is None or known is None else torch.where(known, labels, z_t.argmax(-1))
    return Analysis(
        classes=z_t.shape[1],
        examples=len(z_t),
        softness=[softness(z_t, z_s, y, float(t)) for t in temperatures],
        calibration=None if held_out is None else calibrate(held_out[0].double(), held_out[1]),
        ranks=[] if views is None else reliability(views),
        views=kind,
    )


def softness(z_t: Tensor, z_s: Tensor, y: Tensor, t: float) -> Softness:
    """One temperature's row; logits in float64."""
    log_p = (z_t / t).log_softmax(-1)
    p = log_p.exp()
    entropy = -(p * log_p.clamp(min=-1e30)).sum(-1)
    soft = ((z_s / t).softmax(-1) - p) / t
    hard = z_s.softmax(-1)
    hard[torch.arange(len(y)), y] -= 1
    squares = soft.square()
    whole = squares.sum(-1).clamp(min=torch.finfo(torch.float64).tiny)
    negative = squares.scatter(-1, y[:, None], 0.0)
    order = z_t.scatter(-1, y[:, None], torch.inf).argsort(-1)  # the label comes last
    lowest = negative.gather(-1, order[:, : (z_t.shape[1] - 1) // 2])
    limit = (centred(z_s) - centred(z_t)) / z_t.shape[1]
    hard_norm = hard.norm(dim=-1).mean()
    return Softness(
        temperature=t,
        entropy=entropy.mean().item(),
        effective_classes=entropy.exp().mean().item(),
        first_class=p.amax(-1).mean().item(),
        on_negative_labels=(negative.sum(-1) / whole).mean().item(),
        on_the_lowest=(lowest.sum(-1) / whole).mean().item(),
        soft_over_hard=(soft.norm(dim=-1).mean() / hard_norm).item(),
        compensated_over_hard=(t**2 * soft.norm(dim=-1).mean() / hard_norm).item(),
        limit_over_hard=(limit.norm(dim=-1).mean() / hard_norm).item(),
    )


def calibrate(logits: Tensor, labels: Tensor) -> Calibration:
    """The temperature that makes a classifier's probabilities honest, by the likelihood of true labels."""
    from scipy.optimize import minimize_scalar

    from limbeck.evaluation.metrics import classification_metrics

    def nll(log_t: float) -> float:
        return torch.nn.functional.cross_entropy(logits / math.exp(log_t), labels).item()

    found: Any = minimize_scalar(nll, bounds=(-3.0, 4.0), method="bounded")
    t = math.exp(float(found.x))
    before, after = classification_metrics(logits, labels), classification_metrics(logits / t, labels)
    return Calibration(t, before.calibration_error, after.calibration_error, before.nll, after.nll)


def reliability(views: Tensor) -> list[Rank]:
    """For each rank of negative label, how steady it is over views of an example.

    Args:
        views: (M, N, V). Ranks are those of the mean logits over views.
    """
    if views.dim() != 3 or len(views) < 2:
        raise ValueError(f"views: expected (M, N, V) with at least two views, got {tuple(views.shape)}.")
    z = views.double()
    order = z.mean(0).argsort(-1, descending=True)
    ranked = z.gather(-1, order.expand(len(z), -1, -1))
    gaps = ranked[..., :1] - ranked[..., 1:]
    spread = gaps.std(0).mean(0)
    same = _agreement(z.argsort(-1, descending=True))
    middle = gaps.mean((0, 1))
    return [Rank(r + 1, middle[r].item(), spread[r].item(), float(same[r + 1])) for r in range(views.shape[-1] - 1)]


def _agreement(order: Tensor) -> np.ndarray:
    """(M, N, V) classes by rank -> (V,), the share of pairs of views with the same class at a rank."""
    count = len(order)
    pairs = [(order[i] == order[j]).double().mean(0) for i in range(count) for j in range(i + 1, count)]
    return torch.stack(pairs).mean(0).numpy()

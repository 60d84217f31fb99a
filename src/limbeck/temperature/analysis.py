"""What each temperature does to a teacher's soft targets, measured on its logits without training.

For logits z_t (N, V) of a teacher and z_s (N, V) of a student (all 0, for a student that knows nothing, when there is none):

    p(T)                 = softmax(z_t / T)
    entropy              H(p(T)), in nats; the number of effective classes is exp(H)
    top probability      max p(T)
    soft gradient        g(T) = (softmax(z_s / T) - p(T)) / T          with respect to the student's logits, for forward KL
    hard gradient        softmax(z_s) - onehot(y)
    negative labels      the classes other than y
    fraction on them     sum of g² over the negative labels, divided by the sum of g² over all classes
    fraction on lowest   the same for the half of the negative labels with the lowest teacher logits
    limit                T² g(T) -> (z_s - z_t) / V                    for centered logits and large T
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from limbeck.errors import ArgumentError
from limbeck.temperature.defaults import TEMPERATURES


@dataclass(frozen=True)
class Softness:
    """What one temperature does to the soft targets and their gradient, averaged over the examples."""

    temperature: float
    entropy: float
    """The entropy of the soft targets, in nats."""
    effective_classes: float
    """exp(entropy): 1 for hard labels, V for uniform targets."""
    top_probability: float
    """The probability of the teacher's first class."""
    fraction_on_negatives: float
    """The fraction of the squared soft gradient that falls on negative labels."""
    fraction_on_lowest: float
    """The fraction that falls on the half of the negative labels with the lowest teacher logits."""
    soft_over_hard: float
    """The norm of the soft gradient divided by that of the hard gradient, without C(T)."""
    compensated_over_hard: float
    """``soft_over_hard`` times T²."""
    limit_over_hard: float
    """The limit of ``compensated_over_hard`` for large T."""


@dataclass(frozen=True)
class Calibration:
    """How well the teacher's own probabilities fit true labels, before and after they are calibrated.

    Its temperature divides the logits that a model serves. It is not the temperature of distillation.
    """

    temperature: float
    """The T with the smallest NLL of true labels (Guo et al., "On Calibration of Modern Neural Networks", 2017)."""
    error_before: float
    """The expected calibration error at T = 1."""
    error_after: float
    """The expected calibration error at ``temperature``."""
    nll_before: float
    """The mean negative log-likelihood of the true labels at T = 1, in nats."""
    nll_after: float
    """The mean negative log-likelihood of the true labels at ``temperature``, in nats."""


@dataclass(frozen=True)
class Rank:
    """How reliable the negative label of one rank is."""

    rank: int
    """1 for the teacher's second choice."""
    gap: float
    """How far its logit is below that of the first class, on average."""
    spread: float
    """The standard deviation of that gap over the views of one example, on average."""
    agreement: float
    """The fraction of the pairs of views in which the same class has this rank."""


@dataclass(frozen=True)
class Analysis:
    """All measurements of one teacher."""

    classes: int
    """V."""
    examples: int
    """N."""
    softness: list[Softness]
    """One entry for each temperature."""
    calibration: Calibration | None
    """None when no true label is known."""
    ranks: list[Rank]
    """One entry for each rank of negative labels; empty when there are no views."""
    view_kind: str
    """What the views of an example are, in words."""

    def as_dict(self) -> dict[str, Any]:
        """Return the measurements as plain dictionaries and lists, ready for JSON."""
        return asdict(self)


def analyze(
    teacher_logits: Tensor,
    labels: Tensor | None = None,
    *,
    student_logits: Tensor | None = None,
    held_out: tuple[Tensor, Tensor] | None = None,
    views: Tensor | None = None,
    view_kind: str = "",
    temperatures: Sequence[float] = TEMPERATURES,
) -> Analysis:
    """Measure what each temperature does to a teacher's soft targets.

    Args:
        teacher_logits: (N, V), any floating dtype; the arithmetic is in float64.
        labels: (N,) integers, -100 for an example without a label; the teacher's first class replaces a missing label.
        student_logits: (N, V), of the same examples; by default 0, for a student that knows nothing.
        held_out: logits (H, V) and labels (H,) of examples that the teacher was not trained on, for its calibration; by
            default the labelled ones of the examples themselves.
        views: (M, N, V), the teacher's logits on M >= 2 views of each example; by default the ranks are not measured.
        view_kind: what the views are, in words for the reader of a report.
        temperatures: the positive numbers to measure at.

    Returns:
        The softness at each temperature, the calibration and the reliability of each rank.

    Raises:
        ArgumentError: the logits or the views have a wrong shape, or a temperature is not a positive number.

    Example:
        >>> found = analyze(torch.tensor([[4.0, 2.0, 0.0], [0.0, 5.0, 1.0]]), torch.tensor([0, 1]), temperatures=[1, 4])
        >>> [f"{row.effective_classes:.2f}" for row in found.softness]
        ['1.35', '2.67']
    """
    if any(not (t > 0 and math.isfinite(t)) for t in temperatures):
        raise ArgumentError("temperatures", f"expected positive numbers, got {list(temperatures)}.")
    z_t = teacher_logits.double()
    z_s = torch.zeros_like(z_t) if student_logits is None else student_logits.double()
    if z_t.shape != z_s.shape or z_t.dim() != 2 or not len(z_t):
        argument = "teacher_logits" if student_logits is None else "student_logits"
        given = f"{tuple(z_t.shape)} and {tuple(z_s.shape)}"
        raise ArgumentError(argument, f"expected logits of one shape (N, V), got {given}.")
    targets = z_t.argmax(-1)
    if labels is not None:
        is_labelled = labels != -100
        if held_out is None and bool(is_labelled.any()):
            held_out = z_t[is_labelled], labels[is_labelled]
        targets = torch.where(is_labelled, labels, targets)
    return Analysis(
        classes=z_t.shape[1],
        examples=len(z_t),
        softness=[softness(z_t, z_s, targets, float(t)) for t in temperatures],
        calibration=None if held_out is None else calibrate(held_out[0].double(), held_out[1]),
        ranks=[] if views is None else reliability(views),
        view_kind=view_kind,
    )


def softness(teacher_logits: Tensor, student_logits: Tensor, labels: Tensor, temperature: float) -> Softness:
    """Measure one temperature.

    Args:
        teacher_logits: (N, V), float64.
        student_logits: (N, V), float64.
        labels: (N,) integers, none missing.
        temperature: T, a positive number.

    Returns:
        The measurements, averaged over the examples.
    """
    log_p = (teacher_logits / temperature).log_softmax(-1)
    p = log_p.exp()
    entropy = -(p * log_p.clamp(min=-1e30)).sum(-1)  # a class with p = 0 adds 0 and not NaN
    soft = ((student_logits / temperature).softmax(-1) - p) / temperature
    hard = student_logits.softmax(-1)
    hard[torch.arange(len(labels)), labels] -= 1
    difference = student_logits - teacher_logits
    limit = (difference - difference.mean(-1, keepdim=True)) / teacher_logits.shape[1]
    soft_norm, hard_norm = soft.norm(dim=-1).mean(), hard.norm(dim=-1).mean()
    on_negatives, on_lowest = _gradient_fractions(soft, teacher_logits, labels)
    return Softness(
        temperature=temperature,
        entropy=entropy.mean().item(),
        effective_classes=entropy.exp().mean().item(),
        top_probability=p.amax(-1).mean().item(),
        fraction_on_negatives=on_negatives.mean().item(),
        fraction_on_lowest=on_lowest.mean().item(),
        soft_over_hard=(soft_norm / hard_norm).item(),
        compensated_over_hard=(temperature**2 * soft_norm / hard_norm).item(),
        limit_over_hard=(limit.norm(dim=-1).mean() / hard_norm).item(),
    )


def _gradient_fractions(gradient: Tensor, teacher_logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the fractions (N,) of the squared gradient on negative labels, and on the lowest half of them."""
    squares = gradient.square()
    total = squares.sum(-1).clamp(min=torch.finfo(torch.float64).tiny)
    negative = squares.scatter(-1, labels[:, None], 0.0)
    order = teacher_logits.scatter(-1, labels[:, None], torch.inf).argsort(-1)  # the label comes last
    lowest = negative.gather(-1, order[:, : (teacher_logits.shape[1] - 1) // 2])
    return negative.sum(-1) / total, lowest.sum(-1) / total


def calibrate(logits: Tensor, labels: Tensor) -> Calibration:
    """Find the temperature that makes a classifier's probabilities fit true labels best, by their likelihood.

    Args:
        logits: (N, V).
        labels: (N,) integers, none missing.

    Returns:
        The temperature, between exp(-3) and exp(4), with the calibration error and the NLL before and after.
    """
    from scipy.optimize import minimize_scalar

    from limbeck.evaluation.metrics import classification_metrics

    def nll(log_temperature: float) -> float:
        return torch.nn.functional.cross_entropy(logits / math.exp(log_temperature), labels).item()

    found: Any = minimize_scalar(nll, bounds=(-3.0, 4.0), method="bounded")
    temperature = math.exp(float(found.x))
    before, after = classification_metrics(logits, labels), classification_metrics(logits / temperature, labels)
    return Calibration(temperature, before.calibration_error, after.calibration_error, before.nll, after.nll)


def reliability(views: Tensor) -> list[Rank]:
    """Measure how steady each rank of negative labels is over the views of an example.

    Args:
        views: (M, N, V), logits on M >= 2 views. The ranks are those of the mean logits over the views.

    Returns:
        One entry for each of the V - 1 negative ranks.

    Raises:
        ArgumentError: there are fewer than two views, or the shape is wrong.
    """
    if views.dim() != 3 or len(views) < 2:
        raise ArgumentError("views", f"expected (M, N, V) with at least two views, got {tuple(views.shape)}.")
    logits = views.double()
    mean_order = logits.mean(0).argsort(-1, descending=True)
    ranked = logits.gather(-1, mean_order.expand(len(logits), -1, -1))
    gaps = ranked[..., :1] - ranked[..., 1:]
    gap, spread = gaps.mean((0, 1)).tolist(), gaps.std(0).mean(0).tolist()
    agreement = _agreement(logits.argsort(-1, descending=True)).tolist()
    return [Rank(i + 1, gap[i], spread[i], agreement[i + 1]) for i in range(views.shape[-1] - 1)]


def _agreement(order: Tensor) -> Tensor:
    """Return the fraction of the pairs of views with the same class at each rank, (V,), given classes by rank (M, N, V)."""
    pairs = itertools.combinations(range(len(order)), 2)
    return torch.stack([(order[i] == order[j]).double().mean(0) for i, j in pairs]).mean(0)

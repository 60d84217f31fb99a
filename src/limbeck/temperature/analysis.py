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

A class that is absent from a row (its logit is -inf, or padding, in both models) has no part in any of them, and V is the
number of the other classes. A student that knows nothing does not have the columns that are absent from all rows.
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
from limbeck.losses import IGNORE_INDEX
from limbeck.temperature.advice import conclude
from limbeck.temperature.calibration import Calibration, calibrate
from limbeck.temperature.defaults import TEMPERATURES
from limbeck.temperature.policies.rows import is_absent


@dataclass(frozen=True)
class Softness:
    """What one temperature does to the soft targets and their gradient, averaged over the examples."""

    temperature: float
    """T, which divides the logits."""
    entropy: float
    """The entropy of the soft targets, in nats: 0 for hard labels, log V when all classes are equally likely."""
    effective_classes: float
    """exp(entropy): 1 for hard labels, V for uniform targets. Near 1, distillation adds little to the labels."""
    top_probability: float
    """The probability of the teacher's first class. Within 0.001 of 1, the soft targets are as good as hard labels."""
    fraction_on_negatives: float
    """The fraction of the squared soft gradient that falls on negative labels, from 0 to 1: what the teacher says beyond
    the label."""
    fraction_on_lowest: float
    """The fraction that falls on the half of the negative labels with the lowest teacher logits. It grows with T. Where the
    ranks of these classes are unreliable (``Analysis.ranks``), it is noise."""
    soft_over_hard: float
    """The norm of the soft gradient divided by that of the hard gradient, without C(T). It falls like 1/T² for large T."""
    compensated_over_hard: float
    """``soft_over_hard`` times T²: how strong the soft term is beside the hard one, at equal weights."""
    limit_over_hard: float
    """The limit of ``compensated_over_hard`` for large T. At temperatures that are near it, the student matches logits and a
    higher T changes nothing. Infinite when one model gives probability 0 to a class that the other knows."""


@dataclass(frozen=True)
class Rank:
    """How reliable the negative label of one rank is."""

    rank: int
    """1 for the teacher's second choice, 2 for its third, and so on."""
    gap: float
    """How far its logit is below that of the first class, on average."""
    spread: float
    """The standard deviation of that gap over the views of one example, on average. Where it is as large as the step to the
    next rank, the order of the two is noise."""
    agreement: float
    """The fraction of the pairs of views in which the same class has this rank: 1 for a steady rank."""


@dataclass(frozen=True)
class Analysis:
    """All measurements of one teacher."""

    classes: int
    """V, without the classes that are absent from all rows."""
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
    conclusion: str = ""
    """Which temperatures are worth trying, in plain text."""

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
    absent = is_absent(teacher_logits)
    absent_for_student = absent.all(0) if student_logits is None else is_absent(student_logits)
    z_t, z_s = z_t.masked_fill(absent, -torch.inf), z_s.masked_fill(absent_for_student, -torch.inf)
    targets = z_t.argmax(-1)
    if labels is not None:
        labels = labels.long()
        is_labelled = labels != IGNORE_INDEX
        if held_out is None and bool(is_labelled.any()):
            held_out = z_t[is_labelled], labels[is_labelled]
        targets = torch.where(is_labelled, labels, targets)
    measured = [softness(z_t, z_s, targets, float(t)) for t in temperatures]
    calibration = None if held_out is None else calibrate(_without_padding(held_out[0]), held_out[1])
    return Analysis(
        classes=z_t.shape[1] - int((absent & absent_for_student).all(0).sum()),
        examples=len(z_t),
        softness=measured,
        calibration=calibration,
        ranks=[] if views is None else reliability(views),
        view_kind=view_kind,
        conclusion=conclude(measured, calibration, lambda t: (z_t / t).softmax(-1).amax(-1).mean().item()),
    )


def _without_padding(logits: Tensor) -> Tensor:
    """Return the logits in float64, with -inf at absent classes."""
    return logits.double().masked_fill(is_absent(logits), -torch.inf)


def softness(teacher_logits: Tensor, student_logits: Tensor, labels: Tensor, temperature: float) -> Softness:
    """Measure one temperature.

    Args:
        teacher_logits: (N, V), float64; -inf for an absent class.
        student_logits: (N, V), float64; -inf for an absent class.
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
    absent = teacher_logits.isneginf() & student_logits.isneginf()
    limit_norm = _limit_norms(teacher_logits, student_logits, absent).mean()
    soft_norm, hard_norm = soft.norm(dim=-1).mean(), hard.norm(dim=-1).mean()
    on_negatives, on_lowest = _gradient_fractions(soft, teacher_logits, labels, absent)
    return Softness(
        temperature=temperature,
        entropy=entropy.mean().item(),
        effective_classes=entropy.exp().mean().item(),
        top_probability=p.amax(-1).mean().item(),
        fraction_on_negatives=on_negatives.mean().item(),
        fraction_on_lowest=on_lowest.mean().item(),
        soft_over_hard=(soft_norm / hard_norm).item(),
        compensated_over_hard=(temperature**2 * soft_norm / hard_norm).item(),
        limit_over_hard=(limit_norm / hard_norm).item(),
    )


def _limit_norms(teacher_logits: Tensor, student_logits: Tensor, absent: Tensor) -> Tensor:
    """Return the norm of the limit of T² g(T) in each row, (N,); infinite where a class is absent from one model alone."""
    difference = (student_logits - teacher_logits).masked_fill(absent, 0.0)
    known = (~absent).sum(-1, keepdim=True)
    limit = ((difference - difference.sum(-1, keepdim=True) / known) / known).masked_fill(absent, 0.0)
    return torch.where(difference.isinf().any(-1), torch.inf, limit.norm(dim=-1))


def _gradient_fractions(
    gradient: Tensor, teacher_logits: Tensor, labels: Tensor, absent: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the fractions (N,) of the squared gradient on negative labels, and on the lowest half of them."""
    squares = gradient.square()
    total = squares.sum(-1).clamp(min=torch.finfo(torch.float64).tiny)
    others = absent.scatter(-1, labels[:, None], True)
    negative = squares.masked_fill(others, 0.0)
    order = teacher_logits.masked_fill(others, torch.inf).argsort(-1)  # the label and the absent classes come last
    half = (~others).sum(-1, keepdim=True) // 2
    in_half = torch.arange(absent.shape[1], device=half.device) < half
    lowest = negative.gather(-1, order) * in_half
    return negative.sum(-1) / total, lowest.sum(-1) / total


def reliability(views: Tensor) -> list[Rank]:
    """Measure how steady each rank of negative labels is over the views of an example.

    Args:
        views: (M, N, V), logits on M >= 2 views. The ranks are those of the mean logits over the views.

    Returns:
        One entry for each negative rank: V - 1, where V counts the classes that every example has in every view.

    Raises:
        ArgumentError: there are fewer than two views, or the shape is wrong.
    """
    if views.dim() != 3 or len(views) < 2:
        raise ArgumentError("views", f"expected (M, N, V) with at least two views, got {tuple(views.shape)}.")
    logits = _without_padding(views)
    shared = int((~logits.mean(0).isneginf()).sum(-1).min())
    mean_order = logits.mean(0).argsort(-1, descending=True)
    ranked = logits.gather(-1, mean_order.expand(len(logits), -1, -1))[..., :shared]
    gaps = ranked[..., :1] - ranked[..., 1:]
    gap, spread = gaps.mean((0, 1)).tolist(), gaps.std(0).mean(0).tolist()
    agreement = _agreement(logits.argsort(-1, descending=True)).tolist()
    return [Rank(i + 1, gap[i], spread[i], agreement[i + 1]) for i in range(shared - 1)]


def _agreement(order: Tensor) -> Tensor:
    """Return the fraction of the pairs of views with the same class at each rank, (V,), given classes by rank (M, N, V)."""
    pairs = itertools.combinations(range(len(order)), 2)
    return torch.stack([(order[i] == order[j]).double().mean(0) for i, j in pairs]).mean(0)


def steady_ranks(ranks: Sequence[Rank]) -> int:
    """Return how many of the first negative ranks are steady.

    A rank is steady if its logit changes less from view to view than the step to the next rank. From the first rank that is
    not, the order of the classes is noise.

    Args:
        ranks: what ``reliability`` returned.
    """
    pairs = itertools.pairwise(ranks)
    return next((one.rank - 1 for one, below in pairs if one.spread >= below.gap - one.gap), len(ranks))


def noise_temperature(
    teacher_logits: Tensor, steady: int, *, lowest: float = min(TEMPERATURES), highest: float = max(TEMPERATURES)
) -> float | None:
    """Return the temperature above which most of what the teacher says about its negative labels is noise.

    Of the probability of all classes but the first, a share falls on the ranks that are not steady. It grows with T; at the
    temperature that is returned it is one half, on average over the examples.

    Args:
        teacher_logits: (N, V); absent classes as in ``analyze``.
        steady: the number of steady ranks, from ``steady_ranks``.
        lowest: the lowest temperature that is looked at.
        highest: the highest temperature that is looked at.

    Returns:
        The temperature; ``lowest`` if it lies below, and None if it lies above ``highest``.

    Example:
        >>> round(noise_temperature(torch.tensor([[9.0, 2.0, 0.0, 0.0]]), steady=1) * math.log(2), 3)
        2.0
    """
    negatives = _without_padding(teacher_logits).sort(-1, descending=True).values[:, 1:]

    def share(temperature: float) -> float:
        return (negatives / temperature).softmax(-1)[:, steady:].sum(-1).nanmean().item()

    if not share(highest) > 0.5:  # NaN where no example has a negative label
        return None
    for _ in range(50):
        middle = math.sqrt(lowest * highest)
        lowest, highest = (lowest, middle) if share(middle) > 0.5 else (middle, highest)
    return highest

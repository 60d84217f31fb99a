"""Small functions that divergences are written with, exact where the obvious formula is not.

A divergence of two close distributions is a small number. As a sum of terms of both signs it loses its digits: in float32,
sum p_t (b - a) is wrong by 6 % where ten logits differ by 1e-3. The functions of this file keep them. Each takes a log-ratio l
that has all its digits, and uses a power series where l is small.

In a divergence's ``terms_and_slopes`` kernels put functions of their own in the place of ``exp``, ``log``, ``minimum``,
``sign``, ``difference``, ``relative_entropy``, ``log_mixture`` and ``minus_expm1``.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch import log as log
from torch import sign as sign

LOG_ZERO = -1e4
"""A log-probability whose exponential is 0 in float32 and float64, yet finite, so that no 0 * inf arises."""

FAR = 80.0
"""A log-ratio past which the smaller probability counts for nothing and the exponential would overflow."""


def exp(x: Tensor) -> Tensor:
    """Return e^x, several times faster than ``torch.exp``.

    Args:
        x: of any shape.

    Returns:
        The same shape.
    """
    return torch.exp2(x * math.log2(math.e))


FAR_APART = 4.0
"""A log-ratio past which the digits that the difference of two log-probabilities has are enough."""

NEAR = 0.25
"""The size of a log-ratio below which the power series is used in float32. Its error is a millionth of it."""
NEAR_IN_FLOAT64 = 4e-3
"""The same in float64."""


def minimum(x: Tensor, bound: float) -> Tensor:
    """Return the smaller of ``x`` and a number, for each element.

    Args:
        x: of any shape.
        bound: the number.

    Returns:
        The shape of ``x``.
    """
    return x.clamp(max=bound)


def expectation(probabilities: Tensor, log_ratio: Tensor) -> Tensor:
    """Return ``p * log_ratio`` with 0 * log 0 = 0, in the value and in the gradient; NaN stays NaN.

    Args:
        probabilities: p, (..., V).
        log_ratio: (..., V), of any sign; infinite values are allowed where p is 0.

    Returns:
        (..., V), the terms of an expectation over p.
    """
    return probabilities * log_ratio.masked_fill(probabilities == 0, 0.0)


def excess_of_exp(x: Any) -> Any:
    """Return e^x - 1 - x for small x, by its power series.

    Args:
        x: of any shape.

    Returns:
        The same shape; never below 0.
    """
    return x * x * (1 / 2 + x * (1 / 6 + x * (1 / 24 + x * (1 / 120 + x * (1 / 720)))))


def difference(p: Tensor, q: Tensor, ratio: Tensor) -> Tensor:
    """Return q - p with all its digits.

    Args:
        p: probabilities, (..., V).
        q: probabilities, (..., V).
        ratio: log(p / q).

    Returns:
        (..., V).
    """
    near, small = _near(ratio)
    return torch.where(near, p * (excess_of_exp(-small) - small), q - p)


def relative_entropy(p: Tensor, q: Tensor, ratio: Tensor) -> Tensor:
    """Return the terms p log(p / q) + q - p of KL(p ‖ q), which are never negative, with all their digits.

    The sum over the classes is KL(p ‖ q), because both distributions have the sum 1.

    Args:
        p: probabilities, (..., V); where p is 0 the term is q.
        q: probabilities, (..., V).
        ratio: log(p / q); infinite values are allowed.

    Returns:
        (..., V); NaN stays NaN.
    """
    near, small = _near(ratio)
    return torch.where(near, p * excess_of_exp(-small), q - p + p * ratio.masked_fill(near | (p == 0), 0.0))


def mixture(p: Tensor, q: Tensor, fraction: float) -> Tensor:
    """Return fraction p + (1 - fraction) q.

    Args:
        p: probabilities, (..., V).
        q: probabilities, (..., V).
        fraction: the weight of p.

    Returns:
        (..., V).
    """
    return fraction * p + (1 - fraction) * q


def log_mixture(ratio: Tensor, fraction: float) -> Tensor:
    """Return log( fraction e^ratio + 1 - fraction ), exact where the ratio is small and where it is large.

    Args:
        ratio: log(q / p), (..., V).
        fraction: the weight of q in the mixture fraction q + (1 - fraction) p, in (0, 1).

    Returns:
        (..., V), the log-ratio of the mixture to p.
    """
    rough = torch.logaddexp(ratio + math.log(fraction), ratio.new_full((), math.log(1 - fraction)))
    with torch.no_grad():  # the gradient is that of the rough value: expm1 has none for a ratio far below 0
        below = torch.log1p(fraction * ratio.clamp(max=0).expm1())
        above = ratio.clamp(min=0) + torch.log1p((1 - fraction) * (-ratio).clamp(max=0).expm1())
        lost = torch.where(ratio <= 0, below, above) - rough
    return rough + lost.nan_to_num(0.0)


def minus_expm1(x: Tensor) -> Tensor:
    """Return 1 - e^x with all its digits.

    Args:
        x: of any shape.

    Returns:
        The same shape.
    """
    return -torch.expm1(x)


def logit_difference(student: Tensor, teacher: Tensor, t_s: Any, t_t: Any, top_s: Tensor, top_t: Tensor) -> Tensor:
    """Return (x_t - top x_t) - (x_s - top x_s) with x = z / T, with the digits of z_t - z_s.

    Args:
        student: z_s, (..., V).
        teacher: z_t, (..., V).
        t_s: the student's temperature, a number or (..., 1).
        t_t: the teacher's temperature, a number or (..., 1).
        top_s: the largest z_s of each row, (..., 1).
        top_t: the largest z_t of each row, (..., 1).

    Returns:
        (..., V); NaN where both models lack the class.
    """
    apart, shift = (teacher - student) / t_t, (top_t - top_s) / t_t
    if not (t_s is t_t or (isinstance(t_s, float) and t_s == t_t)):
        change = 1 / t_t - 1 / t_s
        apart, shift = apart + student * change, shift + top_s * change
    return apart - shift


def log_ratio(student: Tensor, teacher: Tensor, t_s: Any, t_t: Any, p_s: Tensor, rounded: Tensor) -> Tensor:
    """Return d = log(p_t / p_s) with all its digits, where ``rounded`` is the difference of two log-probabilities.

    The difference of the logits has its digits. What it lacks is the same for all classes of a row, with r the difference of
    the maxima of both rows:

        d = (x_t - x_s - r) - log1p( sum p_s expm1(x_t - x_s - r) ),  x = z / T

    Args:
        student: z_s, (..., V).
        teacher: z_t, (..., V).
        t_s: the student's temperature, a number or (..., 1).
        t_t: the teacher's temperature, a number or (..., 1).
        p_s: the student's probabilities, (..., V).
        rounded: log p_t - log p_s, finite where both models lack the class. It is taken in rows that are far apart.

    Returns:
        (..., V).
    """
    top_s, top_t = student.amax(-1, keepdim=True), teacher.amax(-1, keepdim=True)
    absent = student.isneginf() & teacher.isneginf()
    apart = logit_difference(student, teacher, t_s, t_t, top_s, top_t).masked_fill(absent, 0.0)
    far = ~(apart.amax(-1, keepdim=True) < FAR_APART)
    normalizer = torch.log1p((p_s * torch.expm1(apart.clamp(max=FAR_APART))).sum(-1, keepdim=True))
    return torch.where(far | absent, rounded, apart - normalizer)


def _near(ratio: Tensor) -> tuple[Tensor, Tensor]:
    """Return where the ratio is small, and the ratio with 0 where it is not."""
    near = ratio.abs() < (NEAR_IN_FLOAT64 if ratio.dtype == torch.float64 else NEAR)
    return near, torch.where(near, ratio, 0.0)

"""Small functions that divergences are written with, exact where the obvious formula is not.

``a`` and ``b`` are log-probabilities, as everywhere in this room. In a divergence's ``terms_and_slopes`` the CUDA kernel puts
functions of its own in the place of ``exp``, ``log``, ``minimum`` and ``sign``.
"""

from __future__ import annotations

import math

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


def log_mixture_ratio(x: Tensor, fraction: float, y: Tensor) -> Tensor:
    """Return log( (fraction e^x + (1 - fraction) e^y) / e^x ), exact where x and y are close and where they are far apart.

    Args:
        x: log-probabilities, (..., V).
        fraction: the weight of e^x in the mixture, in [0, 1].
        y: log-probabilities, (..., V).

    Returns:
        (..., V), the log-ratio of the mixture to e^x.
    """
    if fraction == 0:
        return y - x
    apart = y - x
    below = torch.log1p((1 - fraction) * apart.clamp(max=0).expm1())
    above = apart + torch.log1p(fraction * (-apart).clamp(max=0).expm1())
    return torch.where(apart <= 0, below, above)

"""Rows whose two distributions are close: the CPU kernel finds them by their value, and computes them again with all digits.

``terms_and_slopes`` is written once, with functions that keep all digits (``limbeck.losses.arithmetic``). They take too long
for rows that do not need them. Here are the plain functions, which the CPU kernel puts in their place for most rows, and the
short ones for rows that are close in every class.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from types import FunctionType
from typing import Any

import torch
from torch import Tensor

CLOSE = 5e-3
"""The KL below which float32 loses digits that count: the rounding of a plain sum is about 1e-7."""
NEAR = {torch.float32: 0.25, torch.float64: 4e-3}
"""The size of log(p_t / p_s) up to which the power series of the short functions hold."""
WRITTEN_WITH = "limbeck.losses.arithmetic"
LOG2_E = math.log2(math.e)


class Plain:
    """The functions for rows whose value is not small."""

    @staticmethod
    def mixture(p: Tensor, q: Tensor, fraction: float) -> Tensor:
        """Return p, because the other functions here do not use the mixture; see ``limbeck.losses.arithmetic``."""
        return p  # the plain terms do not use it

    @staticmethod
    def difference(p: Tensor, q: Tensor, ratio: Tensor) -> Tensor:
        """Return q - p, with ratio = log(p / q); see ``limbeck.losses.arithmetic``."""
        return q - p

    @staticmethod
    def relative_entropy(p: Tensor, q: Tensor, ratio: Tensor) -> Tensor:
        """Return the terms of KL(p ‖ q), with ratio = log(p / q); see ``limbeck.losses.arithmetic``."""
        return p * ratio  # q - p has the sum 0

    @staticmethod
    def log_mixture(ratio: Tensor, fraction: float) -> Tensor:
        """Return log(fraction e^ratio + 1 - fraction)."""
        return _exp(ratio).mul_(fraction).add_(1 - fraction).log_()

    @staticmethod
    def minus_expm1(x: Tensor) -> Tensor:
        """Return 1 - e^x."""
        return 1 - _exp(x)


class Short:
    """The functions for rows in which every log(p_t / p_s) is smaller than ``NEAR``."""

    mixture = Plain.mixture

    @staticmethod
    def minimum(x: Tensor, bound: float) -> Tensor:
        """Return x, which is smaller than any bound."""
        return x

    @staticmethod
    def difference(p: Tensor, q: Tensor, ratio: Tensor) -> Tensor:
        """Return q - p, with ratio = log(p / q); see ``limbeck.losses.arithmetic``."""
        return torch.neg(ratio).expm1_().mul_(p)

    @staticmethod
    def relative_entropy(p: Tensor, q: Tensor, ratio: Tensor) -> Tensor:
        """Return the terms of KL(p ‖ q), with ratio = log(p / q); see ``limbeck.losses.arithmetic``."""
        return _polynomial(ratio, 1 / 720, -1 / 120, 1 / 24, -1 / 6, 1 / 2).mul_(ratio).mul_(ratio).mul_(p)

    @staticmethod
    def log_mixture(ratio: Tensor, fraction: float) -> Tensor:
        """Return log(fraction e^ratio + 1 - fraction)."""
        return torch.expm1(ratio).mul_(fraction).log1p_()

    @staticmethod
    def minus_expm1(x: Tensor) -> Tensor:
        """Return 1 - e^x."""
        return torch.expm1(x).neg_()


def _exp(x: Tensor) -> Tensor:
    return torch.mul(x, LOG2_E).exp2_()


def _polynomial(x: Tensor, *coefficients: float, out: Tensor | None = None) -> Tensor:
    """Return a polynomial, the coefficient of its highest power first."""
    first, second, *rest = coefficients
    out = torch.mul(x, first, out=out).add_(second)
    for coefficient in rest:
        torch.addcmul(x.new_full((), coefficient), out, x, out=out)
    return out


def _is_near(x: Tensor) -> bool:
    bound = NEAR[x.dtype]
    return bool(x.amax() < bound) and bool(x.amin() > -bound)


def short_forward_kl(
    s: Tensor, t: Tensor, temperature: Tensor | float, a: Tensor, sum_a: Tensor, b: Tensor, c: Tensor, d: Tensor
) -> tuple[Tensor, Tensor, Tensor] | None:
    """Return KL(p_t ‖ p_s), and the factors of a and b in p_s - p_t = of_a a - of_b b, (n, 1) each; None for far rows.

    With the centred difference x = (t - s) / T - sum p_s (t - s) / T, and the small E = sum p_s (e^x - 1 - x):

        KL = sum p_s x expm1(x) / (1 + E) - log1p(E),  p_s - p_t = p_s (E - expm1(x)) / (1 + E)

    Args:
        s: the student's logits, (n, V), finite.
        t: the teacher's logits, (n, V), finite.
        temperature: T of both, a number or (n, 1).
        a: p_s = a / sum_a.
        sum_a: (n, 1).
        b: (n, V), overwritten with a expm1(x).
        c: (n, V), overwritten.
        d: (n, V), overwritten.
    """
    torch.sub(t, s, out=c)
    c.sub_(torch.mul(a, c, out=b).sum(-1, keepdim=True) / sum_a).mul_(1 / temperature)
    if not _is_near(c):
        return None
    _polynomial(c, 1 / 720, 1 / 120, 1 / 24, 1 / 6, 1 / 2, out=b).mul_(c).mul_(c)
    excess = torch.mul(a, b, out=d).sum(-1, keepdim=True) / sum_a
    b.add_(c).mul_(a)
    product = c.mul_(b).sum(-1, keepdim=True) / sum_a
    of_b = 1 / ((excess + 1) * sum_a)
    return product / (excess + 1) - excess.log1p(), excess * of_b, of_b


def short_log_ratio(
    s: Tensor, t: Tensor, temperature: Tensor | float, p_s: Tensor, out: Tensor | None, p_t: Tensor | None
) -> tuple[Tensor, Tensor] | None:
    """Return d = log(p_t / p_s) with all its digits, and p_t; None where a class of a row is far apart.

    Args:
        s: the student's logits, (n, V), finite.
        t: the teacher's logits, (n, V), finite.
        temperature: of both, a number or (n, 1).
        p_s: the student's probabilities.
        out: memory for d; None takes new memory.
        p_t: memory for p_t; None takes new memory.
    """
    d = torch.sub(t, s, out=out)
    p_t = torch.mul(d, p_s, out=p_t)
    d.sub_(p_t.sum(-1, keepdim=True)).mul_(1 / temperature)
    if not _is_near(d):
        return None
    torch.expm1(d, out=p_t).mul_(p_s)
    excess = p_t.sum(-1, keepdim=True)
    return d.sub_(excess.log1p()), p_t.add_(p_s).div_(excess + 1)


@cache
def written_with(function: Callable[..., Any], functions: type) -> Callable[..., Any]:
    """Return ``terms_and_slopes`` with other functions in the place of those of the losses.

    Args:
        function: the divergence's own.
        functions: those to put in, by name.
    """
    known: dict[str, Any] = function.__globals__
    given = {
        name: getattr(functions, name)
        for name in function.__code__.co_names
        if hasattr(functions, name) and getattr(known.get(name), "__module__", None) == WRITTEN_WITH
    }
    if not given:
        return function
    return FunctionType(
        function.__code__, known | given, function.__name__, function.__defaults__, function.__closure__
    )

"""How far the student's distribution is from the teacher's: one small class for each divergence.

Notation, here and in ``limbeck.losses.reference``: ``a = log p_s`` and ``b = log p_t`` are the log-probabilities of
the student and of the teacher at their temperatures, shaped (..., V).

To add a divergence, write one class with a ``terms`` method and register it; then add its row to ``tests/cases.py``.
Everything else (the public functions, the config, the checks of gradients and properties, the docs) follows from it.

A class may also have ``terms_and_slopes``, which gives the kernels the terms together with their derivatives and makes the
divergence fast. Without it the kernels differentiate the terms by autograd. It is written once for every kernel: with
arithmetic, and with functions of ``limbeck.losses.arithmetic``, which kernels replace by their own. Where it is the only
formula, the reference uses its terms too, and autograd finds their gradient. It takes

    d = b - a,  p_s = e^a,  p_t = e^b      (d has all its digits where the models are close; kernels keep it finite)

and the divergence's own parameters, in the order of the class's fields, and returns two tensors (..., V): the terms, and the
slopes, which are the derivatives of the terms with respect to a. The gradient is dD/dz = (slope - p_s sum slope) / T, so that
any multiple of p_s may be added to the slopes: it cancels.

For a divergence ``on_logits`` d is the difference of the logits (of row-centred logits when the divergence ``is_centred``),
p_s = p_t = 1 / V, and the slopes are the gradient itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from limbeck.losses.arithmetic import (
    FAR,
    difference,
    log_mixture,
    minimum,
    minus_expm1,
    mixture,
    relative_entropy,
    sign,
)
from limbeck.losses.divergence_base import DIVERGENCES as DIVERGENCES
from limbeck.losses.divergence_base import Divergence, register_divergence
from limbeck.losses.divergence_base import DivergenceChoice as DivergenceChoice
from limbeck.losses.divergence_base import resolve_divergence as resolve_divergence
from limbeck.losses.number_checks import check_fraction


@register_divergence("forward_kl")
@dataclass(frozen=True)
class ForwardKL(Divergence):
    r"""KL(p_t ‖ p_s) = Σ p_t (b - a): the student covers every class that the teacher finds likely.

    Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015.
    """

    @property
    def mirrored(self) -> Divergence:
        return ReverseKL()

    @staticmethod
    def terms_and_slopes(d: Any, p_s: Any, p_t: Any) -> tuple[Any, Any]:
        return relative_entropy(p_t, p_s, d), difference(p_t, p_s, d)


@register_divergence("reverse_kl")
@dataclass(frozen=True)
class ReverseKL(Divergence):
    r"""KL(p_s ‖ p_t) = Σ p_s (a - b): the student keeps to classes that the teacher finds likely.

    Gu et al., "MiniLLM: Knowledge Distillation of Large Language Models", 2024.
    """

    @property
    def mirrored(self) -> Divergence:
        return ForwardKL()

    @staticmethod
    def terms_and_slopes(d: Any, p_s: Any, p_t: Any) -> tuple[Any, Any]:
        opposite = -d
        return relative_entropy(p_s, p_t, opposite), p_s * opposite


@register_divergence("jsd")
@dataclass(frozen=True)
class JSD(Divergence):
    r"""beta KL(p_t ‖ m) + (1 - beta) KL(p_s ‖ m), with m = beta p_t + (1 - beta) p_s.

    At its ends this is 0 for every pair, so beta = 0 stands for forward KL and beta = 1 for reverse KL: the limits of
    JSD / (beta (1 - beta)), which is what ``compensate="curvature"`` gives.
    Agarwal et al., "On-Policy Distillation of Language Models" (GKD), 2024.
    """

    beta: float = 0.5

    def __post_init__(self) -> None:
        object.__setattr__(self, "beta", check_fraction("beta", self.beta))

    @property
    def curvature(self) -> float:
        return 1.0 if self.beta in (0, 1) else self.beta * (1 - self.beta)

    @property
    def simplest(self) -> Divergence:
        return {0.0: ForwardKL(), 1.0: ReverseKL()}.get(self.beta, self)

    @property
    def mirrored(self) -> Divergence:
        return JSD(1 - self.beta)

    @staticmethod
    def terms_and_slopes(d: Any, p_s: Any, p_t: Any, beta: float) -> tuple[Any, Any]:
        d, m = minimum(d, FAR), mixture(p_t, p_s, beta)
        r = -log_mixture(d, beta)  # a - log m
        terms = beta * relative_entropy(p_t, m, d + r) + (1 - beta) * relative_entropy(p_s, m, r)
        return terms, (1 - beta) * p_s * r


@register_divergence("skew_kl")
@dataclass(frozen=True)
class SkewKL(Divergence):
    r"""KL(p_t ‖ skew p_t + (1 - skew) p_s): forward KL that stays finite where p_s is 0.

    Ko et al., "DistiLLM: Towards Streamlined Distillation for Large Language Models", 2024.
    """

    skew: float = 0.1

    def __post_init__(self) -> None:
        object.__setattr__(self, "skew", check_fraction("skew", self.skew, below_one=True))

    @property
    def curvature(self) -> float:
        return (1 - self.skew) ** 2

    @property
    def simplest(self) -> Divergence:
        return self if self.skew else ForwardKL()

    @property
    def mirrored(self) -> Divergence:
        return SkewReverseKL(self.skew)

    @staticmethod
    def terms_and_slopes(d: Any, p_s: Any, p_t: Any, skew: float) -> tuple[Any, Any]:
        r = -log_mixture(minimum(-d, FAR), 1 - skew)  # b - log m
        return relative_entropy(p_t, mixture(p_t, p_s, skew), r), (1 - skew) * p_s * minus_expm1(r)


@register_divergence("skew_reverse_kl")
@dataclass(frozen=True)
class SkewReverseKL(Divergence):
    r"""KL(p_s ‖ skew p_s + (1 - skew) p_t): reverse KL that stays finite where p_t is 0.

    Ko et al., "DistiLLM: Towards Streamlined Distillation for Large Language Models", 2024.
    """

    skew: float = 0.1

    def __post_init__(self) -> None:
        object.__setattr__(self, "skew", check_fraction("skew", self.skew, below_one=True))

    @property
    def curvature(self) -> float:
        return (1 - self.skew) ** 2

    @property
    def simplest(self) -> Divergence:
        return self if self.skew else ReverseKL()

    @property
    def mirrored(self) -> Divergence:
        return SkewKL(self.skew)

    @staticmethod
    def terms_and_slopes(d: Any, p_s: Any, p_t: Any, skew: float) -> tuple[Any, Any]:
        r = -log_mixture(minimum(d, FAR), 1 - skew)  # a - log m
        return relative_entropy(p_s, mixture(p_s, p_t, skew), r), p_s * (skew * minus_expm1(r) + r)


@register_divergence("tvd")
@dataclass(frozen=True)
class TVD(Divergence):
    r"""Total variation, ½ Σ |p_s - p_t|. Its gradient falls only like 1/T, so C(T) = T; it has no curvature at 0.

    Wen et al., "f-Divergence Minimization for Sequence-Level Knowledge Distillation", 2023.
    """

    def compensation(self, temperature: Tensor | float) -> Tensor | float:
        return temperature

    @property
    def digits_lost_below(self) -> float:
        return 0.04  # it grows like the root of a KL

    @property
    def mirrored(self) -> Divergence:
        return self

    @staticmethod
    def terms_and_slopes(d: Any, p_s: Any, p_t: Any) -> tuple[Any, Any]:
        half = 0.5 * difference(p_t, p_s, d)
        towards = sign(half)
        return half * towards, 0.5 * p_s * towards


@register_divergence("logit_mse")
@dataclass(frozen=True)
class LogitMSE(Divergence):
    r"""½ mean over classes of the squared difference of row-centred logits: the limit of T² KL for high T.

    It has no temperature, and C = 1. ``center=False`` compares the logits as they are.
    Ba and Caruana, "Do Deep Nets Really Need to be Deep?", 2014; Hinton et al., 2015, section 2.1.
    """

    on_logits: ClassVar[bool] = True
    center: bool = True

    @property
    def is_centred(self) -> bool:
        return self.center

    @staticmethod
    def terms_and_slopes(d: Any, p_s: Any, p_t: Any, center: bool) -> tuple[Any, Any]:
        slope = -d * p_s
        return -0.5 * d * slope, slope

    def compensation(self, temperature: Tensor | float) -> Tensor | float:
        return 1.0

    def value(self, a: Tensor, b: Tensor, present: Tensor) -> Tensor:
        difference = a - b
        classes = present.sum(-1, keepdim=True)
        if self.center:
            difference = torch.where(present, difference - difference.sum(-1, keepdim=True) / classes, 0.0)
        return (difference * difference).sum(-1) / (2 * classes.squeeze(-1))

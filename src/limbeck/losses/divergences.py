"""How far the student's distribution is from the teacher's: one small class for each divergence.

Notation, here and in ``limbeck.losses.reference``: ``a = log p_s`` and ``b = log p_t`` are the log-probabilities of
the student and of the teacher at their temperatures, shaped (..., V).

To add a divergence, write one class with a ``terms`` method and register it; then add its row to ``tests/cases.py``.
Everything else (the public functions, the config, the checks of gradients and properties, the docs) follows from it.

A class may also have ``terms_and_slopes``, which gives the kernels the terms together with their derivatives and makes the
divergence fast. Without it the kernels differentiate the terms by autograd. It is written once for every kernel: with
arithmetic, and with the functions ``exp``, ``log``, ``minimum`` and ``sign`` of ``limbeck.losses.arithmetic``, which the CUDA
kernel replaces by its own. It takes

    d = b - a,  p_s = e^a,  p_t = e^b      (finite: rows with columns of -inf go by the terms)

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

from limbeck.losses.arithmetic import FAR, exp, expectation, log, log_mixture_ratio, minimum, sign
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

    def terms(self, a: Tensor, b: Tensor) -> Tensor:
        return expectation(b.exp(), b - a)

    @staticmethod
    def terms_and_slopes(d: Any, p_s: Any, p_t: Any) -> tuple[Any, Any]:
        return p_t * d, -p_t


@register_divergence("reverse_kl")
@dataclass(frozen=True)
class ReverseKL(Divergence):
    r"""KL(p_s ‖ p_t) = Σ p_s (a - b): the student keeps to classes that the teacher finds likely.

    Gu et al., "MiniLLM: Knowledge Distillation of Large Language Models", 2024.
    """

    def terms(self, a: Tensor, b: Tensor) -> Tensor:
        return expectation(a.exp(), a - b)

    @staticmethod
    def terms_and_slopes(d: Any, p_s: Any, p_t: Any) -> tuple[Any, Any]:
        terms = -p_s * d
        return terms, terms


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

    def terms(self, a: Tensor, b: Tensor) -> Tensor:
        if self.beta == 0:
            return ForwardKL().terms(a, b)
        if self.beta == 1:
            return ReverseKL().terms(a, b)
        from_teacher = expectation(b.exp(), -log_mixture_ratio(b, self.beta, a))
        from_student = expectation(a.exp(), -log_mixture_ratio(a, 1 - self.beta, b))
        return self.beta * from_teacher + (1 - self.beta) * from_student

    @staticmethod
    def terms_and_slopes(d: Any, p_s: Any, p_t: Any, beta: float) -> tuple[Any, Any]:
        d = minimum(d, FAR)
        r = -log(beta * exp(d) + (1 - beta))  # a - log m
        slope = (1 - beta) * p_s * r
        return beta * p_t * (d + r) + slope, slope


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

    def terms(self, a: Tensor, b: Tensor) -> Tensor:
        return expectation(b.exp(), -log_mixture_ratio(b, self.skew, a))

    @staticmethod
    def terms_and_slopes(d: Any, p_s: Any, p_t: Any, skew: float) -> tuple[Any, Any]:
        u = (1 - skew) * exp(minimum(-d, FAR))  # (1 - skew) p_s / p_t
        return -p_t * log(skew + u), -p_t * (u / (skew + u))


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

    def terms(self, a: Tensor, b: Tensor) -> Tensor:
        return expectation(a.exp(), -log_mixture_ratio(a, self.skew, b))

    @staticmethod
    def terms_and_slopes(d: Any, p_s: Any, p_t: Any, skew: float) -> tuple[Any, Any]:
        mixture = skew + (1 - skew) * exp(minimum(d, FAR))  # over p_s
        terms = -p_s * log(mixture)
        return terms, terms - p_s * (skew / mixture)


@register_divergence("tvd")
@dataclass(frozen=True)
class TVD(Divergence):
    r"""Total variation, ½ Σ |p_s - p_t|. Its gradient falls only like 1/T, so C(T) = T; it has no curvature at 0.

    Wen et al., "f-Divergence Minimization for Sequence-Level Knowledge Distillation", 2023.
    """

    def compensation(self, temperature: Tensor | float) -> Tensor | float:
        return temperature

    def terms(self, a: Tensor, b: Tensor) -> Tensor:
        return 0.5 * (a.exp() - b.exp()).abs()

    @staticmethod
    def terms_and_slopes(d: Any, p_s: Any, p_t: Any) -> tuple[Any, Any]:
        difference = 0.5 * (p_s - p_t)
        towards = sign(difference)
        return difference * towards, 0.5 * p_s * towards


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

"""How far the student's distribution is from the teacher's: one small class for each divergence.

Notation, here and in ``limbeck.losses.reference``: ``a = log p_s`` and ``b = log p_t`` are the log-probabilities of
the student and of the teacher at their temperatures, shaped (..., V).

To add a divergence, write one class with a ``terms`` method and register it; then add its row to ``tests/cases.py``.
Everything else (the public functions, the config, the checks of gradients and properties, the docs) follows from it.
A ``form`` beside the terms tells the kernels the gradient too, and makes it fast; without one they differentiate the terms.

A form is written once for every kernel: arithmetic, and the functions ``exp``, ``log``, ``minimum`` and ``sign`` of
this module, in whose place the CUDA kernels have their own. It takes

    d = b - a,  p_s = e^a,  p_t = e^b,  share      (finite: columns of -inf go by the terms)

and returns the terms with psi, their derivatives with respect to a, (..., V) both. A multiple of p_s may be added to psi: it
falls out of dD/dz = (psi - p_s sum psi) / T. For a divergence ``on_logits`` d is the difference of the logits (of
row-centred ones when the share is not 0), p_s = p_t = 1 / V, and psi is the gradient itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, log, sign

from limbeck.kernels.call import FORMS

DIVERGENCES: dict[str, type[Divergence]] = {}
"""Every registered divergence, by the name that ``divergence=`` takes."""

_Class = TypeVar("_Class", bound="type[Divergence]")


def register(name: str) -> Callable[[_Class], _Class]:
    """Make a divergence known by ``name``; used as a class decorator."""

    def add(cls: _Class) -> _Class:
        cls.name = name
        cls.parameters = tuple(field.name for field in fields(cls))
        DIVERGENCES[name] = cls
        return cls

    return add


def resolve_divergence(divergence: str | Divergence, *, beta: float = 0.5, skew: float = 0.1) -> Divergence:
    """Turn a name into a divergence, with the parameters that it knows; an object passes through.

    >>> resolve_divergence("jsd", beta=0.3)
    JSD(beta=0.3)
    """
    if isinstance(divergence, Divergence):
        return divergence
    if not isinstance(divergence, str):
        raise TypeError(
            f"divergence: expected a name or a Divergence object, got {type(divergence).__name__}. "
            f"The names are {', '.join(DIVERGENCES)}."
        )
    if divergence not in DIVERGENCES:
        raise ValueError(f"divergence: unknown name {divergence!r}. The names are {', '.join(DIVERGENCES)}.")
    cls = DIVERGENCES[divergence]
    given = {"beta": beta, "skew": skew}
    return cls(**{name: value for name, value in given.items() if name in cls.parameters})


FAR = 80.0
"""A log-ratio past which the smaller probability counts for nothing and the exponential would overflow."""


def exp(x: Tensor) -> Tensor:
    return torch.exp2(x * math.log2(math.e))  # several times faster than torch.exp


def minimum(x: Tensor, bound: float) -> Tensor:
    return x.clamp(max=bound)


def expectation(probabilities: Tensor, log_ratio: Tensor) -> Tensor:
    """``p * log_ratio`` with 0 * log 0 = 0, in the value and in the gradient; NaN stays NaN."""
    return probabilities * log_ratio.masked_fill(probabilities == 0, 0.0)


def log_mixture_ratio(x: Tensor, share: float, y: Tensor) -> Tensor:
    """log( (share e^x + (1 - share) e^y) / e^x ): exact where x and y are close, and where they are far apart."""
    if share == 0:
        return y - x
    apart = y - x
    below = torch.log1p((1 - share) * apart.clamp(max=0).expm1())
    above = apart + torch.log1p(share * (-apart).clamp(max=0).expm1())
    return torch.where(apart <= 0, below, above)


@dataclass(frozen=True)
class Divergence:
    """A divergence D(p_t, p_s) that is a sum of one term per class."""

    name: ClassVar[str]
    parameters: ClassVar[tuple[str, ...]] = ()
    on_logits: ClassVar[bool] = False
    """True when the divergence compares raw logits and so has no temperature."""

    has_form: ClassVar[bool]
    """Whether the kernels have a form of it, not older than its terms; else they differentiate the terms."""
    form_name: ClassVar[str]
    """The key of the form in ``limbeck.kernels.call.FORMS``."""

    def __init_subclass__(cls) -> None:
        depth = {
            name: next(i for i, c in enumerate(cls.__mro__) if name in vars(c)) for name in ("form", "terms", "value")
        }
        cls.has_form = cls.form is not Divergence.form and depth["form"] <= min(depth.values())
        cls.form_name = f"{cls.__module__}.{cls.__qualname__}"
        FORMS[cls.form_name] = cls.form

    @property
    def curvature(self) -> float:
        """The second-order coefficient f''(1): how D compares with forward KL for two close distributions."""
        return 1.0

    @property
    def share(self) -> float:
        """What the form takes beside the probabilities: the first parameter, the share in a mixture."""
        return float(getattr(self, self.parameters[0])) if self.parameters else 0.0

    @property
    def simplest(self) -> Divergence:
        """The divergence that this one is at an end of its parameter; else itself."""
        return self

    def compensation(self, temperature: Tensor | float) -> Tensor | float:
        """C(T): what keeps the size of the soft gradient independent of the (student's) temperature."""
        return temperature * temperature

    def terms(self, a: Tensor, b: Tensor) -> Tensor:
        """The terms of the sum, (..., V), from the student's log-probabilities ``a`` and the teacher's ``b``."""
        raise NotImplementedError

    @staticmethod
    def form(d: Any, p_s: Any, p_t: Any, share: float) -> tuple[Any, Any]:
        """The terms with their derivatives psi, for the kernels; see the top of this file."""
        raise NotImplementedError

    def value(self, a: Tensor, b: Tensor, present: Tensor) -> Tensor:
        """D for each row, (...,). ``present`` (bool, (..., V)) is False where both models lack the class.

        In such columns ``a`` and ``b`` are equal and their probability is exactly 0.
        """
        return self.terms(a, b).sum(-1)


@register("forward_kl")
@dataclass(frozen=True)
class ForwardKL(Divergence):
    r"""KL(p_t ‖ p_s) = Σ p_t (b - a): the student covers everything the teacher finds likely.

    Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015.
    """

    def terms(self, a: Tensor, b: Tensor) -> Tensor:
        return expectation(b.exp(), b - a)

    @staticmethod
    def form(d: Any, p_s: Any, p_t: Any, share: float) -> tuple[Any, Any]:
        return p_t * d, -p_t


@register("reverse_kl")
@dataclass(frozen=True)
class ReverseKL(Divergence):
    r"""KL(p_s ‖ p_t) = Σ p_s (a - b): the student keeps to what the teacher finds likely.

    Gu et al., "MiniLLM: Knowledge Distillation of Large Language Models", 2024.
    """

    def terms(self, a: Tensor, b: Tensor) -> Tensor:
        return expectation(a.exp(), a - b)

    @staticmethod
    def form(d: Any, p_s: Any, p_t: Any, share: float) -> tuple[Any, Any]:
        terms = -p_s * d
        return terms, terms


@register("jsd")
@dataclass(frozen=True)
class JSD(Divergence):
    r"""beta KL(p_t ‖ m) + (1 - beta) KL(p_s ‖ m), with m = beta p_t + (1 - beta) p_s.

    At its ends this is 0 for every pair, so beta = 0 stands for forward KL and beta = 1 for reverse KL: the limits of
    JSD / (beta (1 - beta)), which is what ``compensate="curvature"`` gives.
    Agarwal et al., "On-Policy Distillation of Language Models" (GKD), 2024.
    """

    beta: float = 0.5

    def __post_init__(self) -> None:
        _check_share("beta", self.beta, upper_included=True)

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
    def form(d: Any, p_s: Any, p_t: Any, share: float) -> tuple[Any, Any]:
        d = minimum(d, FAR)
        r = -log(share * exp(d) + (1 - share))  # a - log m
        slope = (1 - share) * p_s * r
        return share * p_t * (d + r) + slope, slope


@register("skew_kl")
@dataclass(frozen=True)
class SkewKL(Divergence):
    r"""KL(p_t ‖ skew p_t + (1 - skew) p_s): forward KL that stays finite where the student gives no mass.

    Ko et al., "DistiLLM: Towards Streamlined Distillation for Large Language Models", 2024.
    """

    skew: float = 0.1

    def __post_init__(self) -> None:
        _check_share("skew", self.skew)

    @property
    def curvature(self) -> float:
        return (1 - self.skew) ** 2

    @property
    def simplest(self) -> Divergence:
        return self if self.skew else ForwardKL()

    def terms(self, a: Tensor, b: Tensor) -> Tensor:
        return expectation(b.exp(), -log_mixture_ratio(b, self.skew, a))

    @staticmethod
    def form(d: Any, p_s: Any, p_t: Any, share: float) -> tuple[Any, Any]:
        u = (1 - share) * exp(minimum(-d, FAR))  # (1 - share) p_s / p_t
        return -p_t * log(share + u), -p_t * (u / (share + u))


@register("skew_reverse_kl")
@dataclass(frozen=True)
class SkewReverseKL(Divergence):
    r"""KL(p_s ‖ skew p_s + (1 - skew) p_t): reverse KL that stays finite where the teacher gives no mass.

    Ko et al., "DistiLLM: Towards Streamlined Distillation for Large Language Models", 2024.
    """

    skew: float = 0.1

    def __post_init__(self) -> None:
        _check_share("skew", self.skew)

    @property
    def curvature(self) -> float:
        return (1 - self.skew) ** 2

    @property
    def simplest(self) -> Divergence:
        return self if self.skew else ReverseKL()

    def terms(self, a: Tensor, b: Tensor) -> Tensor:
        return expectation(a.exp(), -log_mixture_ratio(a, self.skew, b))

    @staticmethod
    def form(d: Any, p_s: Any, p_t: Any, share: float) -> tuple[Any, Any]:
        mixture = share + (1 - share) * exp(minimum(d, FAR))  # over p_s
        terms = -p_s * log(mixture)
        return terms, terms - p_s * (share / mixture)


@register("tvd")
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
    def form(d: Any, p_s: Any, p_t: Any, share: float) -> tuple[Any, Any]:
        difference = 0.5 * (p_s - p_t)
        towards = sign(difference)
        return difference * towards, 0.5 * p_s * towards


@register("logit_mse")
@dataclass(frozen=True)
class LogitMSE(Divergence):
    r"""½ mean over classes of the squared difference of row-centred logits: the limit of T² KL for high T.

    It has no temperature, and C = 1. ``center=False`` compares the logits as they are.
    Ba and Caruana, "Do Deep Nets Really Need to be Deep?", 2014; Hinton et al., 2015, section 2.1.
    """

    on_logits: ClassVar[bool] = True
    center: bool = True

    @staticmethod
    def form(d: Any, p_s: Any, p_t: Any, share: float) -> tuple[Any, Any]:
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


def _check_share(name: str, value: float, *, upper_included: bool = False) -> None:
    if not (0 <= value < 1 or (upper_included and value == 1)):
        interval = "[0, 1]" if upper_included else "[0, 1)"
        raise ValueError(f"{name}: expected a number in {interval}, got {value!r}.")

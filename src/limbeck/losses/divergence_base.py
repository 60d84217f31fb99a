"""What a divergence is, how it gets a name, and how a name becomes a divergence."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, TypeVar

from torch import Tensor

from limbeck.errors import ArgumentError, ArgumentTypeError, expected_name, suggestion
from limbeck.losses.arithmetic import LOG_ZERO, log_ratio, logit_difference
from limbeck.own_code import add_class, check_name, import_class, is_own

DIVERGENCES: dict[str, type[Divergence]] = {}
"""Every registered divergence, by the name that ``divergence=`` takes."""

_Class = TypeVar("_Class", bound="type[Divergence]")


def register_divergence(name: str) -> Callable[[_Class], _Class]:
    """Return a class decorator that makes a divergence known by ``name``; put it above ``@dataclass``.

    Args:
        name: what users write for it, in ``divergence=`` and in configs. No colon: that names a class in a module.

    Returns:
        The decorator, which returns the class that it is given.

    Raises:
        ArgumentTypeError: the name is no text, or the class is not a ``Divergence``.
        ArgumentError: another divergence has this name, or the class has parameters and is no dataclass.
    """
    check_name(name, "register_divergence")

    def add(cls: _Class) -> _Class:
        check_class(cls)
        add_class(DIVERGENCES, name, cls)
        cls.name = name
        return cls

    return add


def check_class(cls: Any) -> None:
    """Require a class of divergences whose parameters are the fields of a dataclass, and keep their names in it.

    Args:
        cls: what was given.

    Raises:
        ArgumentTypeError: not a subclass of ``Divergence``.
        ArgumentError: it has parameters and is no dataclass.
    """
    if not (isinstance(cls, type) and issubclass(cls, Divergence)):
        raise ArgumentTypeError("divergence", f"expected a subclass of limbeck.losses.Divergence, got {cls!r}.")
    cls.parameters = tuple(field.name for field in fields(cls))  # here, because torch.compile cannot ask for fields
    annotations = inspect.get_annotations(cls).items()
    forgotten = [name for name, kind in annotations if name not in cls.parameters and "ClassVar" not in str(kind)]
    if forgotten:
        raise ArgumentError(
            "divergence",
            f"{cls.__qualname__} has the parameter {forgotten[0]}, but is no dataclass. Write @dataclass(frozen=True) right "
            "above the class.",
        )


def resolve_divergence(divergence: DivergenceChoice, *, beta: float = 0.5, skew: float = 0.1) -> Divergence:
    """Return the divergence that the user chose.

    Args:
        divergence: a registered name, or ``package.module:Class`` for a class that is imported; a mapping with the ``name`` and
            the divergence's own parameters; or a ``Divergence``, which is returned as it is.
        beta: for divergences with a parameter of this name, where a mapping does not set it.
        skew: the same for ``skew``.

    Returns:
        The divergence with its parameters.

    Raises:
        ArgumentTypeError: ``divergence`` is none of the three.
        ArgumentError: the name or one of the parameters is unknown, or a parameter is out of range.

    Example:
        >>> resolve_divergence("jsd", beta=0.3)
        JSD(beta=0.3)
        >>> resolve_divergence({"name": "skew_kl", "skew": 0.2})
        SkewKL(skew=0.2)
    """
    if isinstance(divergence, Divergence):
        return divergence
    parameters: dict[str, Any] = dict(divergence) if isinstance(divergence, Mapping) else {"name": divergence}
    name = parameters.pop("name", None)
    if not isinstance(name, str):
        given = divergence if isinstance(divergence, Mapping) else type(divergence).__name__
        raise ArgumentTypeError(
            "divergence",
            f"expected a name, a mapping with a name and parameters, or a Divergence object, got {given}. The names are "
            f"{', '.join(DIVERGENCES)}.",
        )
    if is_own(name):
        cls = import_class(name, Divergence, "divergence")
        check_class(cls)
    elif name in DIVERGENCES:
        cls = DIVERGENCES[name]
    else:
        raise ArgumentError("divergence", expected_name(name, DIVERGENCES))
    names = cls.parameters
    for parameter in parameters:
        if parameter not in names:
            has = suggestion(parameter, names) if names else ". It has none."
            raise ArgumentError("divergence", f"{name!r} has no parameter {parameter!r}{has}")
    shared = {"beta": beta, "skew": skew}
    return cls(**{key: value for key, value in shared.items() if key in names} | parameters)


@dataclass(frozen=True)
class Divergence:
    """A divergence D(p_t, p_s) that is a sum of one term per class. Its parameters are the fields of its dataclass."""

    name: ClassVar[str]
    """What users call it: the registered name, else the name of the class."""
    parameters: ClassVar[tuple[str, ...]] = ()
    """The names of its own parameters, once it has been chosen by a name."""
    on_logits: ClassVar[bool] = False
    """True if the divergence compares raw logits and so has no temperature."""
    log_zero: ClassVar[float] = LOG_ZERO
    """The log-probability that stands for log 0 where both models lack a class."""
    has_terms_and_slopes: ClassVar[bool] = False
    """True if ``terms_and_slopes`` is defined on the class that defines ``terms`` and ``value``, or on a subclass of it."""

    log_ratio = staticmethod(log_ratio)
    """Computes log(p_t / p_s) with all its digits, for the kernels, which do not know this room."""
    logit_difference = staticmethod(logit_difference)
    """Computes log(p_t / p_s) up to a number for each row, with all its digits, for the kernels."""
    is_sum_of_terms: ClassVar[bool] = True
    """False if ``value`` is more than the sum of ``terms``."""

    def __init_subclass__(cls) -> None:
        cls.name = cls.__name__
        # A method that was written for other terms, further up among the bases, does not describe these.
        ancestor = {
            method: next(i for i, base in enumerate(cls.__mro__) if method in vars(base))
            for method in ("terms", "value", "terms_and_slopes", "simplest")
        }
        newest = min(ancestor["terms"], ancestor["value"])
        cls.has_terms_and_slopes = (
            cls.terms_and_slopes is not Divergence.terms_and_slopes and ancestor["terms_and_slopes"] <= newest
        )
        cls.is_sum_of_terms = cls.value is Divergence.value
        if ancestor["simplest"] > newest:
            cls.simplest = Divergence.simplest  # pyright: ignore[reportAttributeAccessIssue]

    @property
    def parameter_values(self) -> tuple[Any, ...]:
        """Return the divergence's own parameters, in the order in which ``terms_and_slopes`` takes them."""
        return tuple(getattr(self, field.name) for field in fields(self))

    @property
    def is_centred(self) -> bool:
        """Return True if the logits are to have a mean of 0 in each row; asked only ``on_logits``."""
        return False

    @property
    def curvature(self) -> float:
        """Return the second-order coefficient f''(1): how D compares with forward KL for two close distributions."""
        return 1.0

    @property
    def digits_lost_below(self) -> float:
        """Return the value of a row below which a plain sum in float32 has lost digits that count."""
        return 5e-3 * self.curvature

    @property
    def simplest(self) -> Divergence:
        """Return the simpler divergence that this one equals at an end of its parameter; else the divergence itself."""
        return self

    @property
    def mirrored(self) -> Divergence | None:
        """Return the divergence with the roles of both distributions exchanged, D'(p, q) = D(q, p); None if it is not known."""
        return None

    def is_computed_as(self, other: type[Divergence]) -> bool:
        """Return True if a kernel for another divergence computes this one too.

        Args:
            other: the class that the kernel is for.

        Returns:
            True for the class itself, and for a subclass that has kept its terms.
        """
        if type(self) is other:
            return True
        if not isinstance(self, other) or not self.has_terms_and_slopes:
            return False
        methods = ("terms", "value", "terms_and_slopes")
        return all(getattr(type(self), method) is getattr(other, method) for method in methods)

    def compensation(self, temperature: Tensor | float) -> Tensor | float:
        """Return C(T), which keeps the size of the soft gradient independent of the temperature.

        Args:
            temperature: the student's T, a number or a tensor.

        Returns:
            C(T), in the shape of the temperature: T² unless a subclass says otherwise.
        """
        return temperature * temperature

    def terms(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the terms of the sum.

        Args:
            a: the student's log-probabilities, (..., V).
            b: the teacher's log-probabilities, (..., V).

        Returns:
            (..., V), differentiable in ``a``.
        """
        if self.simplest is not self:
            return self.simplest.terms(a, b)
        return self.terms_and_slopes(b - a, a.exp(), b.exp(), *self.parameter_values)[0]

    # Type checkers accept any override of (*args, **kwargs): subclasses name d, p_s, p_t and their own parameters.
    @staticmethod
    def terms_and_slopes(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """Return the terms and their derivatives with respect to a, for the kernels; ``limbeck.losses.divergences`` says more.

        Args:
            *args: d = b - a, p_s and p_t, then the divergence's own parameters.
            **kwargs: none.

        Returns:
            The terms and the slopes, (..., V) each.
        """
        raise NotImplementedError

    def value(self, a: Tensor, b: Tensor, present: Tensor) -> Tensor:
        """Return D of each row.

        Args:
            a: the student's log-probabilities, (..., V).
            b: the teacher's log-probabilities, (..., V).
            present: bool (..., V), False where both models lack the class. There ``a`` and ``b`` are equal, and their
                exponential is exactly 0.

        Returns:
            (...,), differentiable in ``a``.
        """
        return self.terms(a, b).sum(-1)

    def terms_with_digits(self, a: Tensor, b: Tensor, d: Tensor) -> Tensor:
        """Return the terms, with all their digits where ``terms_and_slopes`` is their only formula.

        Args:
            a: as in ``terms``.
            b: as in ``terms``.
            d: b - a, with the digits that this difference lacks where both are close.

        Returns:
            (..., V), differentiable in ``a`` and ``d``.
        """
        if type(self).terms is not Divergence.terms:
            return self.terms(a, b)
        return self.simplest.terms_and_slopes(d, a.exp(), b.exp(), *self.simplest.parameter_values)[0]

    def value_with_digits(self, a: Tensor, b: Tensor, d: Tensor, present: Tensor) -> Tensor:
        """Return D of each row, as the sum of ``terms_with_digits`` unless the divergence has a value of its own.

        Args:
            a: as in ``value``.
            b: as in ``value``.
            d: as in ``terms_with_digits``.
            present: as in ``value``.

        Returns:
            (...,), differentiable in ``a`` and ``d``.
        """
        return self.terms_with_digits(a, b, d).sum(-1) if self.is_sum_of_terms else self.value(a, b, present)


DivergenceChoice = str | Mapping[str, Any] | Divergence
"""A registered name or ``package.module:Class``, a mapping with it and the divergence's own parameters, or a divergence."""

"""Temperatures that are not one number: one small class for each policy.

A policy sees a batch and the progress of training, and returns a ``Softening``: a temperature for the teacher, one for the
student and, where its paper does not use C(T), the factor that replaces it. To add a policy, write its class in
``over_time``, ``per_example`` or ``learned``, and register it here. This room imports torch, ``limbeck.losses`` and the
modules that every room may import.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from limbeck.errors import ArgumentError, ArgumentTypeError, expected_name, suggestion
from limbeck.own_code import add_class, check_name, import_class, is_own
from limbeck.temperature.policies.base import Policy, Softening
from limbeck.temperature.policies.learned import Learned
from limbeck.temperature.policies.over_time import Cosine, Exponential, Gap, Linear
from limbeck.temperature.policies.per_example import MaxLogit, Sharpness, Standardized, TeacherOnly, WeightedTeacherOnly

__all__ = ["POLICIES", "Policy", "Softening", "policy_from", "register_policy"]

POLICIES: dict[str, type[Policy]] = {}
"""The policies by the name that a config uses."""

POLICY_SETS_BOTH = "a policy sets both temperatures. Leave it out."
"""What an error says about a ``teacher_temperature`` beside a policy."""

_Class = TypeVar("_Class", bound=type[Policy])


def register_policy(name: str) -> Callable[[_Class], _Class]:
    """Return a class decorator that makes a policy known by ``name``.

    Args:
        name: what users write for it, as ``policy`` in a config. No colon: that names a class in a module.

    Returns:
        The decorator, which returns the class that it is given.

    Raises:
        ArgumentTypeError: the name is no text, or the class is not a ``Policy``.
        ArgumentError: another policy has this name.
    """
    check_name(name, "register_policy")

    def add(cls: _Class) -> _Class:
        if not (isinstance(cls, type) and issubclass(cls, Policy)):
            raise ArgumentTypeError("policy", f"expected a subclass of limbeck.temperature.Policy, got {cls!r}.")
        add_class(POLICIES, name, cls)
        cls.name = name
        return cls

    return add


for _policy in (
    Linear, Cosine, Exponential, MaxLogit, Sharpness, Standardized, TeacherOnly, WeightedTeacherOnly, Gap, Learned,
):  # fmt: skip
    register_policy(_policy.name)(_policy)


def policy_from(settings: Mapping[str, Any] | Policy, *, argument: str = "temperature") -> Policy:
    """Return the policy that some settings describe.

    Args:
        settings: ``policy``, a key of ``POLICIES`` or ``package.module:Class`` for a class that is imported, and the arguments
            of that class; or a policy, which is returned itself.
        argument: the name of the argument or config key that holds the settings. Errors put it before the name of the
            setting; with "" they carry the name of the setting alone.

    Raises:
        ArgumentError: the policy or a setting is unknown, or a setting has a value that is not accepted.

    Example:
        >>> policy_from({"policy": "linear", "start": 8, "end": 2}).start
        8
    """
    if isinstance(settings, Policy):
        return settings
    given = dict(settings)
    name = given.pop("policy", None)
    if isinstance(name, str) and is_own(name):
        policy = import_class(name, Policy, _joined(argument, "policy"))
    elif isinstance(name, str) and name in POLICIES:
        policy = POLICIES[name]
    else:
        raise ArgumentError(_joined(argument, "policy"), expected_name(name, POLICIES))
    known = inspect.signature(policy).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values())
    for setting in given:
        if setting not in known and not takes_any:
            raise ArgumentError(
                _joined(argument, str(setting)), f"{name} has no such setting{suggestion(setting, known)}"
            )
    try:
        return policy(**given)
    except ArgumentError as error:
        raise ArgumentError(_joined(argument, error.argument), error.message) from None
    except TypeError as error:
        raise ArgumentError(argument, f"{name} cannot be made from {given} ({error}).") from None


def _joined(outer: str, inner: str) -> str:
    """Return the name of a setting with the name of what holds it before it."""
    return f"{outer}.{inner}" if outer else inner

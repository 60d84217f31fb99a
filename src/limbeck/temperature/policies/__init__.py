"""Temperatures that are not one number: one small class for each policy.

A policy sees a batch and the progress of training, and returns a ``Softening``: a temperature for the teacher, one for the
student and, where its paper does not use C(T), the factor that replaces it. To add a policy, write its class in
``over_time``, ``per_example`` or ``learned``, and add it to ``POLICIES`` here. This room imports torch and
``limbeck.errors`` alone.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from limbeck.errors import ArgumentError, expected_name, suggestion
from limbeck.temperature.policies.base import Policy, Softening
from limbeck.temperature.policies.learned import Learned
from limbeck.temperature.policies.over_time import Cosine, Exponential, Gap, Linear
from limbeck.temperature.policies.per_example import MaxLogit, Sharpness, Standardized, TeacherOnly, WeightedTeacherOnly

__all__ = ["POLICIES", "Policy", "Softening", "policy_from"]

POLICIES: dict[str, type[Policy]] = {
    policy.name: policy
    for policy in (
        Linear, Cosine, Exponential, MaxLogit, Sharpness, Standardized, TeacherOnly, WeightedTeacherOnly, Gap, Learned,
    )
}  # fmt: skip
"""The policies by the name that a config uses."""

POLICY_SETS_BOTH = "a policy sets both temperatures. Leave it out."
"""What an error says about a ``teacher_temperature`` beside a policy."""


def policy_from(settings: Mapping[str, Any] | Policy, *, argument: str = "temperature") -> Policy:
    """Return the policy that some settings describe.

    Args:
        settings: ``policy``, a key of ``POLICIES``, and the arguments of that class; or a policy, which is returned itself.
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
    if not isinstance(name, str) or name not in POLICIES:
        raise ArgumentError(_joined(argument, "policy"), expected_name(name, POLICIES))
    known = inspect.signature(POLICIES[name]).parameters
    for setting in given:
        if setting not in known:
            raise ArgumentError(
                _joined(argument, str(setting)), f"{name} has no such setting{suggestion(setting, known)}"
            )
    try:
        return POLICIES[name](**given)
    except ArgumentError as error:
        raise ArgumentError(_joined(argument, error.argument), error.message) from None
    except TypeError as error:
        raise ArgumentError(argument, f"{name} cannot be made from {given} ({error}).") from None


def _joined(outer: str, inner: str) -> str:
    """Return the name of a setting with the name of what holds it before it."""
    return f"{outer}.{inner}" if outer else inner

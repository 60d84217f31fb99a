"""Which temperature at which moment, for which example: one small class for each policy.

A policy looks at a batch and at how far training has come, and answers with a ``Softening``: a temperature for either side and,
where its paper does not use C(T), what stands in its place. To add one, write a class in ``schedules`` or ``examples`` and
register it here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from limbeck.temperature.policies.base import Policy
from limbeck.temperature.policies.over_time import Cosine, Exponential, Gap, Learned, Linear
from limbeck.temperature.policies.per_example import MaxLogit, Sharpness, Standardized, TeacherOnly, WeightedTeacherOnly

POLICIES: dict[str, type[Policy]] = {
    policy.name: policy
    for policy in (
        Linear, Cosine, Exponential, MaxLogit, Sharpness, Standardized, TeacherOnly, WeightedTeacherOnly, Gap, Learned,
    )
}  # fmt: skip


def policy_from(settings: Mapping[str, Any] | Policy) -> Policy:
    """A policy from its name and its settings.

    Raises:
        ValueError: an unknown policy or setting, or a value that it does not take.

    Example:
        >>> policy_from({"policy": "linear", "start": 8, "end": 2}).start
        8
    """
    if isinstance(settings, Policy):
        return settings
    given = dict(settings)
    name = given.pop("policy", None)
    if name not in POLICIES:
        raise ValueError(f"temperature.policy: expected one of {', '.join(POLICIES)}, got {name!r}.")
    try:
        return POLICIES[name](**given)
    except TypeError as error:
        told = str(error).replace("__init__() ", "").partition(".")[2] or str(error)
        raise ValueError(f"temperature: {name} cannot be made from {given} ({told}).") from None

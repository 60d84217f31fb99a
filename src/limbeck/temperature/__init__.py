"""Which T.

``analysis`` says what each temperature does to a teacher's soft targets, without training. ``policies`` lists those that
change T during training (``schedules``) or from example to example (``examples``). ``search`` picks T by training students, and
``fit`` is the smooth curve that it trusts.
"""

from limbeck.temperature.gaussian_process import Curve, Observation, fit
from limbeck.temperature.policies import POLICIES, policy_from
from limbeck.temperature.policies.base import Policy, Softening
from limbeck.temperature.search import Choice, Plan, Trial, search

__all__ = [
    "POLICIES",
    "Choice",
    "Curve",
    "Observation",
    "Plan",
    "Policy",
    "Softening",
    "Trial",
    "fit",
    "policy_from",
    "search",
]

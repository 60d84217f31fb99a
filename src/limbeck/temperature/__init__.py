"""Which temperature: what each T does to soft targets, how T can change in training, and which T to choose.

``analysis`` measures a teacher's soft targets without training, ``calibration`` its own probabilities, and ``advice`` says
what is worth trying. ``policies`` change T over time or for each example. ``search`` chooses T by training students:
``search_plan`` says which ones, ``quality`` how good each is, ``journal`` keeps them, ``gaussian_process`` fits the smooth
curve, and ``verdict`` says whether the teacher pays. The room may import ``limbeck.losses``, ``limbeck.evaluation`` and
``limbeck.errors``.
"""

from limbeck.temperature.analysis import Analysis, analyze
from limbeck.temperature.defaults import TEMPERATURES
from limbeck.temperature.gaussian_process import Curve, Observation, fit_curve
from limbeck.temperature.policies import POLICIES, policy_from, register_policy
from limbeck.temperature.policies.base import Policy, Softening
from limbeck.temperature.quality import Quality
from limbeck.temperature.search import Choice, search
from limbeck.temperature.search_plan import SearchPlan, Trial
from limbeck.temperature.verdict import Verdict

__all__ = [
    "POLICIES",
    "TEMPERATURES",
    "Analysis",
    "Choice",
    "Curve",
    "Observation",
    "Policy",
    "Quality",
    "SearchPlan",
    "Softening",
    "Trial",
    "Verdict",
    "analyze",
    "fit_curve",
    "policy_from",
    "register_policy",
    "search",
]

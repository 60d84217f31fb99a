"""Policies whose temperature depends on the logits of each example, and policies that soften the teacher alone.

Logits mean the same when a constant is added to all of them. A policy that reads their size therefore centers them first:
it subtracts their mean over the classes. Each side's statistics are those of the classes that it can choose.
"""

from __future__ import annotations

import torch
from torch import Tensor

from limbeck.errors import ArgumentError, expected_name
from limbeck.losses import DEFAULT_TEMPERATURE
from limbeck.temperature.policies.base import Policy, Softening, as_float, check_positive, require_teacher_logits
from limbeck.temperature.policies.rows import counted_positions, largest, sharpness, variance

LOWEST_TEMPERATURE = 0.05
"""The smallest temperature that a largest logit gives: a row of nearly equal logits would give almost 0."""
SMALLEST = 1e-6
"""The smallest sharpness and standard deviation: those of a row with one class, or with equal logits, can be 0."""
WEIGHTS = ("by_temperature", "constant")
"""What a policy with a temperature for each position can weight its positions by."""


class _OneTemperature(Policy):
    """A policy with one temperature as its setting.

    Args:
        temperature: T.

    Raises:
        ArgumentError: it is not a positive number.
    """

    def __init__(self, temperature: float = DEFAULT_TEMPERATURE) -> None:
        super().__init__()
        (self.temperature,) = check_positive(temperature=temperature)

    @property
    def nominal_temperature(self) -> float:
        return self.temperature


class MaxLogit(Policy):
    """T_t = max z_t / ratio and T_s = max z_s / ratio for each position, with the scale T_t T_s.

    The entropy of a softened distribution depends mostly on the ratio of its largest logit to T, so all positions get soft
    targets of nearly the same entropy. No gradient goes through T_s. This follows CIST (Luong et al., arXiv 2605.20357,
    2026) as far as its abstract describes it, without its weights for confidence and difficulty.

    Args:
        ratio: the largest logit, after centering, divided by T.
        weight: "by_temperature", the default, weights each position by its scale T_t T_s; "constant" gives all positions of a
            batch the mean of their scales, so that the temperatures do not change how much a position counts.

    Raises:
        ArgumentError: ``ratio`` is not a positive number, or ``weight`` is unknown.
    """

    name = "max_logit"

    def __init__(self, ratio: float = 3.0, weight: str = "by_temperature") -> None:
        super().__init__()
        (self.ratio,) = check_positive(ratio=ratio)
        self.weight = _check_weight(weight)

    @property
    def nominal_temperature(self) -> float:
        return 1.0

    def forward(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor | None,
        labels: Tensor | None = None,
        progress: float = 0.0,
        mask: Tensor | None = None,
    ) -> Softening:
        counted = counted_positions(student_logits, labels, mask)
        t_t, t_s = (
            _harmless((found / self.ratio).clamp(min=LOWEST_TEMPERATURE), sizes)
            for found, sizes in (
                largest(logits, counted) for logits in (require_teacher_logits(teacher_logits), student_logits)
            )
        )
        return Softening(t_t, t_s, _scale(t_t * t_s, counted, self.weight))


class Sharpness(_OneTemperature):
    """Temperatures that make teacher and student equally sharp, for each position.

    With the sharpness x = logsumexp(z_t) and y = logsumexp(z_s) of the centered logits:

        T_t = 2 x / (x + y) T,   T_s = 2 y / (x + y) T,   scale T_t T_s

    Centered logits have a sharpness of at least log V, so both temperatures are positive. Gradient goes through T_s, as in
    the authors' code. (DTKD: Wei and Bai, "Dynamic Temperature Knowledge Distillation", arXiv 2404.12711, 2024.)

    Args:
        temperature: T, the mean of the two temperatures.
        weight: as that of ``MaxLogit``.

    Raises:
        ArgumentError: ``temperature`` is not a positive number, or ``weight`` is unknown.
    """

    name = "sharpness"

    def __init__(self, temperature: float = DEFAULT_TEMPERATURE, weight: str = "by_temperature") -> None:
        super().__init__(temperature)
        self.weight = _check_weight(weight)

    def forward(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor | None,
        labels: Tensor | None = None,
        progress: float = 0.0,
        mask: Tensor | None = None,
    ) -> Softening:
        counted = counted_positions(student_logits, labels, mask)
        x, y = (
            _harmless(found.clamp(min=SMALLEST), sizes)
            for found, sizes in (
                sharpness(logits, counted)
                for logits in (require_teacher_logits(teacher_logits).detach(), student_logits)
            )
        )
        t_t, t_s = 2 * self.temperature * x / (x + y), 2 * self.temperature * y / (x + y)
        return Softening(t_t, t_s, _scale(t_t * t_s, counted, self.weight))


class Standardized(_OneTemperature):
    """Temperatures that divide each row of logits by its standard deviation, and then by T.

        T_t = T std(z_t),   T_s = T std(z_s),   scale T²

    The student has to match the shape of the teacher's logits and not their size. The paper also subtracts the mean, which
    softmax does not see. Gradient goes through the student's standard deviation. (Sun et al., "Logit Standardization in
    Knowledge Distillation", CVPR 2024.)

    Args:
        temperature: T, in standard deviations.

    Raises:
        ArgumentError: it is not a positive number.
    """

    name = "standardized"

    def __init__(self, temperature: float = 2.0) -> None:
        super().__init__(temperature)

    def forward(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor | None,
        labels: Tensor | None = None,
        progress: float = 0.0,
        mask: Tensor | None = None,
    ) -> Softening:
        counted = counted_positions(student_logits, labels, mask)
        # The clamp comes before the root, which has no gradient at 0.
        t_t, t_s = (
            _harmless((self.temperature**2 * found).clamp(min=SMALLEST**2).sqrt(), sizes)
            for found, sizes in (
                variance(logits, counted)
                for logits in (require_teacher_logits(teacher_logits).detach(), student_logits)
            )
        )
        return Softening(t_t, t_s, self.temperature**2)


class TeacherOnly(_OneTemperature):
    """A temperature for the teacher alone: T_t = T, T_s = 1, scale 1.

    This is the usual loss plus a Rényi entropy, which keeps the student from being too sure. (TTM: Zheng and Yang,
    "Knowledge Distillation Based on Transformed Teacher Matching", ICLR 2024.)

    Args:
        temperature: T.

    Raises:
        ArgumentError: it is not a positive number.
    """

    name = "teacher_only"

    def forward(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor | None,
        labels: Tensor | None = None,
        progress: float = 0.0,
        mask: Tensor | None = None,
    ) -> Softening:
        return Softening(self.temperature, 1.0, 1.0)


class WeightedTeacherOnly(TeacherOnly):
    """``TeacherOnly``, with each position weighted by the power sum sum_c p_t(c)^(1/T) of the teacher's probabilities.

    The weight is large at positions where the teacher is unsure. (WTTM, in the paper of ``TeacherOnly``.)

    Args:
        temperature: T.

    Raises:
        ArgumentError: it is not a positive number.
    """

    name = "weighted_teacher_only"

    def forward(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor | None,
        labels: Tensor | None = None,
        progress: float = 0.0,
        mask: Tensor | None = None,
    ) -> Softening:
        counted = counted_positions(student_logits, labels, mask)
        log_p = as_float(require_teacher_logits(teacher_logits).detach()).log_softmax(-1)
        weight = (log_p / self.temperature).exp().sum(-1)
        return Softening(self.temperature, 1.0, weight if counted is None else torch.where(counted, weight, 1.0))


def _harmless(values: Tensor, sizes: Tensor) -> Tensor:
    """Return the values of the rows that have classes, and 1 for the others."""
    return torch.where(sizes > 0, values, 1.0)


def _check_weight(weight: str) -> str:
    if weight not in WEIGHTS:
        raise ArgumentError("weight", expected_name(weight, WEIGHTS))
    return weight


def _scale(products: Tensor, counted: Tensor | None, weight: str) -> Tensor:
    """Return what the soft term of each position is multiplied by, from the products of its temperatures."""
    if weight == "by_temperature":
        return products
    products = products.detach()
    if counted is None:
        return products.mean()
    return torch.where(counted, products, 0.0).sum() / counted.sum().clamp(min=1)

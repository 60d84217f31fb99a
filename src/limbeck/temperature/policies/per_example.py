"""Temperatures that go by the logits of each example, and temperatures of the teacher alone."""

from __future__ import annotations

from torch import Tensor

from limbeck.temperature.policies.base import Policy, Softening, centred, floating, known, positive

SMALLEST = 0.05
"""No temperature goes below."""


class _OfTemperature(Policy):
    """With one temperature as its setting."""

    def __init__(self, temperature: float = 4.0) -> None:
        super().__init__()
        positive(temperature=temperature)
        self.temperature = temperature

    @property
    def start(self) -> float:
        return self.temperature


class MaxLogit(Policy):
    """T_t = max z_t / ratio and T_s = max z_s / ratio for each position: soft targets of (nearly) the same entropy everywhere.

    The entropy of a softened distribution goes mostly by the ratio of its largest logit to T. After CIST (Luong et al., arXiv
    2605.20357, 2026), as far as its abstract tells; its weights for confidence and difficulty are left out. No gradient goes
    through T_s. The scale is T_t T_s.

    Args:
        ratio: of the largest logit to T.
    """

    name = "max_logit"

    def __init__(self, ratio: float = 3.0) -> None:
        super().__init__()
        positive(ratio=ratio)
        self.ratio = ratio

    @property
    def start(self) -> float:
        return 1.0

    def forward(
        self, student: Tensor, teacher: Tensor | None, labels: Tensor | None = None, progress: float = 0.0
    ) -> Softening:
        t_t, t_s = (
            (centred(logits.detach()).amax(-1) / self.ratio).clamp(min=SMALLEST) for logits in (known(teacher), student)
        )
        return Softening(t_t, t_s, t_t * t_s)


class Sharpness(_OfTemperature):
    """Both sides as sharp as each other: with the sharpness x = logsumexp(z_t), y = logsumexp(z_s),

        T_t = 2 x / (x + y) T,   T_s = 2 y / (x + y) T,   scale T_t T_s

    (DTKD: Wei and Bai, "Dynamic Temperature Knowledge Distillation", arXiv 2404.12711, 2024). Centred logits have a sharpness
    of at least log V, so both temperatures are positive; gradient goes through T_s, as in the authors' code.

    Args:
        temperature: T, the mean of both.
    """

    name = "sharpness"

    def forward(
        self, student: Tensor, teacher: Tensor | None, labels: Tensor | None = None, progress: float = 0.0
    ) -> Softening:
        x, y = centred(known(teacher).detach()).logsumexp(-1), centred(student).logsumexp(-1)
        t_t, t_s = 2 * self.temperature * x / (x + y), 2 * self.temperature * y / (x + y)
        return Softening(t_t, t_s, t_t * t_s)


class Standardized(_OfTemperature):
    """Every row of logits divided by its standard deviation, then by T: T_t = T std(z_t), T_s = T std(z_s), scale T².

    The student need match the shape of the teacher's logits and not their size (Sun et al., "Logit Standardization in Knowledge
    Distillation", CVPR 2024). Softmax does not see the mean that they subtract too. Gradient goes through the student's std.

    Args:
        temperature: T, in standard deviations.
    """

    name = "standardized"

    def __init__(self, temperature: float = 2.0) -> None:
        super().__init__(temperature)

    def forward(
        self, student: Tensor, teacher: Tensor | None, labels: Tensor | None = None, progress: float = 0.0
    ) -> Softening:
        t_t, t_s = (
            (self.temperature * floating(logits).std(-1)).clamp(min=1e-6)
            for logits in (known(teacher).detach(), student)
        )
        return Softening(t_t, t_s, self.temperature**2)


class TeacherOnly(_OfTemperature):
    """T on the teacher alone, T_s = 1, scale 1: the usual loss plus a Rényi entropy that keeps the student from being too sure.

    (TTM: Zheng and Yang, "Knowledge Distillation Based on Transformed Teacher Matching", ICLR 2024.)

    Args:
        temperature: the teacher's.
    """

    name = "teacher_only"

    def forward(
        self, student: Tensor, teacher: Tensor | None, labels: Tensor | None = None, progress: float = 0.0
    ) -> Softening:
        return Softening(self.temperature, 1.0, 1.0)


class WeightedTeacherOnly(TeacherOnly):
    """The same, each position weighted by the power sum of the teacher's probabilities, sum_c p_t(c)^(1/T).

    Where the teacher is unsure the student listens more. (WTTM, in the same paper.)
    """

    name = "weighted_teacher_only"

    def forward(
        self, student: Tensor, teacher: Tensor | None, labels: Tensor | None = None, progress: float = 0.0
    ) -> Softening:
        log_p = floating(known(teacher).detach()).log_softmax(-1)
        return Softening(self.temperature, 1.0, (log_p / self.temperature).exp().sum(-1))

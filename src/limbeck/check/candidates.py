"""What a soft term and a hard term can be: formulas with which the gradient of a loss is compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.losses import Divergence
from limbeck.losses.divergences import JSD, TVD, ForwardKL, LogitMSE, ReverseKL, SkewKL, SkewReverseKL
from limbeck.losses.reference import soft_rows

_Value = Callable[[Tensor, Tensor, float], Tensor]
"""(z_s, z_t, T) -> the sum over the rows, without C(T)."""


@dataclass(frozen=True)
class Soft:
    """A formula of the soft term.

    Args:
        name: the formula in words.
        values: one function, or several whose weighted sum is the formula.
        fix: what to write in its place; empty for a right formula.
        sides: whose logits are divided by T, where it is not both models' once; empty where it is.
        on_logits: True if it has no softmax over the classes.
        per_class: True if a mean over classes belongs to it.
        power: C(T) is T to this power; 0 if T is not in it.
    """

    name: str
    values: tuple[_Value, ...]
    fix: str = ""
    sides: str = ""
    on_logits: bool = False
    per_class: bool = False
    power: int = 2

    @property
    def is_right(self) -> bool:
        """Return True if it is a divergence of both models at T."""
        return not (self.fix or self.sides)

    def gradients(self, student: Tensor, teacher: Tensor, temperature: float) -> list[Tensor]:
        """Return the gradient of each function with respect to the student's logits.

        Args:
            student: z_s.
            teacher: z_t.
            temperature: T.
        """
        leaf = student.detach().clone().requires_grad_()
        return [torch.autograd.grad(value(leaf, teacher, temperature), leaf)[0] for value in self.values]


@dataclass(frozen=True)
class Hard:
    """A formula of the hard term.

    Args:
        name: the formula in words.
        scores: (z_s, T) -> what is taken for log-probabilities.
        fix: what to write in its place; empty for the cross-entropy at T = 1.
    """

    name: str
    scores: Callable[[Tensor, float], Tensor]
    fix: str = ""

    def values(self, student: Tensor, labels: Tensor, temperature: float) -> list[Tensor]:
        """Return the term, and its mean over all labels, which label smoothing adds: the sums over the rows.

        Args:
            student: z_s.
            labels: y.
            temperature: T.
        """
        scores = self.scores(student, temperature)
        return [-scores.gather(-1, labels.unsqueeze(-1)).sum(), -scores.mean(-1).sum()]

    def gradients(self, student: Tensor, labels: Tensor, temperature: float) -> list[Tensor]:
        """Return the gradients of ``values``.

        Args:
            student: z_s.
            labels: y.
            temperature: T.
        """
        leaf = student.detach().clone().requires_grad_()
        values = self.values(leaf, labels, temperature)
        return [torch.autograd.grad(value, leaf, retain_graph=True)[0] for value in values]


def _of(divergence: Divergence) -> _Value:
    return lambda s, t, tau: soft_rows(s, t, divergence, tau, tau).sum()


def _cross(log_student: Tensor, teacher: Tensor) -> Tensor:
    """Return what ``F.kl_div`` has of the student: the teacher's entropy has no gradient."""
    return -(teacher * log_student).sum()


def _standardised(z: Tensor) -> Tensor:
    return (z - z.mean(-1, keepdim=True)) / (1e-7 + z.std(-1, keepdim=True))


FORWARD, REVERSE = "KL(teacher ‖ student)", "KL(student ‖ teacher)"
_LOGITS: dict[str, Any] = dict(on_logits=True, per_class=True)

RIGHT: Sequence[Soft] = (
    Soft(FORWARD, (_of(ForwardKL()),)),
    Soft(REVERSE, (_of(ReverseKL()),)),
    Soft("JSD(beta=0.5)", (_of(JSD(0.5)),)),
    Soft("total variation", (_of(TVD()),), power=1),
    Soft("half the mean squared difference of logits", (_of(LogitMSE(center=False)),), power=0, **_LOGITS),
    Soft("half the mean squared difference of centred logits", (_of(LogitMSE()),), power=0, **_LOGITS),
    Soft(
        "squared difference of probabilities",
        (lambda s, t, tau: ((s / tau).softmax(-1) - (t / tau).softmax(-1)).square().mean(-1).sum(),),
        per_class=True,
    ),
    Soft(
        "binary KL(teacher ‖ student) of each class",
        (
            lambda s, t, tau: (
                F.binary_cross_entropy_with_logits(s / tau, (t / tau).sigmoid(), reduction="none").mean(-1).sum()
            ),
        ),
        **_LOGITS,
    ),
    Soft(
        "KL(teacher ‖ student) of standardised logits",
        (lambda s, t, tau: soft_rows(_standardised(s), _standardised(t), ForwardKL(), tau, tau).sum(),),
    ),
    Soft("KL(teacher ‖ student) and KL(student ‖ teacher)", (_of(ForwardKL()), _of(ReverseKL()))),
)
"""Divergences without a parameter. The last one has two weights and comes last, because it contains others."""

FAMILIES = {
    "JSD(beta={})": JSD,
    "KL(teacher ‖ {} teacher + the rest student)": SkewKL,
    "KL(student ‖ {} student + the rest teacher)": SkewReverseKL,
}
"""Divergences with a parameter between 0 and 1."""


def member(name: str, parameter: float) -> Soft:
    """Return a divergence of a family.

    Args:
        name: of the family.
        parameter: its parameter.
    """
    return Soft(name.format(f"{parameter:.3g}"), (_of(FAMILIES[name](parameter)),))


def _one_sided(divergence: Divergence, name: str) -> list[Soft]:
    powers = {
        "the teacher's logits alone": (0, 1),
        "the student's logits alone": (1, 0),
        "neither model's logits": (0, 0),
        "both models' logits twice": (2, 2),
        "neither: they are multiplied by T": (-1, -1),
    }

    def value(s_power: int, t_power: int) -> _Value:
        return lambda s, t, tau: soft_rows(s, t, divergence, tau**t_power, tau**s_power).sum()

    return [Soft(name, (value(*both),), sides=side) for side, both in powers.items()]


def _fault(name: str, fix: str, function: Callable[[Tensor, Tensor], Tensor], **flags: Any) -> Soft:
    return Soft(name, (lambda s, t, tau: function(s / tau, t / tau),), fix=fix, **flags)


_LOGITS_WANTED = "Give it logits: a softmax comes before the softmax of the loss. Remove the first one."
_KL_DIV = "Write F.kl_div(F.log_softmax(student / T, -1), F.softmax(teacher / T, -1), reduction='batchmean')."
WRONG: Sequence[Soft] = (
    *_one_sided(ForwardKL(), FORWARD),
    *_one_sided(ReverseKL(), REVERSE),
    *_one_sided(JSD(0.5), "JSD(beta=0.5)"),
    _fault(
        "F.kl_div with the teacher's log-probabilities",
        _KL_DIV + " Or set log_target=True.",
        lambda s, t: _cross(s.log_softmax(-1), t.log_softmax(-1)),
    ),
    _fault("F.kl_div with the teacher's logits", _KL_DIV, lambda s, t: _cross(s.log_softmax(-1), t)),
    _fault("F.kl_div with the student's probabilities", _KL_DIV, lambda s, t: _cross(s.softmax(-1), t.softmax(-1))),
    _fault("F.kl_div with the student's logits", _KL_DIV, lambda s, t: _cross(s, t.softmax(-1))),
    _fault(
        "F.kl_div with the student's logits and the teacher's log-probabilities",
        _KL_DIV,
        lambda s, t: _cross(s, t.log_softmax(-1)),
    ),
    *(
        Soft(
            f"KL of {what}",
            (lambda s, t, tau, of=of: soft_rows(*of(s, t, tau), ForwardKL(), tau, tau).sum(),),
            fix=_LOGITS_WANTED,
        )
        for what, of in {
            "logits that are the probabilities of both": lambda s, t, tau: (s.softmax(-1), t.softmax(-1)),
            "logits that are the teacher's probabilities": lambda s, t, tau: (s, t.softmax(-1)),
            "logits that are the student's probabilities": lambda s, t, tau: (s.softmax(-1), t),
        }.items()
    ),
    *(
        Soft(
            f"KL of {what}",
            (lambda s, t, tau, of=of: soft_rows(*of(s, t, tau), ForwardKL(), 1.0, 1.0).sum(),),
            fix=_LOGITS_WANTED,
        )
        for what, of in {
            "the softmax of the probabilities of both": lambda s, t, tau: (
                (s / tau).softmax(-1),
                (t / tau).softmax(-1),
            ),
            "the softmax of the teacher's probabilities": lambda s, t, tau: (s / tau, (t / tau).softmax(-1)),
            "the softmax of the student's probabilities": lambda s, t, tau: ((s / tau).softmax(-1), t / tau),
        }.items()
    ),
    _fault(
        "KL(teacher ‖ student) against the teacher's most likely class",
        "Use the teacher's probabilities, not its argmax.",
        lambda s, t: _cross(s.log_softmax(-1), F.one_hot(t.argmax(-1), t.shape[-1])),
    ),
)
"""Formulas that are no divergence of both models at T."""

HARD: Sequence[Hard] = (
    Hard("CE", lambda s, tau: s.log_softmax(-1)),
    Hard(
        "CE at T",
        lambda s, tau: (s / tau).log_softmax(-1),
        "Give the student's own logits to the cross-entropy, not those over T.",
    ),
    Hard(
        "CE of probabilities taken for logits",
        lambda s, tau: s.softmax(-1).log_softmax(-1),
        "Give the student's logits to F.cross_entropy: it has a softmax of its own.",
    ),
    Hard("NLL of logits", lambda s, tau: s, "Use F.cross_entropy, or log_softmax before nll_loss."),
    Hard("NLL of probabilities", lambda s, tau: s.softmax(-1), "Use F.cross_entropy, or log_softmax before nll_loss."),
)

"""The base class of temperature policies, and the checks that policies share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from limbeck.errors import ArgumentError
from limbeck.losses.number_checks import is_number


@dataclass(frozen=True)
class Softening:
    """The temperatures of one batch, and the factor in front of its soft term.

    soft term = scale * D( softmax(z_t / teacher_temperature), softmax(z_s / student_temperature) )
    """

    teacher_temperature: Tensor | float
    """One number, or (...,) with one for each position."""
    student_temperature: Tensor | float
    """One number, or (...,) with one for each position."""
    scale: Tensor | float | None = None
    """What stands in place of C(T), as ``DistillationLoss.parts`` takes it: one number, or (...,) with one for each position;
    None for the divergence's own C(T)."""

    @property
    def temperature(self) -> Tensor | float | tuple[Tensor | float, Tensor | float]:
        """Return the ``temperature`` argument of the losses: one value, or the pair (teacher's, student's)."""
        if self.teacher_temperature is self.student_temperature:
            return self.teacher_temperature
        return self.teacher_temperature, self.student_temperature


class Policy(nn.Module):
    """A rule that sets the temperatures of each batch.

    A policy that reads the teacher's logits cannot be used with sparse targets, which have only some of them.
    """

    name: ClassVar[str]
    """The value of ``policy`` that selects this class in a config: the registered name, else ``package.module:Class``."""
    reads_softmax: ClassVar[bool] = True
    """Whether it reads the logits as those of a softmax, which not every task has."""

    def __init_subclass__(cls) -> None:
        if "name" not in vars(cls):
            cls.name = f"{cls.__module__}:{cls.__qualname__}"

    def forward(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor | None,
        labels: Tensor | None = None,
        progress: float = 0.0,
        mask: Tensor | None = None,
    ) -> Softening:
        """Return the softening of a batch.

        A position that does not count gets temperatures and a scale that are finite, whatever its logits hold. A
        class that no model can choose (its logit is -inf, or padding) has no part in the temperatures.

        Args:
            student_logits: (..., V).
            teacher_logits: (..., V); None when only some classes are known.
            labels: (...,) integers, -100 for a position without a label.
            progress: the fraction of training that is done, from 0 to 1.
            mask: (...,) booleans, True at the positions that count in the loss; by default the ones with a label, or all
                when there are no labels.

        Raises:
            ArgumentError: the policy needs all of the teacher's logits, or labels, and there are none; or the labels or
                the mask have a wrong shape.
        """
        raise NotImplementedError

    @property
    def nominal_temperature(self) -> float:
        """Return one temperature that stands for the policy where a number is needed, as in a check of the settings."""
        raise NotImplementedError


def check_positive(**values: float) -> tuple[float, ...]:
    """Return settings, after checking that they are positive, finite numbers.

    Args:
        **values: the settings by name. A NumPy number is one too.

    Returns:
        The settings, in their order, as numbers of Python.

    Raises:
        ArgumentError: one of them is not; the error carries its name.
    """
    for name, value in values.items():
        if not is_number(value) or not 0 < value < math.inf:
            raise ArgumentError(name, f"expected a positive number, got {value!r}.")
    return tuple(value if type(value) in (int, float) else float(value) for value in values.values())


def require_teacher_logits(teacher_logits: Tensor | None) -> Tensor:
    """Return the teacher's logits, which must be known for all classes.

    Args:
        teacher_logits: (..., V); None when only some classes are known.

    Raises:
        ArgumentError: they are None.
    """
    if teacher_logits is None:
        raise ArgumentError(
            "temperature",
            "this policy needs all of the teacher's logits, and only some classes are known. Store them densely.",
        )
    return teacher_logits


def as_float(logits: Tensor) -> Tensor:
    """Return the logits in float32, or in float64 when they are in float64 already.

    Args:
        logits: any shape, any floating dtype.
    """
    return logits if logits.dtype == torch.float64 else logits.float()

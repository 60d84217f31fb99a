"""A teacher turns a batch into targets; the objective never knows where they come from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from limbeck.losses import SparseTargets
from limbeck.models import floating_dtype, forward_logits, freeze


@dataclass(frozen=True)
class TeacherOutput:
    """What a teacher says of a batch: all of its logits, or a few classes of each position."""

    logits: Tensor | None = None
    """(N, V), or (N, L, V) for sequences; raw: no temperature in them."""
    targets: SparseTargets | None = None
    """The same positions, in the place of the logits."""


@runtime_checkable
class Teacher(Protocol):
    """Anything that turns a batch into a ``TeacherOutput`` and can follow the student to its device."""

    def __call__(self, batch: Mapping[str, Any]) -> TeacherOutput: ...

    def to(self, device: torch.device) -> Teacher: ...


class LiveTeacher:
    """A model run beside the student: frozen, in eval mode, without gradient.

    It freezes the module that it is given (``requires_grad_(False)``, ``eval()``). It is not an ``nn.Module`` itself, so
    that no optimiser, checkpoint or wrapper can find it.

    Args:
        model: any module that ``limbeck.models.forward_logits`` can call.
        dtype: the dtype to run in; by default the model's own.
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype | None = None) -> None:
        self.model = freeze(model if dtype is None else model.to(dtype))
        self._dtype = floating_dtype(self.model)

    def to(self, device: torch.device) -> LiveTeacher:
        """Move the model."""
        self.model.to(device)
        return self

    @torch.no_grad()
    def __call__(self, batch: Mapping[str, Any]) -> TeacherOutput:
        """Run the model on a batch; floating-point inputs are cast to its dtype."""
        if self.model.training:  # somebody called .train() on the module since
            self.model.eval()
        inputs = {
            name: value.to(self._dtype) if isinstance(value, Tensor) and value.is_floating_point() else value
            for name, value in batch.items()
        }
        return TeacherOutput(forward_logits(self.model, inputs))


class Ensemble:
    """Several teachers, live or stored, averaged: their logits, or their probabilities at a temperature.

        logits:          z = sum w_i z_i
        probabilities:   z = T log sum w_i softmax(z_i / T),  whose softmax at that T is the average

    Args:
        teachers: at least one, modules or teachers; all give logits of one shape.
        weights: one for each, positive; by default the same. They are divided by their sum.
        average: "logits" or "probabilities".
        temperature: of the probabilities: the distillation's own.
    """

    def __init__(
        self,
        teachers: Sequence[Teacher | nn.Module],
        weights: Sequence[float] | None = None,
        *,
        average: Literal["logits", "probabilities"] = "probabilities",
        temperature: float = 1.0,
    ) -> None:
        if not teachers or any(not isinstance(teacher, Teacher) for teacher in teachers):
            raise TypeError("teachers: expected at least one Teacher or module.")
        given = [1.0] * len(teachers) if weights is None else [float(w) for w in weights]
        if len(given) != len(teachers) or min(given) <= 0:
            raise ValueError(f"weights: expected {len(teachers)} positive numbers, got {weights!r}.")
        if average not in ("logits", "probabilities"):
            raise ValueError(f"average: expected 'logits' or 'probabilities', got {average!r}.")
        if not temperature > 0:
            raise ValueError(f"temperature: expected a positive number, got {temperature!r}.")
        self.teachers: list[Teacher] = [LiveTeacher(x) if isinstance(x, nn.Module) else x for x in teachers]
        self.weights = [w / sum(given) for w in given]
        self.average, self.temperature = average, temperature
        self.one_view = any(getattr(teacher, "one_view", False) for teacher in teachers)

    def to(self, device: torch.device) -> Ensemble:
        """Move all of them."""
        self.teachers = [teacher.to(device) for teacher in self.teachers]
        return self

    def __call__(self, batch: Mapping[str, Any]) -> TeacherOutput:
        """Ask every teacher, and average in float32."""
        outputs = [teacher(batch) for teacher in self.teachers]
        if any(output.logits is None for output in outputs):
            raise TypeError(
                "teachers: an ensemble averages logits, and one of these keeps only some classes of each position."
            )
        logits = [output.logits.float() for output in outputs if output.logits is not None]
        if self.average == "logits":
            return TeacherOutput(torch.stack([w * z for w, z in zip(self.weights, logits, strict=True)]).sum(0))
        t = self.temperature
        terms = [(z / t).log_softmax(-1) + math.log(w) for w, z in zip(self.weights, logits, strict=True)]
        return TeacherOutput(t * torch.logsumexp(torch.stack(terms), 0))


class InMemoryTeacher:
    """Logits that were computed once for every training example, looked up by the batch's ``example_id``.

    It knows one view of each example, so it does not fit augmented inputs.

    Args:
        logits: (rows, V), for the rows that ``example_id`` counts.
    """

    one_view = True

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits

    def to(self, device: torch.device) -> InMemoryTeacher:
        """Move the logits."""
        self.logits = self.logits.to(device)
        return self

    def __call__(self, batch: Mapping[str, Any]) -> TeacherOutput:
        """Look a batch up."""
        return TeacherOutput(self.logits[batch["example_id"].to(self.logits.device)])

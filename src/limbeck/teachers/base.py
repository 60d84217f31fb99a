"""A teacher turns a batch into targets; the objective never knows where they come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

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


class RememberedTeacher:
    """Logits that were computed once for every training example, looked up by the batch's ``example_id``.

    It knows one view of each example, so it does not fit augmented inputs.

    Args:
        logits: (rows, V), for the rows that ``example_id`` counts.
    """

    one_view = True

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits

    def to(self, device: torch.device) -> RememberedTeacher:
        """Move the logits."""
        self.logits = self.logits.to(device)
        return self

    def __call__(self, batch: Mapping[str, Any]) -> TeacherOutput:
        """Look a batch up."""
        return TeacherOutput(self.logits[batch["example_id"].to(self.logits.device)])

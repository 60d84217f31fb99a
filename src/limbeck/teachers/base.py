"""What all teachers have in common: they turn a batch into targets. The objective does not know where these come from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from limbeck.losses import SparseTargets


@dataclass(frozen=True)
class TeacherOutput:
    """The teacher's predictions for one batch. Either ``logits`` or ``targets`` is set."""

    logits: Tensor | None = None
    """(N, V), or (N, L, V) for sequences. They are raw: not divided by a temperature."""
    targets: SparseTargets | None = None
    """A few classes of each position, in place of the logits. Positions are those that the logits would have."""


class Teacher(ABC):
    """The base class of teachers. A subclass implements ``__call__``, and overrides the rest where it needs to.

    Example:
        >>> import torch
        >>> from limbeck.teachers import Teacher, TeacherOutput
        >>> class Uniform(Teacher):
        ...     def __call__(self, batch):
        ...         return TeacherOutput(torch.zeros(len(batch["labels"]), 10))
        >>> Uniform()({"labels": torch.tensor([3, 1])}).logits.shape
        torch.Size([2, 10])
    """

    single_view: bool = False
    """True if the teacher knows one view of each example, so that its inputs must not be augmented."""

    @abstractmethod
    def __call__(self, batch: Mapping[str, Any]) -> TeacherOutput:
        """Return the teacher's predictions for a batch.

        Args:
            batch: the student's batch, after augmentation: tensors by name, on the training device.

        Returns:
            The raw logits or the sparse targets of every position in the batch.
        """

    def to(self, device: torch.device) -> Self:
        """Prepare for batches on ``device`` and return the teacher. The trainer calls this once, before training.

        Args:
            device: the training device.

        Returns:
            The teacher that the trainer then uses; here ``self``, unchanged.
        """
        return self

"""A teacher whose logits were computed before training and are kept in memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from limbeck.teachers.base import Teacher, TeacherOutput


class InMemoryTeacher(Teacher):
    """Logits that were computed once for every training example and are looked up by the batch's ``example_id``.

    It knows one view of each example, so that its inputs must not be augmented.

    Args:
        logits: (rows, V), any floating dtype. Row ``i`` belongs to the example with ``example_id`` ``i``.

    Example:
        >>> import torch
        >>> from limbeck.teachers import InMemoryTeacher
        >>> teacher = InMemoryTeacher(torch.tensor([[1.0, 0.0], [0.0, 2.0]]))
        >>> teacher({"example_id": torch.tensor([1])}).logits
        tensor([[0., 2.]])
    """

    single_view = True
    columns = ()

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits

    def to(self, device: torch.device) -> InMemoryTeacher:
        """Move the logits to ``device`` and return the teacher."""
        self.logits = self.logits.to(device)
        return self

    def __call__(self, batch: Mapping[str, Any]) -> TeacherOutput:
        """Return the logits of the batch's examples."""
        return TeacherOutput(self.logits[batch["example_id"].to(self.logits.device)])

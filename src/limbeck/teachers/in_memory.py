"""A teacher whose logits were computed before training and are kept in memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from limbeck.errors import ArgumentError, DataError
from limbeck.teachers.base import Teacher, TeacherOutput


class InMemoryTeacher(Teacher):
    """Logits that were computed once for every training example and are looked up by the batch's ``example_id``.

    It knows one view of each example, so that its inputs must not be augmented.

    Args:
        logits: (rows, V), any floating dtype. Row ``i`` belongs to the example with ``example_id`` ``i``.

    Raises:
        ArgumentError: ``logits`` is something else.

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
        if not isinstance(logits, Tensor) or logits.dim() < 2 or not logits.is_floating_point():
            what = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise ArgumentError("logits", f"expected a floating-point tensor (rows, V), got {what}.")
        self.logits = logits

    def to(self, device: torch.device) -> InMemoryTeacher:
        """Move the logits to ``device`` and return the teacher."""
        self.logits = self.logits.to(device)
        return self

    def __call__(self, batch: Mapping[str, Any]) -> TeacherOutput:
        """Return the logits of the batch's examples.

        Args:
            batch: ``example_id`` (N,), and anything else.

        Raises:
            DataError: the batch has no ids, or there are no logits for one of them.
        """
        if "example_id" not in batch:
            raise DataError(
                "example_id: missing in the batch, and a teacher in memory finds its rows by it. Give each example its row "
                "number in the logits as a column of that name; limbeck.data.Examples have it."
            )
        ids = torch.as_tensor(batch["example_id"])
        if ids.device.type == "cpu" and ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < len(self.logits):
            raise DataError(
                f"example_id: goes from {int(ids.min())} to {int(ids.max())} in this batch, and the teacher in memory has "
                f"{len(self.logits)} rows of logits, from 0 on. Compute them for the examples that the student is trained on."
            )
        return TeacherOutput(self.logits[ids.to(self.logits.device)])

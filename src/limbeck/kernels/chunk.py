"""Some rows of a call, in the memory of the whole or in memory of their own."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from limbeck.kernels.call import GradientScales, LossCall, scales_of_rows


class Chunk(NamedTuple):
    """Some rows of a call, and where their results go."""

    student: Tensor
    teacher: Tensor | None
    rows: slice | None
    """Which rows of the call; None for all of them."""
    scales: GradientScales
    """One number, or (n, 1)."""
    soft: Tensor
    """(n,), to be filled."""
    hard: Tensor
    gradient: Tensor | None
    """(n, V), to be filled; it may be the student."""

    def of(self, value: Any) -> Any:
        """Return the chunk's part of a value that is one number for all rows or one for each."""
        return value[self.rows] if self.rows is not None and isinstance(value, Tensor) else value

    def labels_of(self, call: LossCall) -> Tensor:
        """Return the labels of the chunk's rows: columns (n, 1), or rows (n, V)."""
        labels: Tensor = self.of(call.labels)
        return labels if call.has_label_rows else labels.unsqueeze(-1)

    def part(self, rows: slice) -> Chunk:
        """Return some rows of the whole."""
        fields = (self.student, self.teacher, self.soft, self.hard, self.gradient)
        student, teacher, soft, hard, gradient = (None if field is None else field[rows] for field in fields)
        return Chunk(student, teacher, rows, scales_of_rows(self.scales, rows), soft, hard, gradient)  # pyright: ignore[reportArgumentType]

    def copies(self, rows: Tensor) -> Chunk:
        """Return some rows as a call of their own, with new memory for what they write."""
        student, soft, hard = self.student[rows], self.soft[rows], self.hard[rows]
        teacher = None if self.teacher is None else self.teacher[rows]
        gradient = None if self.gradient is None else torch.empty_like(student)
        return Chunk(student, teacher, None, scales_of_rows(self.scales, rows), soft, hard, gradient)

    def put(self, rows: Tensor, part: Chunk) -> None:
        """Take over what some rows have written; their cross-entropy is the same."""
        self.soft[rows] = part.soft
        if self.gradient is not None and part.gradient is not None:
            self.gradient[rows] = part.gradient

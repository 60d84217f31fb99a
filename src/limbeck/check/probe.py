"""Random logits, and the gradient of a loss on them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor

from limbeck.check.calling import Loss
from limbeck.errors import ArgumentError

TEMPERATURES = (1.0, 2.0, 4.0, 8.0)
MATRIX, SEQUENCES = (6, 7), (3, 4, 7)


class Example(NamedTuple):
    """Logits of student and teacher, and labels."""

    student: Tensor
    teacher: Tensor
    labels: Tensor

    def with_other_teacher(self) -> Example:
        """Return the example with another teacher."""
        return self._replace(teacher=-self.teacher)

    def with_other_labels(self) -> Example:
        """Return the example with another label at each position."""
        return self._replace(labels=(self.labels + 1) % self.student.shape[-1])

    def map(self, function: Callable[[Tensor], Tensor]) -> Example:
        """Return the example with all of its tensors changed.

        Args:
            function: what changes a tensor.
        """
        return Example(*map(function, self))


@dataclass
class Probe:
    """A loss, and the logits on which it is examined.

    Args:
        loss: the black box.
        shape: of the logits, the classes last.
        dtype: of the logits.
        temperature: T where only one is needed.
        shifted: True if the label of a position belongs to the logits before it.
        overwritten: the largest change of an input that a call made; a result.
    """

    loss: Loss
    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float64
    temperature: float = 3.0
    shifted: bool = False
    overwritten: dict[str, float] = field(default_factory=dict)

    def draw(self, seed: int = 0, scale: float = 1.5, shape: tuple[int, ...] | None = None) -> Example:
        """Return random logits, with labels that have every class about equally often.

        Args:
            seed: of the random numbers.
            scale: the standard deviation of the logits.
            shape: of the logits; by default the probe's.
        """
        shape = shape or self.shape
        generator = torch.Generator().manual_seed(seed)
        student, teacher = scale * torch.randn(2, *shape, generator=generator, dtype=torch.float64)
        labels = torch.randint(shape[-1], shape[:-1], generator=generator)
        return Example(student.to(self.dtype), teacher.to(self.dtype), labels)

    def run(self, example: Example, temperature: float | None = None) -> tuple[Tensor, Tensor | None]:
        """Return the loss, and its gradient with respect to the student's logits; None where it has no graph.

        Args:
            example: the logits and labels.
            temperature: T; by default the probe's.
        """
        leaf = example.student.clone().requires_grad_()
        student, teacher, labels = leaf * 1, example.teacher.clone(), example.labels.clone()  # may be overwritten
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = self.loss(student, teacher, labels, temperature or self.temperature)
            gradient = torch.autograd.grad(value, leaf, allow_unused=True)[0] if value.requires_grad else None
        for name, now, before in (("student", student, example.student), ("teacher", teacher, example.teacher)):
            change = (now.detach().double() - before.double()).nan_to_num().abs().max().item()
            self.overwritten[name] = max(change, self.overwritten.get(name, 0.0))
        return value.detach(), gradient

    def gradient(self, example: Example, temperature: float | None = None) -> Tensor:
        """Return the gradient of the loss with respect to the student's logits, in float64; 0 where it has no graph.

        Args:
            example: the logits and labels.
            temperature: T; by default the probe's.
        """
        gradient = self.run(example, temperature)[1]
        return torch.zeros_like(example.student).double() if gradient is None else gradient.double()

    def change(self, example: Example, other: Example, temperature: float | None = None) -> Tensor:
        """Return the difference of two gradients.

        Args:
            example: the logits and labels.
            other: the same with another teacher, so that the hard term cancels, or with other labels.
            temperature: T; by default the probe's.
        """
        return self.gradient(example, temperature) - self.gradient(other, temperature)

    def aligned(self, example: Example) -> Example:
        """Return the example with logits and labels that belong together at the same position.

        Args:
            example: what the loss takes.
        """
        if not self.shifted:
            return example
        return Example(example.student[:, :-1], example.teacher[:, :-1], example.labels[:, 1:])

    def aligned_gradient(self, gradient: Tensor) -> Tensor:
        """Return the gradient of the positions that ``aligned`` keeps.

        Args:
            gradient: with respect to the student's logits.
        """
        return gradient[:, :-1] if self.shifted else gradient

    def in_dtype(self, dtype: torch.dtype) -> Probe:
        """Return the probe of the same loss with logits of another dtype.

        Args:
            dtype: of the logits.
        """
        return replace(self, dtype=dtype, overwritten={})


def open_probe(loss: Loss, shape: tuple[int, ...] | None) -> Probe:
    """Return a probe of logits that the loss takes: of the given shape, else a matrix, else sequences.

    Args:
        loss: the black box.
        shape: of the logits; None tries both.

    Returns:
        The probe, in float64 where the loss takes it, else in float32.

    Raises:
        ArgumentError: the loss takes neither.
    """
    temperature = 3.0 if loss.takes_temperature else loss.temperature
    fault = ""
    for tried in (MATRIX, SEQUENCES) if shape is None else (shape,):
        for dtype in (torch.float64, torch.float32):
            probe = Probe(loss, tried, dtype, temperature)
            try:
                probe.gradient(probe.draw())
            except Exception as error:  # the loss is anybody's
                fault = fault or told(error)
            else:
                return replace(probe, shifted=_is_shifted(probe))
    raise ArgumentError(
        "loss",
        f"{loss.name} failed on logits of shape {shape or MATRIX}: {fault} Say how it is called (call, --call) or give "
        "another shape (shape, --shape).",
    )


def _is_shifted(probe: Probe) -> bool:
    """Return True if the first labels of sequences are not used, and other labels are."""
    if len(probe.shape) == 2 or not probe.loss.takes_labels:
        return False
    example = probe.draw()
    first, last = example.labels.clone(), example.labels.clone()
    first[:, 0] = (first[:, 0] + 1) % probe.shape[-1]
    last[:, -1] = (last[:, -1] + 1) % probe.shape[-1]
    changes = [size(probe.gradient(example) - probe.gradient(example._replace(labels=y))) for y in (first, last)]
    return changes[0] == 0 < changes[1]


def size(x: Tensor) -> float:
    """Return the root of the sum of squares.

    Args:
        x: any tensor.
    """
    return x.norm().item()


def told(error: Exception) -> str:
    """Return the type and the first line of an error of the loss.

    Args:
        error: what the loss raised.
    """
    if isinstance(error, ArgumentError) and error.argument == "loss":  # said by Limbeck about what the loss is
        return error.message
    return f"{type(error).__name__}: {error}".splitlines()[0]

"""Teachers that compute their targets beside the student, and the one place that decides what can be a teacher."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.errors import ArgumentError, ArgumentTypeError
from limbeck.models import floating_dtype, forward_logits, freeze
from limbeck.teachers.base import Teacher, TeacherOutput

TeacherFunction = Callable[[Mapping[str, Any]], TeacherOutput | Tensor]
TeacherLike = Teacher | nn.Module | TeacherFunction
"""Everything that ``as_teacher`` accepts."""


class LiveTeacher(Teacher):
    """A model that runs beside the student: frozen, in eval mode and without gradients.

    The model itself is frozen (``requires_grad_(False)`` and ``eval()``), not a copy of it. A ``LiveTeacher`` is no
    ``nn.Module``, so that no optimiser, checkpoint or wrapper finds the model's parameters.

    Args:
        model: any module that ``limbeck.models.forward_logits`` can call.
        dtype: the floating-point dtype that the model is converted to; by default it keeps its own.

    Example:
        >>> import torch
        >>> from limbeck.teachers import LiveTeacher
        >>> teacher = LiveTeacher(torch.nn.Linear(4, 3))
        >>> teacher({"x": torch.randn(2, 4)}).logits.shape
        torch.Size([2, 3])
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype | None = None) -> None:
        self.model = freeze(model if dtype is None else model.to(dtype))
        self._dtype = floating_dtype(self.model)

    def to(self, device: torch.device) -> LiveTeacher:
        """Move the model to ``device`` and return the teacher."""
        self.model.to(device)
        return self

    @torch.no_grad()
    def __call__(self, batch: Mapping[str, Any]) -> TeacherOutput:
        """Return the model's logits for a batch. Floating-point inputs are cast to the model's dtype."""
        if self.model.training:  # a callback may have called .train() on it
            self.model.eval()
        inputs = {
            name: value.to(self._dtype) if isinstance(value, Tensor) and value.is_floating_point() else value
            for name, value in batch.items()
        }
        return TeacherOutput(forward_logits(self.model, inputs))


class CallableTeacher(Teacher):
    """A teacher around any callable: a function, or an object without ``Teacher`` as its base.

    The callable's own ``to`` and ``single_view`` are used where it has them.

    Args:
        function: maps a batch to a ``TeacherOutput``, or to raw logits.
    """

    def __init__(self, function: TeacherFunction) -> None:
        self.function: Any = function
        self.single_view = bool(getattr(function, "single_view", False))

    def to(self, device: torch.device) -> CallableTeacher:
        """Pass ``device`` on to the callable, if it has a ``to``, and return the teacher."""
        if hasattr(self.function, "to"):
            self.function = self.function.to(device)
        return self

    def __call__(self, batch: Mapping[str, Any]) -> TeacherOutput:
        """Return what the callable returns for a batch."""
        output = self.function(batch)
        return TeacherOutput(output) if isinstance(output, Tensor) else output


def as_teacher(source: TeacherLike, *, dtype: torch.dtype | None = None, argument: str = "teacher") -> Teacher:
    """Return a ``Teacher`` made from a module, a teacher or any other callable.

    Args:
        source: a ``Teacher``, which is returned as it is; an ``nn.Module``, which is frozen; or any other callable that
            maps a batch to a ``TeacherOutput`` or to raw logits.
        dtype: the floating-point dtype that a module is converted to; by default it keeps its own. Other sources ignore it.
        argument: how an error names the argument that ``source`` was given for.

    Returns:
        The teacher.

    Raises:
        ArgumentTypeError: ``source`` cannot be called with a batch.

    Example:
        >>> import torch
        >>> from limbeck.teachers import as_teacher
        >>> teacher = as_teacher(lambda batch: torch.zeros(len(batch["x"]), 3))
        >>> teacher({"x": torch.randn(2, 4)}).logits.shape
        torch.Size([2, 3])
    """
    if isinstance(source, Teacher):
        return source
    if isinstance(source, nn.Module):
        return LiveTeacher(source, dtype)
    if not callable(source) or isinstance(source, type):
        name = f"the class {source.__name__}" if isinstance(source, type) else type(source).__name__
        raise ArgumentTypeError(argument, f"expected a module, a Teacher or a callable, got {name}.")
    return CallableTeacher(source)


def check_separate(teacher: object, student: nn.Module) -> None:
    """Raise an error if a module or ``LiveTeacher`` shares parameters with the student. Call it before freezing.

    Args:
        teacher: anything; only the parameters of a module or a ``LiveTeacher`` are looked at.
        student: the model that is trained.

    Raises:
        ArgumentError: they share at least one parameter.
    """
    module = teacher.model if isinstance(teacher, LiveTeacher) else teacher
    if not isinstance(module, nn.Module):
        return
    trained = {id(parameter) for parameter in student.parameters()}
    if any(id(parameter) in trained for parameter in module.parameters()):
        raise ArgumentError(
            "teacher",
            "it shares parameters with the student, and freezing it freezes the student. "
            "Pass copy.deepcopy(model) as the teacher.",
        )

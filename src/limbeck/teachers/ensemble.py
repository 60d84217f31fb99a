"""Several teachers that act as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from limbeck.errors import ArgumentError, ArgumentTypeError
from limbeck.models import forward_logits
from limbeck.models.forward import class_axis
from limbeck.teachers.base import Teacher, TeacherOutput
from limbeck.teachers.live import TeacherLike, as_teacher
from limbeck.teachers.specialists import Classes, Weighted, check_classes, with_specialists

Average = Literal["logits", "probabilities"]
"""What an ensemble averages."""


class Ensemble(Teacher):
    """The weighted average of several teachers: of their logits, or of their probabilities at a temperature.

        logits:          z = sum w_i z_i
        probabilities:   z = T log sum w_i softmax(z_i / T),  so that softmax(z / T) is the average

    Teachers that know some of the classes are specialists: ``limbeck.teachers.specialists`` says how they are combined.

    Args:
        teachers: at least one module, teacher or callable, live or stored. All that know the same classes give logits of one
            shape.
        weights: one positive number for each teacher; by default all are equal. They are divided by their sum.
        average: "logits" or "probabilities".
        temperature: T > 0 at which probabilities are averaged. It must be the one of the distillation, which is taken by
            default: a trainer sets it. Whoever calls the ensemble without a trainer names it. Logits need none.
        classes: for each teacher, the numbers of the classes that its columns stand for; None if it knows all classes, as
            at least one must. The sets of specialists may overlap.

    Raises:
        ArgumentError: the weights, the average, the temperature or the classes are not as described.
        ArgumentTypeError: there is no teacher, or something that cannot be one.

    Example:
        >>> import torch
        >>> from limbeck.teachers import Ensemble
        >>> ensemble = Ensemble([torch.nn.Linear(4, 3), torch.nn.Linear(4, 3)], weights=[2, 1], temperature=4.0)
        >>> ensemble({"x": torch.randn(5, 4)}).logits.shape
        torch.Size([5, 3])
    """

    def __init__(
        self,
        teachers: Sequence[TeacherLike],
        weights: Sequence[float] | None = None,
        *,
        average: Average = "probabilities",
        temperature: float | None = None,
        classes: Sequence[Classes | None] | None = None,
    ) -> None:
        if not teachers:
            raise ArgumentTypeError("teachers", "expected at least one Teacher, module or callable.")
        given = [1.0] * len(teachers) if weights is None else [float(w) for w in weights]
        if len(given) != len(teachers) or min(given) <= 0:
            raise ArgumentError("weights", f"expected {len(teachers)} positive numbers, got {weights!r}.")
        if average not in ("logits", "probabilities"):
            raise ArgumentError("average", f"expected 'logits' or 'probabilities', got {average!r}.")
        if temperature is not None and not temperature > 0:
            raise ArgumentError("temperature", f"expected a positive number, got {temperature!r}.")
        self.teachers: list[Teacher] = [as_teacher(teacher, argument="teachers") for teacher in teachers]
        self.weights = [w / sum(given) for w in given]
        self.average, self.temperature = average, temperature
        self.classes = [None] * len(teachers) if classes is None else [c if c is None else tuple(c) for c in classes]
        check_classes(self.classes, len(teachers))
        if average == "logits" and any(self.classes):
            raise ArgumentError(
                "average",
                "'logits' is for teachers that all know the same classes, and one is a specialist. Take 'probabilities'.",
            )
        self._temperature_of_loss: float | None = None
        self.single_view = any(teacher.single_view for teacher in self.teachers)
        self.models = [model for teacher in self.teachers for model in teacher.models]
        columns = [teacher.columns for teacher in self.teachers]
        known = [names for names in columns if names is not None]
        self.columns = {name for names in known for name in names} if len(known) == len(columns) else None

    def to(self, device: torch.device) -> Ensemble:
        """Move every teacher to ``device`` and return the ensemble."""
        self.teachers = [teacher.to(device) for teacher in self.teachers]
        return self

    def at_temperature(self, temperature: float | None) -> Ensemble:
        """Average probabilities at the temperature of the loss, and return the ensemble.

        Args:
            temperature: the T by which the loss divides the teacher's logits; None if it changes while training.

        Raises:
            ArgumentError: probabilities are averaged at another temperature, or T changes while training.
        """
        self.teachers = [teacher.at_temperature(temperature) for teacher in self.teachers]
        if self.average == "probabilities":
            if temperature is None:
                raise ArgumentError(
                    "teacher",
                    "this ensemble averages probabilities at one T, and a policy changes T. Set average='logits'.",
                )
            if self.temperature not in (None, temperature):
                raise ArgumentError(
                    "teacher",
                    f"this ensemble averages probabilities at T = {self.temperature:g}, and the loss divides the teacher's "
                    f"logits by {temperature:g}. Leave out the ensemble's temperature, or set average='logits'.",
                )
            self._temperature_of_loss = temperature
        return self

    def __call__(self, batch: Mapping[str, Any]) -> TeacherOutput:
        """Return the average of all teachers' logits or probabilities as logits in float32.

        Raises:
            ArgumentError: probabilities are averaged, and no temperature is set.
            ArgumentTypeError: a teacher gives sparse targets.
        """
        outputs = [teacher(batch).logits for teacher in self.teachers]
        logits = [output.float() for output in outputs if output is not None]
        if len(logits) < len(outputs):
            raise ArgumentTypeError(
                "teachers", "an ensemble averages logits, and one of these keeps only some classes of each position."
            )
        self._check_shapes([tuple(output.shape) for output in logits], class_axis(logits[0]))
        return TeacherOutput(
            self._mean_logits(logits) if self.average == "logits" else self._mean_probabilities(logits)
        )

    def _mean_logits(self, logits: Sequence[Tensor]) -> Tensor:
        return torch.stack([w * z for w, z in zip(self.weights, logits, strict=True)]).sum(0)

    def _mean_probabilities(self, logits: Sequence[Tensor]) -> Tensor:
        t = self._temperature_of_loss if self.temperature is None else self.temperature
        if t is None:
            raise ArgumentError(
                "temperature",
                "probabilities are averaged at the temperature of the distillation, and none is set. Name it: "
                "Ensemble(teachers, temperature=4.0), or set average='logits'.",
            )
        axis = class_axis(logits[0])
        by_set: dict[frozenset[int] | None, list[int]] = {}
        for i, numbers in enumerate(self.classes):
            by_set.setdefault(None if numbers is None else frozenset(numbers), []).append(i)
        averages = {
            known: Weighted.of(
                [self._in_order(logits[i].movedim(axis, -1) / t, i).log_softmax(-1) for i in members],
                [self.weights[i] for i in members],
            )
            for known, members in by_set.items()
        }
        generalist = averages.pop(None)
        specialists = [(sorted(known), average) for known, average in averages.items() if known is not None]
        return t * with_specialists(generalist, specialists).movedim(-1, axis)

    def _in_order(self, logits: Tensor, member: int) -> Tensor:
        """Return logits (..., classes) of a teacher; those of a specialist with its classes in ascending order."""
        numbers = self.classes[member]
        return logits if numbers is None else logits[..., torch.tensor(numbers).argsort()]

    def _check_shapes(self, shapes: Sequence[tuple[int, ...]], axis: int) -> None:
        """Raise an error if the logits of one batch differ in shape by more than the number of a specialist's classes."""
        of_all = next(shape for shape, known in zip(shapes, self.classes, strict=True) if known is None)
        for shape, known in zip(shapes, self.classes, strict=True):
            expected = list(of_all)
            if known is not None:
                expected[axis] = len(known) if max(known) < of_all[axis] else -1
            if list(shape) != expected:
                raise ArgumentError(
                    "teachers",
                    f"an ensemble averages logits of one shape, and these gave {', '.join(map(str, shapes))} for the same "
                    "batch. A specialist has a column for each of its classes.",
                )


class EnsembleModel(nn.Module):
    """Several models that act as one module, whose logits at T = 1 are the average of theirs.

    As a teacher it averages at the temperature of the loss, which ``as_teacher`` sees to.

    Args:
        members: at least two modules that ``forward_logits`` can call.
        weights: as in ``Ensemble``, and so is ``average``.
        average: "logits" or "probabilities".
        classes: as in ``Ensemble``.

    Raises:
        ArgumentError: a weight, the average or the classes are not as described.
        ArgumentTypeError: there is no model.
    """

    def __init__(
        self,
        members: Sequence[nn.Module],
        weights: Sequence[float],
        average: Average = "probabilities",
        classes: Sequence[Classes | None] | None = None,
    ) -> None:
        super().__init__()
        self.classes = [None] * len(members) if classes is None else list(classes)
        """For each model, the classes that it knows; None if it knows all."""
        self.average: Average = average
        self._weights = list(weights)
        for i, member in enumerate(members):
            self.add_module(str(i), member)
        self.teacher_of(members)  # checks the arguments
        self.eval()

    @property
    def members(self) -> list[nn.Module]:
        """Return the models."""
        return list(self.children())

    def teacher_of(self, teachers: Sequence[TeacherLike]) -> Ensemble:
        """Return the ensemble of the members' own teachers, with the weights of this one.

        Args:
            teachers: one for each member, such as the members themselves, or their answers in memory.
        """
        return Ensemble(teachers, self._weights, average=self.average, classes=self.classes)

    def as_teacher(self, dtype: torch.dtype | None) -> Ensemble:
        """Return the ensemble that averages at the temperature of the loss.

        Args:
            dtype: the floating-point dtype that the members are converted to; None keeps their own.
        """
        return self.teacher_of([as_teacher(member, dtype=dtype) for member in self.members])

    def forward(self, **batch: Any) -> Tensor:
        output = self.teacher_of([partial(forward_logits, member) for member in self.members]).at_temperature(1.0)(
            batch
        )
        assert output.logits is not None
        return output.logits

    def get_extra_state(self) -> Tensor:
        """Return the weights, by which a store knows its teacher."""
        known = [float(number) for numbers in self.classes for number in numbers or (-1,)]
        return torch.tensor([*self._weights, float(self.average == "logits"), *known])

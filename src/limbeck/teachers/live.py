"""Teachers that compute their targets beside the student, and the one place that decides what can be a teacher."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import torch
from torch import Tensor, nn

from limbeck.deprecation import stacklevel_of_user
from limbeck.errors import ArgumentError, ArgumentTypeError, ModelError
from limbeck.losses.projection import Unprojected
from limbeck.models import (
    EstimatorModel,
    LogProbabilities,
    first_input,
    floating_dtype,
    freeze,
    is_estimator,
    load_onnx,
)
from limbeck.models.forward import call_model, input_names, only_logits_of
from limbeck.models.heads import Head, find_head
from limbeck.outputs.classes import are_numbers, listed
from limbeck.teachers.base import Teacher, TeacherOutput

TeacherFunction = Callable[[Mapping[str, Any]], Any]


class Estimator(Protocol):
    """A fitted classifier in the way of scikit-learn."""

    def predict_proba(self, X: Any, /) -> Any:  # noqa: N803 (the name that all of them have)
        """Return a row of probabilities for each row."""
        ...


TeacherLike = Teacher | nn.Module | TeacherFunction | Estimator
"""Everything that ``as_teacher`` accepts."""
Outputs = Literal["logits", "probabilities"]
"""What a teacher's outputs are."""


class LiveTeacher(Teacher):
    """A model that runs beside the student: frozen, in eval mode and without gradients.

    The model itself is frozen (``requires_grad_(False)`` and ``eval()``), not a copy of it. A ``LiveTeacher`` is no
    ``nn.Module``, so that no optimiser, checkpoint or wrapper finds the model's parameters.

    Args:
        model: any module that ``limbeck.models.forward_logits`` can call. One that is quantised, spread over devices
            (``device_map``), offloaded by Accelerate, or on another accelerator than the training stays where it is, and gets
            its inputs there.
        dtype: the floating-point dtype that the model is converted to; by default it keeps its own.

    Raises:
        ArgumentError: a quantised model is to be converted.

    Example:
        >>> import torch
        >>> from limbeck.teachers import LiveTeacher
        >>> teacher = LiveTeacher(torch.nn.Linear(4, 3))
        >>> teacher({"x": torch.randn(2, 4)}).logits.shape
        torch.Size([2, 3])
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype | None = None) -> None:
        if dtype is not None and _is_quantised(model):
            raise ArgumentError(
                "teacher_dtype", "the teacher is quantised, and its weights cannot be converted. Leave it out."
            )
        self.model = freeze(model if dtype is None else model.to(dtype))
        self._dtype = floating_dtype(self.model)
        self.models = (self.model,)
        self.columns = input_names(self.model)
        self.head: Head | None = None
        """The last layer, after ``find_head``."""
        self._stays_on: torch.device | None = None

    def to(self, device: torch.device) -> LiveTeacher:
        """Move the model to ``device`` and return the teacher. A model that was placed or quantised by its loader stays."""
        if _moves_its_inputs(self.model):
            return self
        own = _device_of(self.model)
        if _is_quantised(self.model) or _is_elsewhere(own, device):
            self._stays_on = own
        else:
            self.model.to(device)
            if device.type == "cpu" and self._dtype == torch.float16:
                warnings.warn(
                    "The teacher is in float16 and runs on a CPU, which takes up to a hundred times as long as float32. Set "
                    "teacher_dtype='float32'.",
                    UserWarning,
                    stacklevel=stacklevel_of_user(),
                )
        return self

    @torch.no_grad()
    def __call__(self, batch: Mapping[str, Any]) -> TeacherOutput:
        """Return the model's logits for a batch."""
        logits = only_logits_of(self._run(batch), self.model)
        return TeacherOutput(logits.to(first_input(batch).device))  # a model that stays where it is may be elsewhere

    def find_head(self, batch: Mapping[str, Any]) -> None:
        """Find the last layer of the model, which ``from_hidden`` needs.

        Args:
            batch: one that the model can be called with.

        Raises:
            ModelError: its logits are not those of a last layer; or the model is on another device than the batch.
        """
        if self._stays_on is not None:
            raise ModelError("the teacher is on another device")
        if self.head is None:
            try:
                self.head = find_head(self.model, batch, call=self._run)
            except ModelError as error:
                raise ModelError(f"of the teacher, {error}") from None

    @torch.no_grad()
    def from_hidden(self, batch: Mapping[str, Any], compute: Callable[[Tensor], Any]) -> Any:
        """Return what a function computes from the hidden states before the last layer. ``find_head`` comes first.

        Args:
            batch: as in ``__call__``.
            compute: is given the hidden states (N, L, d).
        """
        assert self.head is not None
        return self.head.run(lambda: self._run(batch), compute)

    def unprojected(self, batch: Mapping[str, Any]) -> Unprojected | None:
        """Return the model's logits for a batch, not computed; None before ``find_head``.

        Args:
            batch: as in ``__call__``.
        """
        head = self.head
        if head is None:
            return None
        weight = getattr(head.layer, "weight", None)
        if not (hasattr(weight, "full_tensor") or hasattr(weight, "ds_id")):
            return self.from_hidden(batch, head.unprojected)

        # FSDP or DeepSpeed has the weights of the layer together in its own forward alone.
        def kept(hidden: Tensor) -> Unprojected:
            hidden, layer = head.unprojected(hidden)
            bias = None if layer.bias is None else layer.bias.clone()
            return Unprojected(hidden, replace(layer, weight=layer.weight.clone(), bias=bias))

        return self.from_hidden(batch, kept)

    def _run(self, batch: Mapping[str, Any]) -> Any:
        """Return what the model returns for a batch."""
        if self.model.training:  # a callback may have called .train() on it
            self.model.eval()
        if self._stays_on is not None:
            batch = {n: v.to(self._stays_on) if isinstance(v, Tensor) else v for n, v in batch.items()}
        return call_model(self.model, batch)


class OnnxTeacher(LiveTeacher):
    """The model of an ONNX file as a teacher. Its inputs are given the entries of the batch that have their names.

    Args:
        path: the file, with a dynamic batch axis.
        outputs: what it returns: "logits", or "probabilities", whose logarithms serve as logits.

    Raises:
        ModelError: the file cannot be read, has a fixed batch size, or several outputs that could be meant.
    """

    def __init__(self, path: str | Path, outputs: Outputs = "logits") -> None:
        super().__init__(load_onnx(path, outputs))


class CallableTeacher(Teacher):
    """A teacher around any callable: a function, or an object without ``Teacher`` as its base.

    The callable's own ``to``, ``single_view``, ``models``, ``columns`` and ``at_temperature`` are used where it has them. It is
    called without gradients.

    Args:
        function: maps a batch to a ``TeacherOutput``, or to what a model returns: raw logits, a tuple that begins with them, or
            an object or mapping with ``logits``.
        outputs: what a callable means that returns no ``TeacherOutput``: "logits" or "probabilities".
    """

    def __init__(self, function: TeacherFunction, outputs: Outputs = "logits") -> None:
        self.function: Any = function
        self.outputs = outputs
        self.single_view = bool(getattr(function, "single_view", False))
        self.models, self.columns = getattr(function, "models", ()), getattr(function, "columns", None)

    def to(self, device: torch.device) -> CallableTeacher:
        """Pass ``device`` on to the callable, if it has a ``to``, and return the teacher."""
        if hasattr(self.function, "to"):
            self.function = self.function.to(device)
        return self

    def at_temperature(self, temperature: float | None) -> CallableTeacher:
        """Pass ``temperature`` on to the callable, if it has an ``at_temperature``, and return the teacher."""
        if hasattr(self.function, "at_temperature"):
            self.function = self.function.at_temperature(temperature)
        return self

    @torch.no_grad()
    def __call__(self, batch: Mapping[str, Any]) -> TeacherOutput:
        """Return what the callable returns for a batch."""
        output = self.function(batch)
        if isinstance(output, TeacherOutput):
            return output
        told = only_logits_of(output, self.function)
        return TeacherOutput(probabilities=told) if self.outputs == "probabilities" else TeacherOutput(told)


def _is_quantised(model: nn.Module) -> bool:
    """Return True if a loader or torch has made weights of few bits, which can be neither converted nor moved."""
    return any(
        getattr(part, "hf_quantizer", None)
        or getattr(part, "is_quantized", False)
        or type(part).__module__.startswith("torch.ao.nn.quantized")
        for part in model.modules()
    )


def _moves_its_inputs(model: nn.Module) -> bool:
    """Return True if Accelerate has spread the model over devices or offloaded it: its hooks bring inputs to the weights."""
    return any(getattr(part, "hf_device_map", None) or hasattr(part, "_hf_hook") for part in model.modules())


def _device_of(model: nn.Module) -> torch.device:
    """Return the device of a model's first weight; the CPU if it has none, as one that torch has quantised."""
    return next((weight.device for weight in model.parameters()), torch.device("cpu"))


def _is_elsewhere(own: torch.device, training: torch.device) -> bool:
    """Return True if a model is on another accelerator than the training."""
    if own.type == "cpu" or own.type != training.type:
        return own.type != "cpu"
    return None not in (own.index, training.index) and own.index != training.index


def as_teacher(
    source: TeacherLike,
    *,
    dtype: torch.dtype | None = None,
    argument: str = "teacher",
    outputs: Outputs = "logits",
) -> Teacher:
    """Return a ``Teacher`` made from a module, a teacher, a fitted estimator of scikit-learn or any other callable.

    Args:
        source: a ``Teacher``, which is returned as it is; an ``nn.Module``, which is frozen; a fitted estimator with
            ``predict_proba``, whose classes are 0, 1 and so on; or any other callable that maps a batch to a ``TeacherOutput``
            or to raw logits.
        dtype: the floating-point dtype that a module is converted to; by default it keeps its own. Other sources ignore it.
        argument: how an error names the argument that ``source`` was given for.
        outputs: what a module or callable returns: "logits", or "probabilities", whose logarithms serve as logits.

    Returns:
        The teacher.

    Raises:
        ArgumentTypeError: ``source`` cannot be called with a batch.
        ArgumentError: ``outputs`` is not known, or "probabilities" is said of a ``Teacher``, which says itself what it gives;
            or an estimator cannot be a teacher.

    Example:
        >>> import torch
        >>> from limbeck.teachers import as_teacher
        >>> teacher = as_teacher(lambda batch: torch.zeros(len(batch["x"]), 3))
        >>> teacher({"x": torch.randn(2, 4)}).logits.shape
        torch.Size([2, 3])
    """
    if outputs not in get_args(Outputs):
        raise ArgumentError("teacher_outputs", f"expected 'logits' or 'probabilities', got {outputs!r}.")
    if isinstance(source, Teacher):
        if outputs == "probabilities":
            raise ArgumentError(
                "teacher_outputs",
                f"{type(source).__name__} is a Teacher and says itself what it gives. Leave this out, and have it return "
                "TeacherOutput(probabilities=...).",
            )
        return source
    if is_estimator(source):
        source, outputs = EstimatorModel(source), "logits"
        check_numbered(source)
    make = getattr(source, "as_teacher", None) if isinstance(source, nn.Module) else None
    if make is not None:  # an ensemble
        return make(dtype)
    if isinstance(source, nn.Module):
        return LiveTeacher(LogProbabilities(source) if outputs == "probabilities" else source, dtype)
    if not callable(source) or isinstance(source, type):
        name = f"the class {source.__name__}" if isinstance(source, type) else type(source).__name__
        raise ArgumentTypeError(argument, f"expected a module, a Teacher or a callable, got {name}.")
    return CallableTeacher(source, outputs)


def check_numbered(teacher: nn.Module) -> None:
    """Raise an error if a teacher is an estimator whose classes have names, where nothing tells which class each name is.

    Args:
        teacher: any module.

    Raises:
        ArgumentError: it is such an estimator.
    """
    names = teacher.class_names if isinstance(teacher, EstimatorModel) else None
    if isinstance(teacher, EstimatorModel) and names is not None and not are_numbers(names):
        raise ArgumentError(
            "teacher",
            f"the classes_ of this {teacher.name} are {listed(names)}, and the student does not say which number "
            "each of them has. Fit it on the numbers 0, 1 and so on that the labels have, or give the student a config with "
            "id2label. If they are the numbers of some of the labels, pass a function that puts each column in its place: "
            "p = numpy.zeros((len(x), classes)); p[:, estimator.classes_] = estimator.predict_proba(x).",
        )


def check_separate(teacher: object, student: nn.Module) -> None:
    """Raise an error if a teacher shares parameters with the student. Call it before freezing.

    Args:
        teacher: anything; the parameters of a module and of a teacher's ``models`` are looked at.
        student: the model that is trained.

    Raises:
        ArgumentError: they share at least one parameter.
    """
    modules = [teacher] if isinstance(teacher, nn.Module) else []
    modules += list(getattr(teacher, "models", ())) if not modules else []
    trained = {id(parameter) for parameter in student.parameters()}
    if any(id(parameter) in trained for module in modules for parameter in module.parameters()):
        raise ArgumentError(
            "teacher",
            "it shares parameters with the student, and freezing it freezes the student. "
            "Pass copy.deepcopy(model) as the teacher.",
        )

"""A student as one program from named tensors to its logits, traced by ``torch.export``."""

from __future__ import annotations

import contextlib
import inspect
import logging
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from limbeck.errors import ModelError
from limbeck.models import forward_logits
from limbeck.models.forward import NOT_MODEL_INPUTS, input_names
from limbeck.tasks import Task

LOGITS = "logits"
"""The name of the output."""


def inputs_of(student: nn.Module, batch: Mapping[str, Any], task: Task) -> dict[str, Tensor]:
    """Return the entries of a batch that a student is fed when it is served.

    A language model is fed texts one by one: the places of packed documents are left out, and each token is attended to. A
    decoder is fed what follows from the labels.

    Args:
        student: the student.
        batch: tensors by name.
        task: its task.
    """
    batch = task.complete(dict(batch), [student])
    found = {name: value for name, value in batch.items() if name not in NOT_MODEL_INPUTS and isinstance(value, Tensor)}
    if found.pop("position_ids", None) is not None:
        found.setdefault("attention_mask", torch.ones_like(found["input_ids"]))
    taken = {name: value for name, value in found.items() if name in input_names(student)}
    return taken or found  # a single entry is passed by its position


class _Named(nn.Module):
    """A student whose ``forward`` has a parameter for each entry of a batch and returns logits alone."""

    def __init__(self, student: nn.Module, names: list[str]) -> None:
        super().__init__()
        self.student = student

        def forward(*values: Tensor, **batch: Tensor) -> Tensor:
            return forward_logits(self.student, {**dict(zip(names, values, strict=False)), **batch})

        parameters = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in names]
        forward.__signature__ = inspect.Signature(parameters)  # pyright: ignore[reportFunctionMemberAccess]
        self.forward = forward


@torch.no_grad()
def trace(student: nn.Module, batch: Mapping[str, Tensor]) -> ExportedProgram:
    """Trace a student.

    Args:
        student: the student, in evaluation mode.
        batch: at least two examples, as ``inputs_of`` returns them; of texts, at least two tokens.

    Returns:
        The program, which takes any number of examples, and of texts any number of tokens.

    Raises:
        ModelError: ``torch.export`` cannot trace it.
    """
    shapes = {name: dict.fromkeys(range(2 if is_tokens(value) else 1), Dim.DYNAMIC) for name, value in batch.items()}
    try:
        with quiet():
            return torch.export.export(
                _Named(student, list(batch)), (), dict(batch), dynamic_shapes=shapes, strict=False
            )
    except Exception as error:  # whatever runs inside of the student, and many kinds of torch's own
        first = str(error).strip().partition("\n")[0]
        raise ModelError(
            f"{type(student).__name__}: torch.export cannot trace it for any number of examples ({type(error).__name__}: "
            f"{first}). Export it as safetensors, or keep its forward free of branches on values and sizes."
        ) from error


def is_tokens(value: Tensor) -> bool:
    """Return True if an input is rows of tokens, which may have any length.

    Args:
        value: the input.
    """
    return value.dim() == 2 and not value.is_floating_point()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence the warnings and log lines of torch's exporters, which are about themselves."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "torch.fx", "root")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)

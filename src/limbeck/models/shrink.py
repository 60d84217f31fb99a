"""Students from teachers: a language model with some of the layers of a trained one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field
from torch import nn

from limbeck.errors import ArgumentError, ModelError
from limbeck.field_checks import check_fields

LAST_PART = 5
"""Of so many layers, one is from the end where the first and the last ones are chosen."""


@dataclass(frozen=True)
class TeacherLayers:
    """The section ``student.from_teacher``: which layers of the teacher the student begins with.

    Raises:
        ArgumentError: a field has another type or is out of range, or layers are named and chosen as well.
    """

    layers: Annotated[int, Field(gt=0)] | Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    """How many layers; or the number of each, from 0 on, as in [0, 29]."""
    choose: Literal["first", "first-last", "even", "measured"] | None = None
    """How a number of layers is chosen. The "first" ones; the first ones with a fifth of them from the end ("first-last"), the
    default; spaced evenly ("even"); or "measured", which leaves out one layer after the other, always the one whose removal
    costs the least likelihood on training texts."""

    def __post_init__(self) -> None:
        check_fields(self)
        if isinstance(self.layers, list):
            if self.choose is not None:
                raise ArgumentError("choose", "has no effect where the layers are named. Leave it out.")
            if self.layers != sorted(set(self.layers)):
                raise ArgumentError("layers", f"expected each layer once, in their order, got {self.layers}.")


def choose_layers(wanted: TeacherLayers, total: int, measure: Callable[[Sequence[int]], float]) -> list[int]:
    """Return the layers of a teacher that a student begins with.

    Args:
        wanted: how many, or which.
        total: how many the teacher has.
        measure: how good the teacher is with some of its layers alone; higher is better. It is called for "measured" only.

    Returns:
        Their numbers, ascending.

    Raises:
        ArgumentError: the teacher has too few.

    Example:
        >>> choose_layers(TeacherLayers(10, "first-last"), 30, len)
        [0, 1, 2, 3, 4, 5, 6, 7, 28, 29]
        >>> choose_layers(TeacherLayers(4, "even"), 30, len)
        [0, 10, 19, 29]
    """
    if isinstance(wanted.layers, list):
        if wanted.layers[-1] >= total:
            raise ArgumentError("layers", f"the teacher has the layers 0 to {total - 1}, got {wanted.layers}.")
        return wanted.layers
    count = wanted.layers
    if count > total:
        raise ArgumentError("layers", f"the teacher has {total} layers, got {count}.")
    if wanted.choose == "first":
        return list(range(count))
    if wanted.choose == "even":
        return [0] if count == 1 else [round(i * (total - 1) / (count - 1)) for i in range(count)]
    if wanted.choose == "measured":
        kept = list(range(total))
        while len(kept) > count:
            kept = max(([layer for layer in kept if layer != left_out] for left_out in kept), key=measure)
        return kept
    last = 0 if count == 1 else max(1, count // LAST_PART)
    return [*range(count - last), *range(total - last, total)]


def count_layers(model: nn.Module) -> int:
    """Return how many layers a language model of Transformers has.

    Args:
        model: the model.

    Raises:
        ModelError: its layers are not found.
    """
    return len(_stack(model)[2])


def keep_layers(model: nn.Module, layers: Sequence[int]) -> nn.Module:
    """Leave out all but some layers of a language model of Transformers, in place.

    Args:
        model: the model; its config says afterwards how many layers it has.
        layers: the numbers of the layers that stay, ascending.

    Returns:
        The same model.

    Raises:
        ModelError: its layers are not found.
    """
    parent, name, stack = _stack(model)
    kept: Any = model
    config = getattr(kept.config, "get_text_config", lambda: kept.config)()
    total = len(stack)
    setattr(parent, name, nn.ModuleList(stack[i] for i in layers))
    _number(getattr(parent, name))
    config.num_hidden_layers = len(layers)
    for key, value in vars(config).items():  # such as layer_types
        if isinstance(value, list) and len(value) == total and key.startswith("layer"):
            setattr(config, key, [value[i] for i in layers])
    return model


@contextmanager
def with_layers(model: nn.Module, layers: Sequence[int]) -> Iterator[nn.Module]:
    """Yield a language model that runs some of its layers alone; all of them are back when the block ends.

    Args:
        model: the model.
        layers: the numbers of the layers, ascending.

    Yields:
        The same model.
    """
    parent, name, stack = _stack(model)
    changed: Any = model
    config = getattr(changed.config, "get_text_config", lambda: changed.config)()
    before = dict(vars(config))
    try:
        yield keep_layers(model, layers)
    finally:
        setattr(parent, name, stack)
        _number(stack)
        vars(config).update(before)


def _stack(model: nn.Module) -> tuple[nn.Module, str, nn.ModuleList]:
    """Return the list of a model's layers, the module that it is part of, and its name there."""
    config: Any = getattr(model, "config", None)
    text = getattr(config, "get_text_config", lambda: config)()
    total = getattr(text, "num_hidden_layers", None)
    for parent in model.modules():
        for name, child in parent.named_children():
            if isinstance(child, nn.ModuleList) and len(child) == total:
                return parent, name, child
    raise ModelError(f"{type(model).__name__}: its layers are not found, so a student cannot be made of some of them.")


def _number(stack: nn.ModuleList) -> None:
    """Tell each layer, and the parts of it that keep it, its number."""
    for number, layer in enumerate(stack):
        for part in layer.modules():
            if isinstance(getattr(part, "layer_idx", None), int):
                part.layer_idx = number  # pyright: ignore[reportArgumentType]

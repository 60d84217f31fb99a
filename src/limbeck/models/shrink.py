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

LAYER_COUNTS = ("num_hidden_layers", "num_layers", "num_decoder_layers", "encoder_layers", "decoder_layers")
"""The entries of a config that may say how many layers there are."""
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
    vocabulary: Annotated[int, Field(gt=0)] | None = None
    """How many of the teacher's tokens the student knows: special tokens, single bytes, and those that the training data use
    most. The student reads any other token as the unknown one, and it does not count; the teacher reads the real text. By
    default the student knows all."""

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
    """Return how many layers a language model of Transformers has; of an encoder and a decoder, how many each has.

    Args:
        model: the model.

    Raises:
        ModelError: its layers are not found, or its encoder has another number than its decoder.
    """
    return len(_stacks(model)[0].layers)


def layers_of(model: nn.Module) -> nn.ModuleList:
    """Return the layers of a language model of Transformers without an encoder beside its decoder.

    Args:
        model: the model.

    Raises:
        ModelError: its layers are not found, or it has an encoder and a decoder.
    """
    stacks = _stacks(model)
    if len(stacks) > 1:
        raise ModelError(f"{type(model).__name__}: it has an encoder and a decoder.")
    return stacks[0].layers


def keep_layers(model: nn.Module, layers: Sequence[int]) -> nn.Module:
    """Leave out all but some layers of a language model of Transformers, in place; those of an encoder and a decoder alike.

    Args:
        model: the model; its config says afterwards how many layers it has.
        layers: the numbers of the layers that stay, ascending.

    Returns:
        The same model.

    Raises:
        ModelError: its layers are not found, or the first one, which has weights that all others use, is left out.
    """
    stacks, config = _stacks(model), _config_of(model)
    total = len(stacks[0].layers)
    for stack in stacks if len(stacks) > 1 else ():  # the first layer of T5 has the position bias of all
        first, kept = ({name for name, _ in stack.layers[i].named_parameters()} for i in (0, layers[0]))
        if first - kept:
            raise ModelError(
                f"{type(model).__name__}: its first layer has weights that the others use ({min(first - kept)}). Keep the "
                "layer 0."
            )
    for stack in stacks:
        stack.put(nn.ModuleList(stack.layers[i] for i in layers))
    for name in LAYER_COUNTS:
        if getattr(config, name, None) == total:
            setattr(config, name, len(layers))
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
    stacks, config = _stacks(model), _config_of(model)
    before = dict(vars(config))
    try:
        yield keep_layers(model, layers)
    finally:
        for stack in stacks:
            stack.put(stack.layers)
        vars(config).update(before)


@dataclass(frozen=True)
class _Stack:
    """The layers of a model, or of its encoder or its decoder."""

    parent: nn.Module
    name: str
    layers: nn.ModuleList

    def put(self, layers: nn.ModuleList) -> None:
        """Put layers in the place of those that are there, and tell each, and the parts of it that keep it, its number."""
        setattr(self.parent, self.name, layers)
        for number, layer in enumerate(layers):
            for part in layer.modules():
                if isinstance(getattr(part, "layer_idx", None), int):
                    part.layer_idx = number  # pyright: ignore[reportArgumentType]


def _config_of(model: nn.Module) -> Any:
    config: Any = getattr(model, "config", None)
    return (
        config if getattr(config, "is_encoder_decoder", False) else getattr(config, "get_text_config", lambda: config)()
    )


def _stacks(model: nn.Module) -> list[_Stack]:
    """Return the layers of a model; of one with an encoder and a decoder, those of each."""
    config = _config_of(model)
    bodies: list[nn.Module] = [model]
    if getattr(config, "is_encoder_decoder", False):
        bodies = [getattr(model, f"get_{part}")() for part in ("encoder", "decoder")]
    totals = {getattr(config, name) for name in LAYER_COUNTS if getattr(config, name, None)}
    found = [stack for body in bodies if (stack := _stack(body, totals)) is not None]
    if len(found) < len(bodies) or len({len(stack.layers) for stack in found}) != 1:
        more = " The encoder and the decoder need the same number of them." if len(bodies) > 1 else ""
        raise ModelError(
            f"{type(model).__name__}: its layers are not found, so a student cannot be made of some of them.{more}"
        )
    return found


def _stack(body: nn.Module, totals: set[int]) -> _Stack | None:
    """Return the first list of modules in a body that has as many as the config says."""
    for parent in body.modules():
        for name, child in parent.named_children():
            if isinstance(child, nn.ModuleList) and len(child) in totals:
                return _Stack(parent, name, child)
    return None

"""From a batch to logits, whatever the model: a plain module, a tuple, an output object, a Hugging Face model."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.errors import ModelError

NOT_INPUTS = frozenset({"labels", "mask", "example_id", "view_id", "mixup_labels", "mixup_weight"})
"""Entries of a batch that no model is fed. Labels stay out so that no model computes a loss of its own."""


def forward_logits(model: nn.Module, batch: Mapping[str, Any], *, signature_of: nn.Module | None = None) -> Tensor:
    """Run ``model`` on a batch and return its logits.

    The batch's entries go in by name where ``forward`` has such a parameter; a single input that has none goes in by
    position. Labels are never passed.

    Args:
        model: any module whose forward returns logits, a tuple or list that begins with them, or an output object or
            mapping with ``logits``.
        batch: tensors by name: ``pixel_values``, or ``input_ids`` and ``attention_mask``, ...
        signature_of: the module whose ``forward`` is inspected, when ``model`` is a wrapper around it (DDP).

    Raises:
        ModelError: the model takes none of the entries, or returns no logits.
    """
    inputs = {name: value for name, value in batch.items() if name not in NOT_INPUTS}
    accepted, takes_any = _parameters(type(signature_of or model))
    named = inputs if takes_any else {name: value for name, value in inputs.items() if name in accepted}
    if named:
        return _logits_of(model(**named), model)
    if len(inputs) == 1:
        return _logits_of(model(*inputs.values()), model)
    raise ModelError(
        f"{type(signature_of or model).__name__}.forward takes {', '.join(accepted) or 'nothing'}, but the batch has "
        f"{', '.join(inputs) or 'no inputs'}. Name the forward's parameters as the batch's entries, or feed one entry."
    )


def first_input(batch: Mapping[str, Any]) -> Tensor:
    """The first tensor that a model is fed; its first axis is the batch."""
    for name, value in batch.items():
        if name not in NOT_INPUTS and isinstance(value, Tensor):
            return value
    raise ModelError(f"The batch has no input tensor, only {', '.join(batch) or 'nothing'}.")


@lru_cache(maxsize=256)
def _parameters(cls: type[nn.Module]) -> tuple[tuple[str, ...], bool]:
    parameters = list(inspect.signature(cls.forward).parameters.values())[1:]
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
    return tuple(p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)), takes_any


def _logits_of(output: Any, model: nn.Module) -> Tensor:
    if isinstance(output, Mapping):  # Hugging Face's outputs are mappings too
        output = output.get("logits")
    elif hasattr(output, "logits"):
        output = output.logits
    elif isinstance(output, tuple | list) and output:
        output = output[0]
    if not isinstance(output, Tensor):
        raise ModelError(
            f"{type(model).__name__} returned {type(output).__name__}. "
            "Expected logits, a tuple that begins with them, or an object with .logits."
        )
    return output


def count_parameters(model: nn.Module) -> int:
    """Parameters, shared ones once."""
    return sum(parameter.numel() for parameter in model.parameters())


def freeze(model: nn.Module) -> nn.Module:
    """No gradient, no dropout, no update of batch statistics."""
    return model.requires_grad_(False).eval()


def floating_dtype(model: nn.Module) -> torch.dtype | None:
    """The dtype of the model's first floating-point parameter; None when it has none."""
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), None)

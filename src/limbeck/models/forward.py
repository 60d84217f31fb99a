"""From a batch to logits, whatever the model: a plain module, one that returns a tuple, a Hugging Face model."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.errors import ModelError
from limbeck.models.sentences import is_sentence_model

NOT_MODEL_INPUTS = frozenset({"labels", "mask", "example_id", "view_id", "mixup_labels", "mixup_weight"})
"""Entries of a batch that are never passed to a model. Labels are among them so that no model computes a loss of its own."""

ONLY_BY_NAME = frozenset({"teacher_input_ids"})
"""Entries of a batch that are passed to a model alone whose ``forward`` names them."""

TOKENS = frozenset({"input_ids", "attention_mask", "token_type_ids"})
"""What a model of sentence-transformers is given."""

WRAPPED = ("module", "model", "base_model", "base", "wrapped", "inner")
"""The names by which wrappers know the model inside, as ``DataParallel`` does by the first."""


def forward_logits(model: nn.Module, batch: Mapping[str, Any], *, signature_of: nn.Module | None = None) -> Tensor:
    """Run a model on a batch and return its logits.

    An entry of the batch is passed by name if ``forward`` has a parameter of that name. If none has, a single entry is passed
    by position. Labels are never passed. Floating-point entries are cast to the dtype of the model's weights. Of a wrapper
    whose ``forward(*args, **kwargs)`` names nothing, the model inside says what is passed.

    Args:
        model: a module whose forward returns logits, a tuple or list that begins with them, or an output object or
            mapping with ``logits``.
        batch: tensors by name, such as ``pixel_values``, or ``input_ids`` and ``attention_mask``.
        signature_of: the module whose ``forward`` is inspected when ``model`` is a wrapper around it, such as DDP; by
            default the model itself.

    Returns:
        The logits as the model returned them.

    Raises:
        ModelError: the model takes none of the entries, or returns no logits.
    """
    return logits_of(call_model(model, batch, signature_of=signature_of), model)


def call_model(model: nn.Module, batch: Mapping[str, Any], *, signature_of: nn.Module | None = None) -> Any:
    """Run a model on a batch and return its whole output.

    Args:
        model: as in ``forward_logits``, and so are the others.
        batch: tensors by name.
        signature_of: the module whose ``forward`` is inspected.

    Returns:
        What the model returned; ``logits_of`` finds the logits in it.

    Raises:
        ModelError: the model takes none of the entries, or a wrapper passes on an entry that the model inside does not take.
    """
    dtype = floating_dtype(model)
    inputs = {
        name: value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value
        for name, value in batch.items()
        if name not in NOT_MODEL_INPUTS
    }
    described = _described(signature_of or model)
    if is_sentence_model(described):
        return model(inputs)  # its forward takes and returns one dictionary
    parameters, accepts_any_name = _forward_parameters(type(described))
    inputs = {name: value for name, value in inputs.items() if name in parameters or name not in ONLY_BY_NAME}
    named = {name: value for name, value in inputs.items() if name in parameters}
    if "use_cache" in parameters and named:  # of keys and values, by which a text would be continued
        inputs, named = {**inputs, "use_cache": False}, {**named, "use_cache": False}
    if named or (accepts_any_name and (len(inputs) > 1 or not parameters)):
        try:
            return model(**(inputs if accepts_any_name else named))
        except TypeError as error:
            if "unexpected keyword argument" not in str(error):
                raise
            raise ModelError(
                f"{type(described).__name__}.forward takes any name and was given {', '.join(inputs)}, but {error}. Name the "
                "parameters of its forward, so that it is given what it takes."
            ) from None
    if len(inputs) == 1:
        return model(*inputs.values())
    raise ModelError(
        f"{type(described).__name__}.forward takes {', '.join(parameters) or 'nothing'}, but the batch has "
        f"{', '.join(inputs) or 'no inputs'}. Name the forward's parameters as the batch's entries, or feed one entry."
    )


def underlying(model: nn.Module) -> nn.Module:
    """Return the model that adapters (PEFT), ``torch.compile`` or Limbeck have wrapped: it says what goes in and comes out.

    Args:
        model: any module. One without such a wrapper is returned itself.
    """
    while True:
        base = getattr(model, "get_base_model", None)
        inner = base() if callable(base) else getattr(model, "_orig_mod", None)
        if not isinstance(inner, nn.Module) or inner is model:
            return model
        model = inner


def _described(model: nn.Module) -> nn.Module:
    """Return the module whose ``forward`` names the inputs: the model itself, or the one inside wrappers that name none."""
    while True:
        model = underlying(model)
        parameters, accepts_any_name = _forward_parameters(type(model))
        if parameters or not accepts_any_name:
            return model
        children = dict(model.named_children())
        inner = next((children[name] for name in WRAPPED if name in children), None)
        if len(children) == 1:
            inner = next(iter(children.values()))
        if inner is None:
            return model
        model = inner


def input_names(model: nn.Module) -> frozenset[str]:
    """Return the names of the entries that the model's ``forward`` can be given.

    Args:
        model: any module; wrappers around it are looked through.
    """
    described = _described(model)
    if is_sentence_model(described):
        return TOKENS
    columns = getattr(described, "input_columns", None)  # an ONNX file names them itself
    return frozenset(inspect.signature(described.forward).parameters if columns is None else columns)


def first_input(batch: Mapping[str, Any]) -> Tensor:
    """Return the first tensor of a batch that is passed to a model; its first axis is the batch.

    Args:
        batch: tensors by name.

    Raises:
        ModelError: there is none.
    """
    for name, value in batch.items():
        if name not in NOT_MODEL_INPUTS and isinstance(value, Tensor):
            return value
    raise ModelError(f"The batch has no input tensor, only {', '.join(batch) or 'nothing'}.")


def size_of(model: nn.Module) -> dict[str, float]:
    """Return the number of parameters by the name of this metric; empty for a model without any, such as an estimator.

    Args:
        model: any module.
    """
    count = count_parameters(model)
    return {"parameters": count} if count else {}


def count_parameters(model: nn.Module) -> int:
    """Return the number of parameters of a model.

    Args:
        model: any module. A parameter that is shared by several of its parts is counted once.
    """
    return sum(parameter.numel() for parameter in model.parameters())


def freeze(model: nn.Module) -> nn.Module:
    """Switch off gradients, dropout and the update of batch statistics.

    Args:
        model: any module; it is changed.

    Returns:
        The same module, in evaluation mode.
    """
    return model.requires_grad_(False).eval()


def floating_dtype(model: nn.Module) -> torch.dtype | None:
    """Return the dtype of the first floating-point parameter of a model.

    Args:
        model: any module.

    Returns:
        The dtype; None if the model has no such parameter.
    """
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), None)


@lru_cache(maxsize=256)
def _forward_parameters(cls: type[nn.Module]) -> tuple[tuple[str, ...], bool]:
    """Return the names that ``cls.forward`` can be called with, and True if it takes ``**kwargs`` as well."""
    parameters = list(inspect.signature(cls.forward).parameters.values())[1:]
    accepts_any_name = any(p.kind is p.VAR_KEYWORD for p in parameters)
    names = tuple(p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY))
    return names, accepts_any_name


def logits_of(output: Any, model: object) -> Tensor:
    """Return the logits that are in the output of a model.

    Args:
        output: logits, a tuple or list that begins with them, or an output object or mapping with ``logits``, or with
            ``out``, as the segmentation models of torchvision, or ``sentence_embedding``, as those of sentence-transformers. Of
            two heads (``heads_of``) it is the mean.
        model: the model, which an error names.

    Raises:
        ModelError: there are no logits in it.
    """
    found, heads = output, heads_of(output)
    if heads is not None:
        found = (heads[0] + heads[1]) / 2
    elif isinstance(output, Mapping):  # Hugging Face's outputs are mappings too
        found = output.get("logits", output.get("out", output.get("sentence_embedding")))
    elif hasattr(output, "logits"):
        found = output.logits
    elif isinstance(output, tuple | list) and output:
        found = output[0]
    if not isinstance(found, Tensor):
        raise ModelError(
            f"{type(model).__name__} returned {_told(output)}. "
            "Expected logits, a tuple that begins with them, or an object with .logits or a mapping with 'logits'."
        )
    return found


def heads_of(output: Any) -> tuple[Tensor, Tensor] | None:
    """Return the logits of the head for labels and of the head for a teacher, as DeiT has them; None for another output.

    Args:
        output: an output object or mapping with ``distillation_logits``, and ``cls_logits`` or else ``logits``.
    """
    names = ("cls_logits", "logits", "distillation_logits")
    found = [output.get(n) if isinstance(output, Mapping) else getattr(output, n, None) for n in names]
    first, second = found[1] if found[0] is None else found[0], found[2]
    return (first, second) if isinstance(first, Tensor) and isinstance(second, Tensor) else None


def class_axis(logits: Tensor) -> int:
    """Return the axis of the classes in what a model returned: 1 in (N, C, H, W), with a class for each pixel, else the last.

    Args:
        logits: raw logits or probabilities.
    """
    return 1 if logits.dim() == 4 else -1


def only_logits_of(output: Any, model: object) -> Tensor:
    """Return the logits that are in the output of a teacher, where there are no others that could be meant.

    Args:
        output: as in ``logits_of``.
        model: the teacher, which an error names.

    Raises:
        ModelError: there are no logits in it, or a tuple has another tensor of their shape, such as that of a second head.
    """
    logits = logits_of(output, model)
    rest = output[1:] if isinstance(output, tuple | list) else ()
    if any(isinstance(other, Tensor) and other.shape == logits.shape and other.is_floating_point() for other in rest):
        raise ModelError(
            f"{type(model).__name__} returned {_told(output)}, and any of those of one shape could be the logits. "
            "Return the ones to learn from alone, or a mapping with 'logits'."
        )
    return logits


def _told(output: Any) -> str:
    """Return what a value is, in a few words."""
    if isinstance(output, Tensor):
        return f"a tensor of shape {tuple(output.shape)}"
    if isinstance(output, Mapping):
        return f"{type(output).__name__} with {', '.join(map(str, output)) or 'nothing in it'}"
    if isinstance(output, tuple | list):
        return f"{type(output).__name__} of {', '.join(map(_told, output[:4])) or 'nothing'}"
    return type(output).__name__

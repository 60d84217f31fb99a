"""Calls that are seen at a glance to be right and simple, so that a small batch does not wait for every check.

What is not recognised here, because it is wrong or because it is not simple, takes the usual way.
"""

from __future__ import annotations

from functools import lru_cache
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor

from limbeck.kernels.call import is_transformed, savable
from limbeck.kernels.close_rows import Plain, written_with
from limbeck.kernels.small import SMALL, PlainCall, Settings, small_loss
from limbeck.losses import reference
from limbeck.losses.divergence_base import DIVERGENCES, resolve_divergence
from limbeck.losses.divergences import ForwardKL
from limbeck.losses.parts import LossParts

_PLAIN = (Tensor, torch.nn.Parameter)
_DTYPES = (torch.float32, torch.float64)
_NUMBERS = (float, int)
_settings_of = itemgetter(
    "divergence", "temperature", "alpha", "beta", "skew", "compensate", "label_smoothing", "reduction", "ignore_index"
)


def plain_loss(student: Any, teacher: Any, labels: Any, options: dict[str, Any]) -> LossParts | None:
    """Return the loss of a small and simple call on the CPU; None for every other call.

    Args:
        student: as given to ``distillation_loss``.
        teacher: the same.
        labels: the same.
        options: the other arguments of ``functional.prepare``.
    """
    if (
        torch.compiler.is_compiling()
        or not _are_small(student, teacher)
        or is_transformed()
        or torch._C._len_torch_dispatch_stack()  # a mode may not know the values
    ):
        return None
    divergence = options["divergence"]
    if (
        type(options["temperature"]) not in _NUMBERS
        or not (type(divergence) is str or type(divergence).__module__ == ForwardKL.__module__)
        or options["weight"] is not None
        or options.get("scale") is not None
    ):
        return None
    try:
        settings = _settings(*_settings_of(options))
    except TypeError:  # one of them cannot be looked up
        return None
    if settings is None or (labels is None) != (settings.alpha == 1) or (labels is None and options["with_parts"]):
        return None
    count = len(student)
    if labels is not None:  # a label that is no class, as that of a position without one, ends in the usual way too
        if type(labels) is not Tensor or labels.dtype != torch.int64 or labels.shape != (count,):
            return None
        labels = savable(labels) if labels.is_inference() else labels
    mask = options["mask"]
    if mask is not None:
        if type(mask) is not Tensor or mask.dtype != torch.bool or mask.shape != (count,):
            return None
        count = int(mask.sum())
        mask = savable(mask) if mask.is_inference() else mask
    items = _items(options["num_items"], count)
    if items is None:
        return None
    teacher = savable(teacher) if teacher.is_inference() else teacher
    call = PlainCall(settings, labels, mask, 1 / items, options["inplace"], options["with_parts"])
    found = small_loss(student, teacher.detach(), call)
    return None if found is None else LossParts(*found) if len(found) == 3 else LossParts(found[0], None, None)


def _items(num_items: Any, counted: int) -> float | None:
    """Return the mean's denominator; None if it needs a check."""
    items = counted if num_items is None else num_items
    if type(items) is Tensor and items.numel() == 1 and items.is_cpu:
        items = items.item()
    return float(items) if type(items) in _NUMBERS and 0 < counted <= items < torch.inf else None


def _are_small(student: Any, teacher: Any) -> bool:
    """Return True for two matrices of few logits and two classes or more on the CPU, in the dtype of the arithmetic."""
    if type(student) not in _PLAIN or type(teacher) not in _PLAIN:
        return False
    shape = student.shape
    return (
        len(shape) == 2
        and 0 < shape[0] * shape[1] <= SMALL
        and shape[1] > 1
        and teacher.shape == shape
        and student.dtype in _DTYPES
        and student.dtype == teacher.dtype
        and student.is_cpu
        and teacher.is_cpu
    )


@lru_cache(typed=True)
def _settings(
    divergence: Any,
    temperature: Any,
    alpha: Any,
    beta: Any,
    skew: Any,
    compensate: Any,
    label_smoothing: Any,
    reduction: Any,
    ignore_index: Any,
) -> Settings | None:
    """Return the settings of a call; None if one is wrong or not simple."""
    numbers = (temperature, alpha, beta, skew, label_smoothing)
    if any(type(x) not in _NUMBERS for x in numbers) or reduction != "mean":
        return None
    if type(ignore_index) is not int or ignore_index >= 0:  # a class that is ignored must be looked for
        return None
    if not (0 < temperature < torch.inf and 0 < alpha <= 1 and label_smoothing == 0):
        return None
    if not (isinstance(compensate, bool) or compensate == "curvature"):
        return None
    if type(divergence) is str and divergence not in DIVERGENCES:
        return None
    chosen = resolve_divergence(divergence, beta=beta, skew=skew).simplest
    if type(chosen).__module__ != ForwardKL.__module__:  # another's may learn a parameter
        return None
    t = float(temperature)
    return Settings(
        on_logits=chosen.on_logits,
        is_centred=chosen.is_centred,
        terms_and_slopes=written_with(chosen.terms_and_slopes, Plain),
        parameters=chosen.parameter_values,
        digits_lost_below=chosen.digits_lost_below,
        slopes_cancel=chosen.is_computed_as(ForwardKL),
        temperature=t,
        coldness=None if t == 1 else {x: torch.tensor(1 / t, dtype=x, device="cpu") for x in _DTYPES},
        compensation=float(reference.compensation(chosen, t, compensate)),
        alpha=float(alpha),
    )

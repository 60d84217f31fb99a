"""Calls that are seen at a glance to be right and simple, so that a small batch does not wait for every check.

What is not recognised here, because it is wrong or because it is not simple, takes the usual way.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from limbeck.kernels.call import savable
from limbeck.kernels.small import SMALL, PlainCall, small_loss
from limbeck.losses import reference
from limbeck.losses.divergence_base import DIVERGENCES, resolve_divergence
from limbeck.losses.divergences import Divergence, ForwardKL
from limbeck.losses.parts import LossParts

_PLAIN = (Tensor, torch.nn.Parameter)
_NUMBERS = (float, int)


def plain_loss(student: Any, teacher: Any, labels: Any, options: dict[str, Any]) -> LossParts | None:
    """Return the loss of a small and simple call on the CPU; None for every other call.

    Args:
        student: as given to ``distillation_loss``.
        teacher: the same.
        labels: the same.
        options: the other arguments of ``functional.prepare``.
    """
    if not (_is_small(student) and _is_small(teacher)):
        return None
    if student.shape != teacher.shape or student.dtype != teacher.dtype:
        return None
    temperature, divergence, ignore_index = options["temperature"], options["divergence"], options["ignore_index"]
    chosen = DIVERGENCES.get(divergence) if type(divergence) is str else divergence
    if (
        type(temperature) not in _NUMBERS
        or getattr(chosen, "__module__", None) != ForwardKL.__module__  # another's may learn a parameter
        or options["weight"] is not None
        or options.get("scale") is not None
        or torch.compiler.is_compiling()
        or forward_ad._current_level >= 0  # its tangents would be lost
    ):
        return None
    call = _settings(
        divergence, temperature, options["alpha"], options["beta"], options["skew"], options["compensate"],
        options["label_smoothing"], options["reduction"], ignore_index,
    )  # fmt: skip
    if call is None or (labels is None) != (call.alpha == 1) or (labels is None and options["with_parts"]):
        return None
    count = len(student)
    if labels is not None:  # a label that is no class, as that of a position without one, ends in the usual way too
        if type(labels) is not Tensor or labels.dtype != torch.int64 or labels.shape != (count,):
            return None
        labels = savable(labels).unsqueeze(-1)
    weights = _weights(options["mask"], options["num_items"], count, student.dtype)
    if weights is None:
        return None
    call = PlainCall(*call[:4], labels, weights, options["inplace"], options["with_parts"])
    found = small_loss(student, savable(teacher.detach()), call)
    return None if found is None else LossParts(found[0], *(found[1:] or (None, None)))


def _weights(mask: Any, num_items: Any, count: int, dtype: torch.dtype) -> Tensor | float | None:
    """Return 1 over the mean's denominator, a number or (N, 1) with 0 outside of the mask; None if it needs a check."""
    if type(num_items) is Tensor and num_items.numel() == 1 and num_items.device.type == "cpu":
        num_items = num_items.item()
    if num_items is not None and type(num_items) not in _NUMBERS:
        return None
    counted = count
    if mask is not None:
        if type(mask) is not Tensor or mask.dtype != torch.bool or mask.shape != (count,):
            return None
        counted = int(mask.sum())
    items = counted if num_items is None else num_items
    if not 0 < counted <= items < torch.inf:
        return None
    return 1 / items if mask is None or counted == count else mask.unsqueeze(-1).to(dtype) * (1 / items)


def _is_small(logits: Any) -> bool:
    """Return True for a matrix of few logits and two classes or more on the CPU, in the dtype of the arithmetic."""
    return (
        type(logits) in _PLAIN
        and logits.dtype in (torch.float32, torch.float64)
        and logits.dim() == 2
        and 0 < logits.numel() <= SMALL
        and logits.shape[1] > 1
        and logits.device.type == "cpu"
    )


@lru_cache(typed=True)
def _settings(
    divergence: str | Divergence,
    temperature: float,
    alpha: Any,
    beta: Any,
    skew: Any,
    compensate: Any,
    label_smoothing: Any,
    reduction: Any,
    ignore_index: Any,
) -> PlainCall | None:
    """Return a call with these settings and without a batch; None if one is wrong or not simple."""
    numbers = (temperature, alpha, beta, skew, label_smoothing)
    if any(type(x) not in _NUMBERS for x in numbers) or reduction != "mean":
        return None
    if type(ignore_index) is not int or ignore_index >= 0:  # a class that is ignored must be looked for
        return None
    if not (0 < temperature < torch.inf and 0 < alpha <= 1 and label_smoothing == 0):
        return None
    if not (isinstance(compensate, bool) or compensate == "curvature"):
        return None
    chosen = resolve_divergence(divergence, beta=beta, skew=skew)
    factor = reference.compensation(chosen, float(temperature), compensate)
    assert not isinstance(factor, Tensor)
    return PlainCall(
        chosen.simplest, float(temperature), factor, float(alpha), None, 1.0, inplace=False, with_parts=False
    )

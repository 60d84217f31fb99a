"""Named checks of what a user passes to a loss: each error tells the argument, what was given and the remedy.

Checks of shapes, types and Python numbers always run. Checks that must read a tensor's values run where that is free
of charge: on the CPU and outside of torch.compile.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import torch
from torch import Tensor

COLLAPSED_BELOW = 1e-3
"""The mean probability outside the teacher's first class under which soft targets are as good as hard labels."""


class CollapsedTeacherWarning(UserWarning):
    """The teacher's soft targets are as good as hard labels at this temperature."""


def check_logits(student_logits: Any, teacher_logits: Any, alpha: float) -> None:
    """Both are floating-point tensors of one shape (..., V), V >= 1, on one device; no teacher only with alpha = 0."""
    given = {"student_logits": student_logits}
    if teacher_logits is not None or alpha > 0:
        given["teacher_logits"] = teacher_logits
    for name, logits in given.items():
        if not isinstance(logits, Tensor):
            raise TypeError(
                f"{name}: expected a tensor of logits (..., V), got {type(logits).__name__}. "
                "If this is a model's output, pass its .logits."
            )
        if not logits.is_floating_point():
            raise TypeError(f"{name}: expected a floating-point dtype, got {logits.dtype}.")
        if logits.dim() == 0 or logits.shape[-1] == 0:
            raise ValueError(f"{name}: expected shape (..., V) with at least one class, got {tuple(logits.shape)}.")
    if teacher_logits is None:
        return
    if student_logits.shape[-1] != teacher_logits.shape[-1]:
        v_s, v_t = student_logits.shape[-1], teacher_logits.shape[-1]
        larger, smaller = ("teacher_logits", v_s) if v_t > v_s else ("student_logits", v_t)
        raise ValueError(
            f"teacher_logits: {v_t} classes, but student_logits have {v_s}. If one vocabulary is the other plus "
            f"padding, cut the padding off: {larger}[..., :{smaller}]. Never pad logits with 0, which is a likely "
            "class; a class that a model lacks is -inf. Different tokenizers cannot be compared class by class."
        )
    if student_logits.shape != teacher_logits.shape:
        raise ValueError(
            f"teacher_logits: shape {tuple(teacher_logits.shape)}, but student_logits have "
            f"{tuple(student_logits.shape)}. Both models must see the same batch, and be shifted alike."
        )
    if student_logits.device != teacher_logits.device:
        raise ValueError(
            f"teacher_logits: on {teacher_logits.device}, but student_logits are on {student_logits.device}. "
            "Move one of them."
        )


def check_rows(name: str, tensor: Tensor, student_logits: Tensor) -> None:
    """One entry per position: the shape of the logits without its last axis."""
    if tensor.shape != student_logits.shape[:-1]:
        raise ValueError(
            f"{name}: expected one per position, shape {tuple(student_logits.shape[:-1])} for logits of shape "
            f"{tuple(student_logits.shape)}, got {tuple(tensor.shape)}."
        )


def check_labels(labels: Any, student_logits: Tensor, ignore_index: int, alpha: float, sharded: bool = False) -> bool:
    """Integers (...,) in [0, V), or ``ignore_index``; needed unless alpha is 1. With shards V is not known here.

    Returns:
        Whether every position is known to have a label. False says nothing: it may have cost too much to look.
    """
    if labels is None:
        if alpha < 1:
            raise ValueError(
                f"labels: needed for the hard term when alpha = {alpha}. Pass labels, or alpha=1 for soft targets only."
            )
        return False
    if (
        not isinstance(labels, Tensor)
        or labels.is_floating_point()
        or labels.is_complex()
        or labels.dtype == torch.bool
    ):
        got = labels.dtype if isinstance(labels, Tensor) else type(labels).__name__
        raise TypeError(f"labels: expected a tensor of integers (class indices), got {got}.")
    check_rows("labels", labels, student_logits)
    if _values_can_be_read(labels) and labels.numel():
        classes = student_logits.shape[-1]
        low, high = (int(value) for value in labels.aminmax())
        if low >= 0 and (high < classes or sharded):
            return ignore_index < low or ignore_index > high
        wrong = labels[(labels != ignore_index) & ((labels < 0) | (labels >= classes))]
        if wrong.numel() and not (sharded and wrong.min() >= 0):
            raise ValueError(
                f"labels: {wrong[0].item()} is out of range for {classes} classes (expected 0 to {classes - 1}, or "
                f"ignore_index = {ignore_index} for a position without a label)."
            )
    return False


def check_mask(mask: Any, student_logits: Tensor) -> None:
    """bool (...,), True where a position counts."""
    if mask is None:
        return
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        got = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
        raise TypeError(f"mask: expected a bool tensor, True where a position counts, got {got}. Try mask.bool().")
    check_rows("mask", mask, student_logits)


def check_weight(weight: Any, student_logits: Tensor) -> None:
    """One non-negative weight per class, (V,)."""
    if weight is None:
        return
    if not isinstance(weight, Tensor) or weight.shape != student_logits.shape[-1:]:
        got = tuple(weight.shape) if isinstance(weight, Tensor) else type(weight).__name__
        raise ValueError(
            f"weight: expected a tensor with one weight per class, ({student_logits.shape[-1]},), got {got}."
        )


def check_share(name: str, value: Any) -> None:
    """A number in [0, 1]."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{name}: expected a number in [0, 1], got {value!r} ({type(value).__name__}).")
    if not 0 <= value <= 1:
        raise ValueError(f"{name}: expected a number in [0, 1], got {value!r}.")


def check_choice(name: str, value: Any, choices: tuple[Any, ...]) -> None:
    """One of a few values, of the same type (so that 1 is not True)."""
    if not any(value is choice or (isinstance(value, str) and value == choice) for choice in choices):
        raise ValueError(f"{name}: expected one of {', '.join(map(repr, choices))}, got {value!r}.")


def check_group(group: Any, backend: str, temperature: Any) -> None:
    """A process group, whose kernel is the only one and knows no gradient of the temperature."""
    if group is None:
        return
    if not torch.distributed.is_initialized() or not isinstance(group, torch.distributed.ProcessGroup):
        raise TypeError(
            f"group: expected a torch.distributed process group (as from new_group, or dist.group.WORLD), got {group!r}."
        )
    if backend != "auto":
        raise ValueError(f"backend: {backend!r} knows no shards of the vocabulary. With a group use 'auto'.")
    sides = temperature if isinstance(temperature, tuple | list) else (temperature,)
    if any(isinstance(t, Tensor) and t.requires_grad for t in sides):
        raise ValueError("temperature: it asks for gradient, which is not given over shards of the vocabulary.")


def check_num_items(num_items: Any, reduction: str) -> None:
    """A positive number or a one-element tensor, only together with the mean, whose denominator it replaces."""
    if num_items is None:
        return
    if reduction != "mean":
        raise ValueError(
            f"num_items: it replaces the mean's denominator, so reduction={reduction!r} has no use for it."
        )
    if isinstance(num_items, Tensor):
        if num_items.numel() != 1:
            raise ValueError(f"num_items: expected one number, got a tensor of shape {tuple(num_items.shape)}.")
    elif isinstance(num_items, bool) or not isinstance(num_items, int | float) or not num_items >= 0:
        raise ValueError(f"num_items: expected the number of counted positions (>= 0), got {num_items!r}.")


def split_temperature(temperature: Any, student_logits: Tensor) -> tuple[Tensor | float, Tensor | float]:
    """(T_teacher, T_student), each a positive float, or a tensor with one T per position that is shaped (..., 1)."""
    if isinstance(temperature, tuple | list):
        if len(temperature) != 2:
            raise ValueError(f"temperature: a pair is (T_teacher, T_student), got {len(temperature)} values.")
        teacher, student = temperature
        return _check_temperature(teacher, student_logits), _check_temperature(student, student_logits)
    shared = _check_temperature(temperature, student_logits)
    return shared, shared


def _check_temperature(temperature: Any, student_logits: Tensor) -> Tensor | float:
    if isinstance(temperature, Tensor):
        if not temperature.is_floating_point():
            raise TypeError(f"temperature: expected a floating-point tensor, got {temperature.dtype}.")
        if temperature.dim():
            check_rows("temperature", temperature, student_logits)
        if _values_can_be_read(temperature) and not bool(((temperature > 0) & temperature.isfinite()).all()):
            raise ValueError("temperature: every T must be a positive finite number; this tensor has others.")
        return temperature.unsqueeze(-1)
    if isinstance(temperature, bool) or not isinstance(temperature, int | float):
        raise TypeError(
            f"temperature: expected a positive number, a tensor with one T per position or a pair "
            f"(T_teacher, T_student), got {temperature!r}."
        )
    if not (temperature > 0 and math.isfinite(temperature)):
        raise ValueError(
            f"temperature: expected a positive finite number, got {temperature!r}. T = 1 is plain softmax."
        )
    return float(temperature)


@torch.no_grad()
def inspect_teacher(teacher_logits: Tensor, temperature: Any, mask: Tensor | None) -> None:
    """Look at the teacher's rows, as an objective does the first time it sees some.

    Raises:
        ValueError: a logit is NaN.

    Warns:
        CollapsedTeacherWarning: at this temperature the teacher gives (nearly) all probability to one class, so that its soft
            targets are hard labels.
    """
    rows = teacher_logits[mask] if mask is not None else teacher_logits.flatten(0, -2)
    if rows.numel() == 0:
        return
    broken = rows.isnan().any(-1)
    if broken.any():
        raise ValueError(
            f"teacher_logits: NaN in {int(broken.sum())} of {len(rows)} rows. "
            "Check the teacher's weights, its inputs and its dtype (float16 overflows above 65,504)."
        )
    shared = temperature[0] if isinstance(temperature, tuple | list) else temperature
    if isinstance(shared, Tensor) and shared.dim():
        shared = (shared[mask] if mask is not None else shared.flatten()).unsqueeze(-1)
    outside = 1 - (rows.double() / shared).softmax(-1).amax(-1)
    mean_outside = outside.mean().item()
    if rows.shape[-1] > 1 and mean_outside < COLLAPSED_BELOW:
        shown = f"T = {shared:g}" if isinstance(shared, int | float) else "this temperature"
        warnings.warn(
            f"At {shown} the teacher gives on average {1 - mean_outside:.4%} of the probability to one class: its soft "
            "targets are as good as hard labels, and distillation adds little. Use a higher temperature.",
            CollapsedTeacherWarning,
            stacklevel=3,
        )


def _values_can_be_read(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()

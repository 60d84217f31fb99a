"""Named checks of the numbers that a user passes to a loss; see ``limbeck.losses.checks``.

A number is one of Python or of NumPy, and no bool. Each function returns it as Python's own, which every kernel takes.
"""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from limbeck.errors import ArgumentError, ArgumentTypeError
from limbeck.losses.checks import check_rows, is_cheap_to_read


def is_number(value: Any) -> bool:
    """Return True for a number of Python or of NumPy; a bool is none, and neither is a tensor.

    Args:
        value: what was given.
    """
    return type(value) in (float, int) or (isinstance(value, Real) and not isinstance(value, bool))


def check_fraction(name: str, value: Any, *, below_one: bool = False) -> float:
    """Return a number in [0, 1], after checking it.

    Args:
        name: of the argument.
        value: what was given.
        below_one: 1 itself is not accepted.

    Returns:
        The number.

    Raises:
        ArgumentTypeError: not a number.
        ArgumentError: out of range.
    """
    interval = "[0, 1)" if below_one else "[0, 1]"
    if not is_number(value):
        raise ArgumentTypeError(name, f"expected a number in {interval}, got {value!r} ({type(value).__name__}).")
    if not (0 <= value < 1 or (value == 1 and not below_one)):
        raise ArgumentError(name, f"expected a number in {interval}, got {value!r}.")
    return float(value)


def check_positive(name: str, value: Any, *, remedy: str = "") -> float:
    """Return a positive, finite number, after checking it.

    Args:
        name: of the argument.
        value: what was given.
        remedy: the end of the error's message.

    Returns:
        The number.

    Raises:
        ArgumentTypeError: not a number.
        ArgumentError: not positive, or not finite.
    """
    if not is_number(value):
        raise ArgumentTypeError(name, f"expected a positive number, got {value!r} ({type(value).__name__}).{remedy}")
    if not 0 < value < math.inf:
        raise ArgumentError(name, f"expected a positive finite number, got {value!r}.{remedy}")
    return float(value)


def check_scale(scale: Any, student_logits: Tensor) -> Tensor | float:
    """Return what takes the place of C(T), after checking it.

    Args:
        scale: what was given: a number, or a floating-point tensor with one number for all positions or one for each.
        student_logits: (..., V).

    Returns:
        The number, or the tensor.

    Raises:
        ArgumentTypeError: not a number or a floating-point tensor.
        ArgumentError: another shape.
    """
    if is_number(scale):
        return float(scale)
    if not (isinstance(scale, Tensor) and scale.is_floating_point()):
        got = scale.dtype if isinstance(scale, Tensor) else repr(scale)
        raise ArgumentTypeError("scale", f"expected a number, or a floating-point tensor of positions, got {got}.")
    if scale.dim():
        check_rows("scale", scale, student_logits)
    return scale


def check_num_items(
    num_items: Any, reduction: str, counted: Tensor | None, student_logits: Tensor
) -> Tensor | float | None:
    """Return the mean's denominator, after checking it.

    A tensor whose value cannot be read without waiting for a device, or in a compiled graph, is returned as it is. There
    the loss becomes infinite, or NaN, where this check would raise.

    Args:
        num_items: what was given: a number, or a tensor of one element and of any dtype but bool; None is accepted. It is 0
            only where no position counts.
        reduction: as given; it must be "mean", whose denominator this replaces.
        counted: bool (...,), the positions that count; None for all.
        student_logits: (..., V).

    Returns:
        The number, or a tensor of one element; None where none was given.

    Raises:
        ArgumentTypeError: not a number.
        ArgumentError: not positive, not finite, several numbers, or another reduction.
    """
    if num_items is None:
        return None
    if reduction != "mean":
        raise ArgumentError(
            "num_items", f"it replaces the mean's denominator, so reduction={reduction!r} has no use for it."
        )
    if isinstance(num_items, Tensor):
        if num_items.numel() != 1:
            raise ArgumentError("num_items", f"expected one number, got a tensor of shape {tuple(num_items.shape)}.")
        if num_items.dtype == torch.bool or num_items.is_complex():
            raise ArgumentTypeError("num_items", f"expected a number of positions, got {num_items.dtype}.")
        if not is_cheap_to_read(num_items):
            return num_items
        num_items = num_items.item()
    elif not is_number(num_items):
        raise ArgumentTypeError("num_items", f"expected a number of positions, got {num_items!r}.")
    if not 0 <= num_items < math.inf:
        raise ArgumentError("num_items", f"expected the number of counted positions, got {num_items!r}.")
    if num_items == 0 and (counted is None or is_cheap_to_read(counted)):
        here = student_logits.shape[:-1].numel() if counted is None else int(counted.sum())
        if here:
            raise ArgumentError(
                "num_items",
                f"0, but {here} positions count in this batch. Pass the number that count in the whole accumulated batch.",
            )
    return float(num_items)


def split_temperature(temperature: Any, student_logits: Tensor) -> tuple[Tensor | float, Tensor | float]:
    """Return both temperatures, after checking them.

    Args:
        temperature: T for both models, or a pair (T_teacher, T_student); each a number or a tensor.
        student_logits: (..., V).

    Returns:
        (T_teacher, T_student), each a positive float, or a tensor (..., 1) with one T per position.

    Raises:
        ArgumentTypeError: not a number or a floating-point tensor.
        ArgumentError: not positive and finite, of another shape, or not a pair.
    """
    if isinstance(temperature, tuple | list):
        if len(temperature) != 2:
            raise ArgumentError("temperature", f"a pair is (T_teacher, T_student), got {len(temperature)} values.")
        teacher, student = temperature
        return _check_temperature(teacher, student_logits), _check_temperature(student, student_logits)
    shared = _check_temperature(temperature, student_logits)
    return shared, shared


def _check_temperature(temperature: Any, student_logits: Tensor) -> Tensor | float:
    """Return one model's temperature as a float or a tensor (..., 1), after checking it."""
    if isinstance(temperature, Tensor):
        if not temperature.is_floating_point():
            raise ArgumentTypeError("temperature", f"expected a floating-point tensor, got {temperature.dtype}.")
        if temperature.dim():
            check_rows("temperature", temperature, student_logits)
        if is_cheap_to_read(temperature) and not bool(((temperature > 0) & temperature.isfinite()).all()):
            raise ArgumentError("temperature", "every T must be a positive finite number; this tensor has others.")
        return temperature.unsqueeze(-1)
    if not is_number(temperature):
        raise ArgumentTypeError(
            "temperature",
            f"expected a positive number, a tensor with one T per position or a pair "
            f"(T_teacher, T_student), got {temperature!r}.",
        )
    return check_positive("temperature", temperature, remedy=" T = 1 is plain softmax.")

"""Named checks of what a user passes to a loss. Each error names the argument, what was given and the remedy.

Checks of shapes, types and Python numbers always run. Checks that must read a tensor's values run only where reading is
cheap: on the CPU and outside of torch.compile. An accelerator would have to be waited for.

Every function raises ``ArgumentTypeError`` for a wrong type and ``ArgumentError`` for a wrong shape, range or choice.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from limbeck.deprecation import warn_deprecated
from limbeck.errors import ArgumentError, ArgumentTypeError
from limbeck.losses.class_axis import dimension_that_fits, shape_as_given
from limbeck.losses.divergence_base import Divergence

BACKENDS = ("auto", "reference", "cpu", "triton")
"""What ``backend=`` takes."""


def check_logits(student_logits: Any, teacher_logits: Any, alpha: float, class_dim: int | None = None) -> None:
    """Require floating-point logits of one shape (..., V), V >= 1, on one device; a missing teacher only with alpha = 0.

    Args:
        student_logits: what was given for the student.
        teacher_logits: what was given for the teacher.
        alpha: the weight of the soft term.
        class_dim: the dimension that the classes had in what was given; None for a function that does not take it.

    Raises:
        ArgumentTypeError: not a tensor, or not of a floating-point dtype.
        ArgumentError: another shape, number of classes or device.
    """
    given = {"student_logits": student_logits}
    if teacher_logits is not None or alpha > 0:
        given["teacher_logits"] = teacher_logits
    for name, logits in given.items():
        if not isinstance(logits, Tensor):
            raise ArgumentTypeError(
                name,
                f"expected a tensor of logits (..., V), got {type(logits).__name__}. "
                "If this is a model's output, pass its .logits.",
            )
        if not logits.is_floating_point():
            raise ArgumentTypeError(name, f"expected a floating-point dtype, got {logits.dtype}.")
        if logits.dim() == 0 or logits.shape[-1] == 0:
            raise ArgumentError(name, f"expected shape (..., V) with at least one class, got {tuple(logits.shape)}.")
    if teacher_logits is None:
        return
    if student_logits.shape[-1] != teacher_logits.shape[-1]:
        v_s, v_t = student_logits.shape[-1], teacher_logits.shape[-1]
        larger, smaller = ("teacher_logits", v_s) if v_t > v_s else ("student_logits", v_t)
        cut = f"[..., :{smaller}]" if class_dim in (None, -1) else f".narrow({class_dim}, 0, {smaller})"
        raise ArgumentError(
            "teacher_logits",
            f"{v_t} classes, but student_logits have {v_s}. If one vocabulary is the other plus "
            f"padding, cut the padding off: {larger}{cut}. Never pad logits with 0, which is a likely "
            "class; a class that a model lacks is -inf. Different tokenizers cannot be compared class by class.",
        )
    if student_logits.shape != teacher_logits.shape:
        raise ArgumentError(
            "teacher_logits",
            f"shape {shape_as_given(teacher_logits, class_dim)}, but student_logits have "
            f"{shape_as_given(student_logits, class_dim)}. Both models must see the same batch, and be shifted alike.",
        )
    if student_logits.device != teacher_logits.device:
        raise ArgumentError(
            "teacher_logits",
            f"on {teacher_logits.device}, but student_logits are on {student_logits.device}. Move one of them.",
        )


def check_columns(student_logits: Tensor, divergence: Divergence, *, has_hard_term: bool, sharded: bool) -> None:
    """Require two classes or more wherever a softmax is taken: over one class it is 1, whatever the logit.

    Args:
        student_logits: (..., V).
        divergence: of the soft term; one on logits as they are has a meaning at V = 1 too.
        has_hard_term: the cross-entropy is asked for as well.
        sharded: the logits are one shard of the vocabulary, which may have one column.

    Raises:
        ArgumentError: there is one column, and a softmax over it.
    """
    if student_logits.shape[-1] > 1 or sharded:
        return
    if divergence.on_logits and not divergence.is_centred and not has_hard_term:
        return
    raise ArgumentError(
        "student_logits",
        "one output column (V = 1), over which softmax is always 1: the loss and its gradient would be 0. For a single "
        "sigmoid z pass both classes of both models, torch.cat([torch.zeros_like(z), z], -1). Regression needs another "
        "loss, such as torch.nn.functional.mse_loss.",
    )


def check_rows(name: str, tensor: Tensor, student_logits: Tensor, class_dim: int | None = None) -> None:
    """Require one entry per position: the shape of the logits without its last axis.

    Args:
        name: of the argument.
        tensor: what was given.
        student_logits: (..., V).
        class_dim: the dimension that the classes had in what was given; None for a function that does not take it.

    Raises:
        ArgumentError: another shape.
    """
    if tensor.shape == student_logits.shape[:-1]:
        return
    shape = shape_as_given(student_logits, class_dim)
    fitting = None if class_dim is None else dimension_that_fits(shape, tuple(tensor.shape))
    if fitting is not None:
        raise ArgumentError(
            name,
            f"shape {tuple(tensor.shape)}, which fits logits of shape {shape} with the classes in dimension "
            f"{fitting}: pass class_dim={fitting}.",
        )
    raise ArgumentError(
        name,
        f"expected one per position, shape {tuple(student_logits.shape[:-1])} for logits of shape "
        f"{shape}, got {tuple(tensor.shape)}.",
    )


def check_labels(
    labels: Any,
    student_logits: Tensor,
    ignore_index: int,
    alpha: float,
    sharded: bool = False,
    class_dim: int | None = None,
) -> bool:
    """Require integers (...,) in [0, V), or ``ignore_index``. Labels are needed unless alpha is 1.

    Args:
        labels: what was given.
        student_logits: (..., V).
        ignore_index: the label of a position without one.
        alpha: the weight of the soft term.
        sharded: the logits are one shard of the vocabulary, so that V is not known here.
        class_dim: the dimension that the classes had in what was given; None for a function that does not take it.

    Returns:
        True if all positions are known to be labelled. False means unknown: accelerators skip the check.

    Raises:
        ArgumentTypeError: not a tensor of integers.
        ArgumentError: missing, of another shape, or out of range.
    """
    if labels is None:
        if alpha < 1:
            raise ArgumentError(
                "labels",
                f"needed for the hard term when alpha = {alpha}. Pass labels, or alpha=1 for soft targets only.",
            )
        return False
    if (
        not isinstance(labels, Tensor)
        or labels.is_floating_point()
        or labels.is_complex()
        or labels.dtype == torch.bool
    ):
        got = labels.dtype if isinstance(labels, Tensor) else type(labels).__name__
        raise ArgumentTypeError("labels", f"expected a tensor of integers (class indices), got {got}.")
    check_rows("labels", labels, student_logits, class_dim)
    if _is_cheap_to_read(labels) and labels.numel():
        classes = student_logits.shape[-1]
        low, high = (int(value) for value in labels.aminmax())
        if low >= 0 and (high < classes or sharded):
            return ignore_index < low or ignore_index > high
        wrong = labels[(labels != ignore_index) & ((labels < 0) | (labels >= classes))]
        if wrong.numel() and not (sharded and wrong.min() >= 0):
            raise ArgumentError(
                "labels",
                f"{wrong[0].item()} is out of range for {classes} classes (expected 0 to {classes - 1}, or "
                f"ignore_index = {ignore_index} for a position without a label).",
            )
    return False


def check_mask(mask: Any, student_logits: Tensor, class_dim: int | None = None) -> None:
    """Require a bool tensor (...,), True where a position counts.

    Args:
        mask: what was given; None is accepted.
        student_logits: (..., V).
        class_dim: the dimension that the classes had in what was given; None for a function that does not take it.

    Raises:
        ArgumentTypeError: not a bool tensor.
        ArgumentError: another shape.
    """
    if mask is None:
        return
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        got = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
        raise ArgumentTypeError(
            "mask", f"expected a bool tensor, True where a position counts, got {got}. Try mask.bool()."
        )
    check_rows("mask", mask, student_logits, class_dim)


def check_weight(weight: Any, student_logits: Tensor) -> None:
    """Require one weight per class, (V,).

    Args:
        weight: what was given; None is accepted.
        student_logits: (..., V).

    Raises:
        ArgumentError: not a tensor, or of another shape.
    """
    if weight is None:
        return
    if not isinstance(weight, Tensor) or weight.shape != student_logits.shape[-1:]:
        got = tuple(weight.shape) if isinstance(weight, Tensor) else type(weight).__name__
        raise ArgumentError(
            "weight", f"expected a tensor with one weight per class, ({student_logits.shape[-1]},), got {got}."
        )


def check_fraction(name: str, value: Any, *, below_one: bool = False) -> None:
    """Require a number in [0, 1].

    Args:
        name: of the argument.
        value: what was given.
        below_one: 1 itself is not accepted.

    Raises:
        ArgumentTypeError: not a number.
        ArgumentError: out of range.
    """
    interval = "[0, 1)" if below_one else "[0, 1]"
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ArgumentTypeError(name, f"expected a number in {interval}, got {value!r} ({type(value).__name__}).")
    if not (0 <= value < 1 or (value == 1 and not below_one)):
        raise ArgumentError(name, f"expected a number in {interval}, got {value!r}.")


def check_choice(name: str, value: Any, choices: tuple[Any, ...]) -> None:
    """Require one of a few values, of the same type, so that 1 is not taken for True.

    Args:
        name: of the argument.
        value: what was given.
        choices: the accepted values.

    Raises:
        ArgumentError: another value.
    """
    if not any(value is choice or (isinstance(value, str) and value == choice) for choice in choices):
        raise ArgumentError(name, f"expected one of {', '.join(map(repr, choices))}, got {value!r}.")


def check_backend(backend: Any) -> str:
    """Return the name of a backend, after checking it.

    Args:
        backend: what was given.

    Returns:
        The same; for the old name of a backend, its new one.

    Raises:
        ArgumentError: no backend has this name.
    """
    if backend == "rows":
        warn_deprecated("backend='rows'", use="backend='cpu'", removed_in="0.2.0")
        return "cpu"
    check_choice("backend", backend, BACKENDS)
    return backend


def check_scale(scale: Any, student_logits: Tensor) -> None:
    """Require a number, or a floating-point tensor with one number for all positions or one for each.

    Args:
        scale: what was given in the place of C(T).
        student_logits: (..., V).

    Raises:
        ArgumentTypeError: not a number or a floating-point tensor.
        ArgumentError: another shape.
    """
    is_number = isinstance(scale, int | float) and not isinstance(scale, bool)
    if not is_number and not (isinstance(scale, Tensor) and scale.is_floating_point()):
        got = scale.dtype if isinstance(scale, Tensor) else repr(scale)
        raise ArgumentTypeError("scale", f"expected a number, or a floating-point tensor of positions, got {got}.")
    if isinstance(scale, Tensor) and scale.dim():
        check_rows("scale", scale, student_logits)


def check_group(group: Any, backend: str, temperature: Any) -> None:
    """Require a process group, with the only backend that serves it and a temperature that asks for no gradient.

    Args:
        group: what was given; None is accepted.
        backend: as given; a group chooses its own kernel.
        temperature: as given.

    Raises:
        ArgumentTypeError: not a process group of an initialised ``torch.distributed``.
        ArgumentError: a backend was chosen, or the temperature asks for gradient.
    """
    if group is None:
        return
    if not torch.distributed.is_initialized() or not isinstance(group, torch.distributed.ProcessGroup):
        raise ArgumentTypeError(
            "group",
            f"expected a torch.distributed process group (as from new_group, or dist.group.WORLD), got {group!r}.",
        )
    if backend != "auto":
        raise ArgumentError("backend", f"{backend!r} knows no shards of the vocabulary. With a group use 'auto'.")
    sides = temperature if isinstance(temperature, tuple | list) else (temperature,)
    if any(isinstance(t, Tensor) and t.requires_grad for t in sides):
        raise ArgumentError("temperature", "it asks for gradient, which is not given over shards of the vocabulary.")


def check_num_items(num_items: Any, reduction: str) -> None:
    """Require a number >= 0 or a tensor of one element, and the reduction "mean", whose denominator it replaces.

    Args:
        num_items: what was given; None is accepted.
        reduction: as given.

    Raises:
        ArgumentError: a negative number, several numbers, or another reduction.
    """
    if num_items is None:
        return
    if reduction != "mean":
        raise ArgumentError(
            "num_items", f"it replaces the mean's denominator, so reduction={reduction!r} has no use for it."
        )
    if isinstance(num_items, Tensor):
        if num_items.numel() != 1:
            raise ArgumentError("num_items", f"expected one number, got a tensor of shape {tuple(num_items.shape)}.")
    elif isinstance(num_items, bool) or not isinstance(num_items, int | float) or not num_items >= 0:
        raise ArgumentError("num_items", f"expected the number of counted positions (>= 0), got {num_items!r}.")


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
        if _is_cheap_to_read(temperature) and not bool(((temperature > 0) & temperature.isfinite()).all()):
            raise ArgumentError("temperature", "every T must be a positive finite number; this tensor has others.")
        return temperature.unsqueeze(-1)
    if isinstance(temperature, bool) or not isinstance(temperature, int | float):
        raise ArgumentTypeError(
            "temperature",
            f"expected a positive number, a tensor with one T per position or a pair "
            f"(T_teacher, T_student), got {temperature!r}.",
        )
    if not (temperature > 0 and math.isfinite(temperature)):
        raise ArgumentError(
            "temperature", f"expected a positive finite number, got {temperature!r}. T = 1 is plain softmax."
        )
    return float(temperature)


def _is_cheap_to_read(tensor: Tensor) -> bool:
    """Return True if the tensor's values can be read without waiting for a device or breaking a compiled graph."""
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()

"""Named checks of what a user passes to a loss. Each error names the argument, what was given and the remedy.

Checks of shapes, types and Python numbers always run. Checks that must read a tensor's values run only where reading is
cheap: on the CPU and outside of torch.compile. An accelerator would have to be waited for.

Every function raises ``ArgumentTypeError`` for a wrong type and ``ArgumentError`` for a wrong shape, range or choice.
"""

from __future__ import annotations

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
        "sigmoid z pass both classes of both models, torch.cat([torch.zeros_like(z), z], -1). For regression "
        "use limbeck.losses.distance_distillation_loss.",
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
    """Require one weight per class, (V,): finite numbers that are not negative.

    Args:
        weight: what was given; None is accepted.
        student_logits: (..., V).

    Raises:
        ArgumentError: not a tensor, of another shape, or with a number that is negative or not finite.
    """
    if weight is None:
        return
    if not isinstance(weight, Tensor) or weight.shape != student_logits.shape[-1:]:
        got = tuple(weight.shape) if isinstance(weight, Tensor) else type(weight).__name__
        raise ArgumentError(
            "weight", f"expected a tensor with one weight per class, ({student_logits.shape[-1]},), got {got}."
        )
    if is_cheap_to_read(weight) and not bool((right := (weight >= 0) & weight.isfinite()).all()):
        wrong = int((~right).nonzero()[0])
        raise ArgumentError(
            "weight",
            f"expected numbers >= 0, got {weight[wrong].item()} for class {wrong}. A class of no weight has 0.",
        )


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
    if type(backend) is str and backend in BACKENDS:
        return backend
    if backend == "rows":
        warn_deprecated("backend='rows'", use="backend='cpu'", removed_in="0.2.0")
        return "cpu"
    check_choice("backend", backend, BACKENDS)
    return backend


def check_group(group: Any, backend: str) -> None:
    """Require a process group, with the only backend that serves it.

    Args:
        group: what was given; None is accepted.
        backend: as given; a group chooses its own kernel.

    Raises:
        ArgumentTypeError: not a process group of an initialised ``torch.distributed``.
        ArgumentError: a backend was chosen.
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


def is_cheap_to_read(tensor: Tensor) -> bool:
    """Return True if values can be read without waiting for a device or breaking a compiled graph or ``torch.func.vmap``.

    Args:
        tensor: holds the values.
    """
    if not tensor.is_cpu or torch.compiler.is_compiling():
        return False
    return not torch._C._are_functorch_transforms_active()  # pyright: ignore[reportAttributeAccessIssue]

r"""The loss on a GPU: one program for each row, which stays in cache between its passes.

    first pass    running maxima and sums of both rows at T, of the student's at 1, and of the KL        (reads s, t)
    second pass   for divergences other than forward and reverse KL: the sums of terms and slopes        (reads s, t)
    last pass     the gradient, from the end of the row, which was read last                             (reads s, t, writes g)

so that forward and reverse KL move 5 values for each logit, the others 7. A row that does not count is not read. The backward
pass only multiplies by the upstream gradient, and leaves that out where it is 1, without asking the device. A divergence's
``terms_and_slopes`` is compiled from its own source, with Triton's functions in the place of torch's.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable
from functools import cache
from types import FunctionType
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn import Parameter

from limbeck.deprecation import stacklevel_of_user
from limbeck.kernels import triton_kernels as kernels
from limbeck.kernels.call import GradientScales, LossCall
from limbeck.kernels.self_check import disagreement

BLOCK = 8192
"""Columns that a program takes at a time, at most."""
FUNCTIONS_OF_DIVERGENCES = (
    "exp", "log", "minimum", "sign", "mixture", "difference", "relative_entropy", "log_mixture", "minus_expm1",
)  # fmt: skip
"""What ``terms_and_slopes`` is written with, and ``triton_kernels`` has too."""
FUNCTIONS: dict[str, Callable[..., Any]] = {}
"""``terms_and_slopes`` of the divergences that were used, by the names under which the custom operator finds them."""
CHECK = "LIMBECK_TRITON_CHECK"
"""The environment variable that turns the check of this kernel off if it is 0."""
FAULTS: dict[tuple[Any, ...], str | None] = {}
"""What the check of this process found, by divergence, dtypes and kind of labels; None where all is well."""
ISSUES = "https://github.com/limbeck-ml/limbeck/issues"


def row_kernel(
    student: Tensor, teacher: Tensor | None, call: LossCall, scales: GradientScales, gradient: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return the values of all rows, and write their scaled gradient; see ``call.RowKernel``. The call has a closed form."""
    # One number for each row: T_s, T_t, C(T), and the scales of both gradients.
    numbers = torch.empty(5, student.shape[:-1].numel(), dtype=call.dtype, device=student.device)
    values = (call.student_temperature, call.teacher_temperature, call.compensation, *scales)
    for row, value in zip(numbers, values, strict=True):
        row.copy_(value.squeeze(-1)) if isinstance(value, Tensor) else row.fill_(value)
    t = call.student_temperature
    power = int(t) if isinstance(t, float) and t in (1, 2) else 0  # e^s is then a power of e^(s / T)
    kind, function, parameters = kernels.NO_SOFT_TERM.value, "", []
    if teacher is not None:
        kind = _kind(call)
        function = registered(call.divergence.terms_and_slopes)
        parameters = [float(value) for value in call.divergence.parameter_values]
    student, teacher = _in_rows(student), None if teacher is None else _in_rows(teacher)
    labels = None if call.labels is None else call.labels.contiguous()
    soft, hard = loss_of_rows(
        student, teacher, labels, call.labelled, numbers, gradient, kind, function, parameters,
        call.label_smoothing, power,
    ).unbind()  # fmt: skip
    return soft, hard


def fault(call: LossCall, student: Tensor) -> str | None:
    """Return why the kernel is not to compute a call on this machine, or None.

    The first call of each divergence and dtype in a process is compared with the reference on a few random rows, which takes
    a few milliseconds beside the compilation. A call that is compiled or captured, where no value can be read, is not.

    Args:
        call: what to compute.
        student: a tensor (N, V), for the number of classes, the dtype and the device of the logits.

    Warns:
        RuntimeWarning: the kernel does not agree, or cannot run; said once.
    """
    if torch.compiler.is_compiling() or os.environ.get(CHECK) == "0" or type(student) not in (Tensor, Parameter):
        return None
    divergence = type(call.divergence) if call.has_soft_term else None
    key = divergence, student.dtype, call.dtype, call.has_label_rows
    if key not in FAULTS:
        if student.is_cuda and torch.cuda.is_current_stream_capturing():
            return None
        try:
            FAULTS[key] = disagreement(row_kernel, call, student)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # whatever a compiler or a driver may say
            FAULTS[key] = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        if FAULTS[key] is not None:
            device = torch.cuda.get_device_name(student.device) if student.is_cuda else str(student.device)
            name = "cross-entropy alone" if divergence is None else divergence.__name__
            warnings.warn(
                f"The Triton kernel is not used for {name} in {student.dtype}, because a check on random rows failed "
                f"({FAULTS[key]}). Plain torch takes its place, which is slower. Please report this at {ISSUES} ({device}, "
                f"torch {torch.__version__}, triton {triton.__version__}). {CHECK}=0 turns the check off.",
                RuntimeWarning,
                stacklevel=stacklevel_of_user(),
            )
    return FAULTS[key]


def _kind(call: LossCall) -> int:
    """Return the kind of the call's soft term."""
    if call.divergence.on_logits:
        return (kernels.CENTRED_LOGITS if call.divergence.is_centred else kernels.ON_LOGITS).value
    if call.is_forward_kl or call.is_reverse_kl:
        return (kernels.FORWARD_KL if call.is_forward_kl else kernels.REVERSE_KL).value
    return kernels.TERMS_AND_SLOPES.value


@torch.compiler.assume_constant_result
def registered(function: Callable[..., Any]) -> str:
    """Keep ``terms_and_slopes`` for the custom operator, which takes no functions, and return the name to find it by.

    torch.compile calls this while it traces, because a compiled graph would run the operator before it.
    """
    name = f"{function.__module__}.{function.__qualname__}"
    while FUNCTIONS.setdefault(name, function) is not function:  # a class of the same name, as in a notebook
        name += "'"
    return name


def _in_rows(logits: Tensor) -> Tensor:
    """Return logits whose columns are next to each other in memory."""
    return logits if logits.stride(-1) == 1 else logits.contiguous()


@cache
def compiled(function: Any) -> Any:
    """Return ``terms_and_slopes`` as a Triton function: with Triton's functions in the place of torch's, and its constants."""
    known: dict[str, Any] = {"tl": tl, "__name__": function.__module__}
    for annotation in function.__annotations__.values():  # Triton looks up their names, and knows these three
        names = set(re.findall(r"[A-Za-z_]\w*", str(annotation))) - {"float", "int", "tuple"}
        known |= dict.fromkeys(names, tl.tensor)
    for name in function.__code__.co_names:
        if isinstance(value := function.__globals__.get(name), int | float):
            known[name] = tl.constexpr(value)
    known |= {name: getattr(kernels, name) for name in FUNCTIONS_OF_DIVERGENCES}
    copy = FunctionType(function.__code__, known, function.__name__)
    copy.__module__, copy.__qualname__ = function.__module__, function.__qualname__
    return triton.jit(copy)


@torch.library.custom_op("limbeck::loss_of_rows", mutates_args={"gradient"})
def loss_of_rows(
    student: Tensor,
    teacher: Tensor | None,
    labels: Tensor | None,
    labelled: Tensor | None,
    numbers: Tensor,
    gradient: Tensor | None,
    kind: int,
    function: str,
    parameters: list[float],
    label_smoothing: float,
    power: int,
) -> Tensor:
    """Return soft and hard values, (2, N), and write the gradient where there is one.

    Args:
        student: (N, V) or (B, L, V), with columns next to each other.
        teacher: the same, or None.
        labels: (N,), rows (N, V) next to each other, or None.
        labelled: bool (N,), or None.
        numbers: (5, N): T_s, T_t, C(T), and the scales of the soft and hard gradients.
        gradient: of the student's shape, or None.
        kind: of the soft term, one of the constants of ``triton_kernels``.
        function: the key in ``FUNCTIONS``.
        parameters: the divergence's own.
        label_smoothing: eps.
        power: 1 or 2 if T_s is this number for all rows, else 0.
    """
    count, classes = numbers.shape[1], student.shape[-1]
    values = torch.zeros(2, count, dtype=numbers.dtype, device=student.device)
    if count == 0:
        return values
    block = min(BLOCK, triton.next_power_of_2(classes))
    target = gradient if gradient is None or gradient.stride(-1) == 1 else torch.empty_like(student)
    kernels.loss_kernel[(count,)](
        student,
        student if teacher is None else teacher,
        numbers if labels is None else labels,
        numbers if labelled is None else labelled.view(torch.uint8),
        numbers,
        values,
        student if target is None else target,
        count,
        classes,
        student.shape[-2],
        *_strides(student),
        *_strides(teacher),
        *_strides(target),
        KIND=kind,
        DIVERGENCE=compiled(FUNCTIONS[function]) if function else kernels.no_terms,
        PARAMETERS=tuple(parameters),
        EPS=label_smoothing,
        POWER=power,
        HAS_LABELS=labels is not None,
        HAS_ROWS=labels is not None and labels.dim() == 2,
        HAS_LABELLED=labelled is not None,
        HAS_GRADIENT=target is not None,
        ACC=tl.float64 if numbers.dtype == torch.float64 else tl.float32,
        BLOCK=block,
        num_warps=min(16, max(1, block // 512)),  # pyright: ignore[reportCallIssue]
    )
    if target is not None and gradient is not None and target is not gradient:
        gradient.copy_(target)
    return values


@loss_of_rows.register_fake
def _(student, teacher, labels, labelled, numbers, *rest):  # noqa: ARG001
    return numbers.new_empty(2, numbers.shape[1])


def _strides(logits: Tensor | None) -> tuple[int, int]:
    """Return the distances from a sequence to the next and from a row to the next; a matrix is one sequence."""
    if logits is None:
        return 0, 0
    return (0, logits.stride(0)) if logits.dim() == 2 else (logits.stride(0), logits.stride(1))


def scale_(gradient: Tensor, upstream: Tensor) -> Tensor:
    """Multiply the gradient in place by one number or one for each row, and return it; nothing is moved where that is 1."""
    rows = gradient.view(1, -1) if upstream.dim() == 0 and gradient.is_contiguous() else gradient
    if rows.dim() != 2 or rows.stride(-1) != 1:
        return gradient.mul_(upstream.view(*gradient.shape[:-1], 1) if upstream.dim() else upstream)
    blocks = triton.cdiv(rows.shape[1], BLOCK)
    if rows.numel():
        kernels.scale_kernel[(len(rows), blocks)](
            rows, upstream, rows.shape[1], rows.stride(0), PER_ROW=upstream.dim() > 0, BLOCK=BLOCK,
            num_warps=8,  # pyright: ignore[reportCallIssue]
        )  # fmt: skip
    return gradient

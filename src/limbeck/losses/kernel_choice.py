"""Which kernel computes a call, and why another one cannot."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from limbeck.errors import ArgumentError
from limbeck.kernels import cpu, sharded, sparse
from limbeck.kernels.autograd import TRITON_IS_INSTALLED
from limbeck.kernels.call import DivergenceProtocol, LossCall, RowKernel, is_transformed
from limbeck.kernels.self_check import disagreement
from limbeck.losses.divergences import Divergence, ForwardKL
from limbeck.losses.number_checks import is_number

default_backend = "auto"
"""What ``backend="auto"`` stands for: "auto" takes the fastest that can compute the call. Tests set another."""
KERNELS = {"cpu": "cpu"}
"""The kernel that "auto" takes by the kind of device; other devices have "triton"."""
_CHECKED: set[type] = set()
"""The divergences that users wrote whose ``terms_and_slopes`` were found to be right."""


def kernel_for(call: LossCall, student: Tensor, backend: str, group: ProcessGroup | None = None) -> RowKernel | None:
    """Return the kernel that computes a call.

    Args:
        call: what to compute.
        student: a tensor on the logits' device.
        backend: one of ``checks.BACKENDS``.
        group: the processes that hold shards of the vocabulary, or None.

    Returns:
        The kernel; None for the reference on whole tensors.

    Raises:
        ArgumentError: the backend cannot compute the call.
    """
    _check_own_divergence(call, student)
    if group is not None:
        if name := argument_with_gradient(call, student):
            raise ArgumentError(name, "it asks for gradient, which is not given over shards of the vocabulary.")
        if obstacle := _obstacle_of_shards(call):
            raise ArgumentError("divergence", f"{obstacle}. Without a group it can be computed.")
        return partial(sharded.row_kernel, group=group)
    backend = default_backend if backend == "auto" else backend
    if call.sparse is not None:
        return _sparse_kernel(call, student, backend)
    obstacles = {"cpu": _obstacle_of_cpu, "triton": _obstacle_of_triton}
    if backend in obstacles and (obstacle := obstacles[backend](call, student)):
        raise ArgumentError("backend", f"{backend!r} cannot compute this call: {obstacle}. Use 'auto'.")
    if backend == "auto":
        backend = KERNELS.get(student.device.type, "triton")
        backend = "reference" if obstacles[backend](call, student) else backend
    if backend == "triton":
        from limbeck.kernels import triton

        return triton.row_kernel
    return cpu.row_kernel if backend == "cpu" else None


def fused_kernel(call: LossCall, student: Tensor, backend: str, group: ProcessGroup | None = None) -> RowKernel:
    """Return the kernel that computes the rows of a chunk.

    Args:
        call: what to compute.
        student: a placeholder of the student's logits, (N, V).
        backend: as given.
        group: the processes that hold shards of the vocabulary, or None.

    Raises:
        ArgumentError: the backend cannot compute the call, or a number beside the hidden states asks for gradient.
    """
    if name := argument_with_gradient(call, student):
        raise ArgumentError(
            name, "it asks for gradient, which the fused projection does not give. Compute the loss of the logits."
        )
    return kernel_for(call, student, backend, group) or cpu.reference_row_kernel


def _obstacle_of_cpu(call: LossCall, student: Tensor) -> str | None:
    """Return why the CPU kernel cannot compute the call, or None."""
    if student.device.type != "cpu":
        return f"it is for the CPU, and the logits are on {student.device}"
    if torch.compiler.is_compiling():
        return "torch.compile has its own way to fuse"
    if type(student) not in (Tensor, torch.nn.Parameter):
        return f"it reads and writes the values of plain tensors, and the logits are a {type(student).__name__}"
    return None if learns_temperature(call, student) else _obstacle_of_gradient(call, student)


def learns_temperature(call: LossCall, student: Tensor) -> bool:
    """Return True if a temperature or the scale asks for gradient, and the CPU kernel gives it.

    Args:
        call: what to compute.
        student: a tensor (N, V) on the logits' device.
    """
    if student.device.type != "cpu" or call.class_weights is not None or call.sparse is not None or is_transformed():
        return False
    if not call.has_soft_term or call.divergence.on_logits or not _is_built_in(call.divergence):
        return False
    return argument_with_gradient(call, student) in ("temperature", "scale")


def _obstacle_of_triton(call: LossCall, student: Tensor) -> str | None:
    """Return why the Triton kernel cannot compute the call, or None."""
    if not TRITON_IS_INSTALLED:
        return "Triton is not installed"
    if student.device.type == "cpu" and os.environ.get("TRITON_INTERPRET", "0") != "1":
        return "it is for GPUs, and the logits are on the CPU"
    if call.class_weights is not None:
        return "class weights are for the reference"
    if call.has_soft_term:
        name = type(call.divergence).__name__
        if not call.divergence.has_terms_and_slopes:
            return f"the divergence {name} has no terms_and_slopes, only terms"
        if not all(isinstance(value, int | float) for value in call.divergence.parameter_values):
            return f"the divergence {name} has a parameter that is not a number"
    if obstacle := _obstacle_of_gradient(call, student):
        return obstacle
    from limbeck.kernels import triton

    fault = triton.fault(call, student)
    return f"its check on random rows failed ({fault})" if fault else None


def _obstacle_of_shards(call: LossCall) -> str | None:
    """Return why the kernel for shards cannot compute the divergence, or None."""
    divergence = call.divergence
    if not call.has_soft_term or divergence.has_terms_and_slopes:
        return None
    if divergence.on_logits or (isinstance(divergence, Divergence) and not divergence.is_sum_of_terms):
        return f"{type(divergence).__name__} has a value of its own, which shards of the vocabulary cannot add up"
    return None


def _sparse_kernel(call: LossCall, student: Tensor, backend: str) -> RowKernel | None:
    """Return the kernel of sparse targets, which runs on every device; None for the reference."""
    obstacle = _obstacle_of_gradient(call, student)
    if backend == "triton":
        obstacle = "sparse targets have no Triton kernel"
    if backend == "cpu" and student.device.type != "cpu":
        obstacle = f"it is for the CPU, and the logits are on {student.device}"
    if backend in ("cpu", "triton") and obstacle:
        raise ArgumentError("backend", f"{backend!r} cannot compute this call: {obstacle}. Use 'auto'.")
    return None if backend == "reference" or obstacle else sparse.row_kernel


def _obstacle_of_gradient(call: LossCall, student: Tensor) -> str | None:
    """Return which derivative is asked for that kernels do not compute, or None."""
    if not torch.compiler.is_compiling() and is_transformed():
        return "torch.func and forward-mode derivatives follow plain operations, which only the reference has"
    name = argument_with_gradient(call, student)
    return f"the {name} asks for gradient, which only the reference gives" if name else None


def argument_with_gradient(call: LossCall, student: Tensor) -> str | None:
    """Return the name of an argument beside the logits that asks for gradient, or None.

    Temperatures and the scale, whose gradient a kernel gives, come after labels and weights, whose gradient none gives.

    Args:
        call: what to compute.
        student: a tensor (N, V) on the logits' device.
    """
    if not torch.is_grad_enabled():
        return None
    if call.labels is not None and call.labels.requires_grad:
        return "labels"
    if call.class_weights is not None and call.class_weights.requires_grad:
        return "weight"
    if any(isinstance(t, Tensor) and t.requires_grad for t in (call.teacher_temperature, call.student_temperature)):
        return "temperature"
    if isinstance(call.compensation, Tensor) and call.compensation.requires_grad:
        return "scale"
    return "divergence" if call.has_soft_term and _learns(call, student) else None


def _check_own_divergence(call: LossCall, student: Tensor) -> None:
    """Require that ``terms_and_slopes`` of a divergence that a user wrote agree with its terms, once for each class."""
    divergence = call.divergence
    known = type(divergence) in _CHECKED or not divergence.has_terms_and_slopes or not call.has_soft_term
    if known or _is_built_in(divergence) or torch.compiler.is_compiling():
        return
    if all(is_number(value) for value in divergence.parameter_values):
        soft = replace(call, labels=None, alpha=1.0, class_weights=None, dtype=torch.float64, sparse=None)
        classes = max(student.shape[-1], 8)  # the one column of a small shard has no gradient to compare
        wrong = disagreement(cpu.row_kernel, soft, torch.empty(0, classes, dtype=torch.float64))
        if wrong:
            raise ArgumentError(
                "divergence",
                f"terms_and_slopes of {type(divergence).__name__} are not those of its terms: on random rows {wrong}. "
                "Correct them, or leave terms_and_slopes out.",
            )
    _CHECKED.add(type(divergence))


def _is_built_in(divergence: DivergenceProtocol) -> bool:
    """Return True for a divergence of Limbeck's, which the tests have checked and which has nothing to learn."""
    return type(divergence).__module__ == ForwardKL.__module__


def _learns(call: LossCall, student: Tensor) -> bool:
    """Return True if a tensor inside of the divergence asks for gradient."""
    divergence = call.divergence
    if not isinstance(divergence, Divergence) or _is_built_in(divergence):
        return False
    row = student.new_full((1, student.shape[-1]), -math.log(student.shape[-1]), dtype=call.dtype)
    return divergence.value(row, row, torch.ones_like(row, dtype=torch.bool)).requires_grad

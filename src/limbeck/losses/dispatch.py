"""One call of the loss as rows, and the backend that computes it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from limbeck.kernels import cpu, sharded
from limbeck.kernels.autograd import TRITON_IS_INSTALLED, rows_loss
from limbeck.kernels.call import Plan, Rows, Sweep, for_rows
from limbeck.kernels.sparse import SparseRows
from limbeck.losses import reference
from limbeck.losses.divergences import Divergence, ForwardKL, ReverseKL

Compensate = bool | Literal["curvature"]

BACKENDS = ("auto", "reference", "rows", "triton")


@dataclass(frozen=True)
class Call:
    """One call, with positions flattened to rows and everything but the logits in the dtype of the arithmetic."""

    student: Tensor
    """(N, V), as given."""
    teacher: Tensor | None
    """(N, V), as given, without gradient; None when the soft term is not asked for."""
    labels: Tensor | None
    """(N,), 0 where there is none; None when the hard term is not asked for."""
    labelled: Tensor | None
    """bool (N,); None when every row has a label."""
    counted: Tensor | None
    """bool (N,); None when every row counts."""
    measure: Divergence
    teacher_temperature: Tensor | float
    """A float, or (N, 1) or (1, 1)."""
    student_temperature: Tensor | float
    compensation: Tensor | float
    label_smoothing: float
    weight: Tensor | None
    dtype: torch.dtype

    def rows(
        self, student: Tensor, teacher: Tensor | None, part: Rows = slice(None)
    ) -> tuple[Tensor | None, Tensor | None]:
        """C(T) D and CE of the rows in ``part`` by the reference; ``student`` and ``teacher`` are theirs."""
        student = student.to(self.dtype)
        teacher = None if teacher is None else teacher.to(self.dtype)
        if self.counted is not None:  # blank the positions that do not count, whatever they hold
            skipped = ~self.counted[part].unsqueeze(-1)
            student = student.masked_fill(skipped, 0.0)
            teacher = None if teacher is None else teacher.masked_fill(skipped, 0.0)
        # A logit of -inf stays where it is: without this it would pull at nothing with a gradient of -p_t.
        student = student.masked_fill(student.isneginf(), -torch.inf)
        soft = hard = None
        if teacher is not None:
            t_t, t_s, factor = (
                x[part] if isinstance(x, Tensor) and len(x) > 1 else x
                for x in (self.teacher_temperature, self.student_temperature, self.compensation)
            )
            soft = reference.soft_rows(student, teacher, self.measure, t_t, t_s)
            soft = soft * for_rows(factor)
        if self.labels is not None:
            hard = reference.hard_rows(student, self.labels[part], self.weight, self.label_smoothing)
            hard = hard if self.labelled is None else torch.where(self.labelled[part], hard, 0.0)
        return soft, hard

    def weights(self, reduction: str, num_items: Tensor | float | None) -> Tensor | float:
        """1 over the mean's denominator, for all rows or (N,) with 0 where a position does not count."""
        weights: Tensor | float = 1.0 if self.counted is None else self.counted.to(self.dtype)
        if reduction != "mean":
            return weights
        if num_items is None:
            num_items = len(self.student) if self.counted is None else self.counted.sum()
        if isinstance(num_items, Tensor):
            num_items = num_items.to(self.student.device).reshape(())
            divided = weights / torch.where(num_items == 0, 1, num_items)
            return divided if self.counted is not None else divided.to(self.dtype).expand(len(self.student))
        return weights / (num_items or 1)


def flatten(
    student: Tensor,
    teacher: Tensor | None,
    labels: Tensor | None,
    *,
    counted: Tensor | None,
    labelled: Tensor | None,
    measure: Divergence,
    teacher_temperature: Tensor | float,
    student_temperature: Tensor | float,
    compensate: Compensate,
    label_smoothing: float,
    weight: Tensor | None,
) -> Call:
    """Positions to rows, and everything to the dtype of the arithmetic: float64 when both logits are, else float32."""
    dtypes = {student.dtype} if teacher is None else {student.dtype, teacher.dtype}
    dtype = torch.float64 if dtypes == {torch.float64} else torch.float32
    t_t, t_s = (
        t.to(student.device, dtype).reshape(-1, 1) if isinstance(t, Tensor) else t
        for t in (teacher_temperature, student_temperature)
    )
    if labels is not None:
        labels = labels.long() if labelled is None else labels.long().masked_fill(~labelled, 0)
        labels = _flat(labels)
    return Call(
        student=_in_rows(student),
        teacher=None if teacher is None else _in_rows(teacher.detach()),
        labels=labels,
        labelled=None if labelled is None else _flat(labelled),
        counted=None if counted is None else _flat(counted),
        measure=measure,
        teacher_temperature=t_t,
        student_temperature=t_s,
        compensation=reference.compensation(measure, t_s, compensate),
        label_smoothing=label_smoothing,
        weight=None if weight is None else weight.to(dtype),
        dtype=dtype,
    )


def _in_rows(logits: Tensor) -> Tensor:
    """(N, V). A view that changes nothing would cost a small call a tenth of its time, in the graph too."""
    return logits if logits.dim() == 2 else logits.reshape(-1, logits.shape[-1])


def _flat(rows: Tensor) -> Tensor:
    return rows if rows.dim() == 1 else rows.reshape(-1)


def compute(
    call: Call,
    weights: Tensor | float,
    *,
    alpha: float,
    backend: str,
    group: ProcessGroup | None,
    inplace: bool,
    summed: bool,
    parts: bool,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The weighted total, soft and hard terms: (N,), or one number each when ``summed``; a term not asked for is None."""
    sweep = kernel_for(call, backend, group)
    if sweep is not None:
        plan = plan_of(call, weights, alpha, inplace, summed)
        total, soft, hard = rows_loss(call.student, call.teacher, plan, sweep)
    else:
        soft, hard = call.rows(call.student, call.teacher)
        # A term that alpha rules out is left out, not multiplied by 0: it may be infinite.
        terms = [share * x for share, x in ((alpha, soft), (1 - alpha, hard)) if x is not None and share > 0]
        total = weighted(sum(terms[1:], terms[0]), weights, summed)
    if not parts:
        return total, None, None
    soft = None if soft is None or call.teacher is None else weighted(soft, weights, summed)
    hard = None if hard is None or call.labels is None else weighted(hard, weights, summed)
    return total, soft, hard


def kernel_for(call: Call, backend: str, group: ProcessGroup | None = None) -> Sweep | None:
    """The kernel that computes this call; None is the reference, on whole tensors."""
    if group is not None:
        return partial(sharded.sweep, group=group)
    obstacles = {"rows": _obstacle_of_rows, "triton": _obstacle_of_triton}
    if backend in obstacles and (obstacle := obstacles[backend](call)):
        raise ValueError(f"backend: {backend!r} cannot compute this call: {obstacle}. Use 'auto'.")
    if backend == "auto":
        backend = "rows" if call.student.device.type == "cpu" else "triton"
        backend = "reference" if obstacles[backend](call) else backend
    if backend == "triton":
        from limbeck.kernels import triton

        return triton.sweep
    return cpu.sweep if backend == "rows" else None


def _obstacle_of_rows(call: Call) -> str | None:
    if call.student.device.type != "cpu":
        return f"it is for the CPU, and the logits are on {call.student.device}"
    if torch.compiler.is_compiling():
        return "torch.compile has its own way to fuse"
    return _obstacle_of_temperature(call)


def _obstacle_of_triton(call: Call) -> str | None:
    if not TRITON_IS_INSTALLED:
        return "Triton is not installed"
    if call.student.device.type == "cpu" and os.environ.get("TRITON_INTERPRET", "0") != "1":
        return "it is for GPUs, and the logits are on the CPU"
    if call.weight is not None:
        return "class weights are for the reference"
    if call.teacher is not None and not call.measure.simplest.has_form:
        return f"the divergence {type(call.measure).__name__} has no form, only terms"
    return _obstacle_of_temperature(call)


def _obstacle_of_temperature(call: Call) -> str | None:
    if any(isinstance(t, Tensor) and t.requires_grad for t in (call.teacher_temperature, call.student_temperature)):
        return "the temperature asks for gradient, which only the reference gives"
    return None


def weighted(values: Tensor, weights: Tensor | float, summed: bool) -> Tensor:
    weighted = values * weights
    if isinstance(weights, Tensor):
        weighted = torch.where(weights > 0, weighted, 0.0)
    return weighted.sum() if summed else weighted


def plan_of(
    call: Call,
    weights: Tensor | float,
    alpha: float,
    inplace: bool,
    summed: bool,
    targets: SparseRows | None = None,
) -> Plan:
    count, measure = len(call.student), call.measure.simplest
    t_t, t_s, factor = (
        x.expand(count, 1) if isinstance(x, Tensor) else x
        for x in (call.teacher_temperature, call.student_temperature, call.compensation)
    )
    return Plan(
        labels=call.labels,
        labelled=call.labelled,
        weights=weights,
        dtype=call.dtype,
        alpha=alpha,
        teacher_temperature=t_t,
        student_temperature=t_s,
        compensation=factor,
        label_smoothing=call.label_smoothing,
        weight=call.weight,
        measure=measure,
        forward_kl=isinstance(measure, ForwardKL) and measure.has_form,
        reverse_kl=isinstance(measure, ReverseKL) and measure.has_form,
        exact=call.rows,
        closed=call.weight is None and (call.teacher is None or measure.has_form),
        inplace=inplace,
        summed=summed,
        sparse=targets,
    )

r"""The loss against a teacher that is known by a few classes of each row: their ids, and a bucket for the rest.

The student's row becomes K + 1 log-probabilities at T: those of the K listed classes, and one of all others together. The
others are summed on their own, relative to their own maximum, and never as 1 minus the listed ones, so that nothing cancels and
nothing underflows. The divergence of these few numbers is differentiated by autograd, g = dD/da, and spread over the row:

    dD/ds_j = (g_j - p_j G) / T                     for a listed class
    dD/ds_j = p_j (g_rest / p_rest - G) / T         for the others, with G = sum g

so a row costs one exponential for each class, and one more for cross-entropy unless T is 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from limbeck.kernels.call import (
    GradientScales,
    LossCall,
    RowIndex,
    column_as_rows,
    scales_as_columns,
    scales_of_rows,
)
from limbeck.kernels.cpu import CHUNK_ELEMENTS, LOG2_E, workspace
from limbeck.kernels.cross_entropy import add_cross_entropy_gradient, cross_entropy_from_sums, cross_entropy_sums
from limbeck.kernels.sequences import by_sequences

CHUNK = {"cpu": CHUNK_ELEMENTS, "cuda": 1 << 26}
"""Logits in a chunk, by the kind of device."""


@dataclass(frozen=True)
class SparseRows:
    """A teacher that is known by some classes of each row; each tensor is (N, ...)."""

    ids: Tensor
    """(N, K), distinct in a row unless ``repeated``; -1 where a row has fewer."""
    known: tuple[Tensor, ...]
    """What ``distance`` takes beside the student's log-probabilities, (N, K) or (N, K + 1) each."""
    distance: Callable[..., Tensor]
    """(a (n, K + 1), *known) -> D of each row, (n,), differentiable in a, whose last column is the rest."""
    repeated: bool
    """The ids are draws: one may occur several times, and the rest is not used."""

    def part(self, rows: RowIndex) -> SparseRows:
        """Return the teacher of some rows."""
        return SparseRows(self.ids[rows], tuple(x[rows] for x in self.known), self.distance, self.repeated)


@by_sequences(CHUNK_ELEMENTS)
def row_kernel(
    student: Tensor, teacher: Tensor | None, call: LossCall, scales: GradientScales, gradient: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return the values of all rows against ``call.sparse``, and write their scaled gradient; see ``call.RowKernel``."""
    assert teacher is None
    count, classes = student.shape
    soft, hard = student.new_zeros(2, count, dtype=call.dtype)
    size = max(1, CHUNK.get(student.device.type, CHUNK["cuda"]) // max(1, classes))
    for start in range(0, count, size):
        rows = slice(start, min(count, start + size))
        into = None if gradient is None else gradient[rows]
        soft[rows], hard[rows] = _chunk(student[rows], call.part(rows), scales_of_rows(scales, rows), into)
    return soft, hard


class _Softmax(NamedTuple):
    """Some of the student's rows at T, as the listed classes and the rest."""

    listed: Tensor
    """bool (n, K), False where an id is -1."""
    ids: Tensor
    """(n, K), 0 where an id is -1."""
    a: Tensor
    """(n, K + 1), log-probabilities of the listed classes and of the rest, in float64, in which they keep their digits."""
    e: Tensor
    """(n, V), exponentials of the classes of the rest; of all classes when the ids are draws."""
    e_sum: Tensor
    """(n, 1), the sum of ``e``."""


def _chunk(student: Tensor, call: LossCall, scales: GradientScales, gradient: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the soft and hard values of some rows, and write their scaled gradient."""
    sparse = call.sparse
    assert sparse is not None
    soft_scale, hard_scale = scales_as_columns(scales)
    s = student.to(call.dtype)
    e, e_1 = workspace(2, len(s), s.shape[-1], s.dtype, s.device)
    softmax = _softmax(s, sparse, call.student_temperature, e)
    with torch.enable_grad():
        a = softmax.a.requires_grad_(gradient is not None)
        soft = sparse.distance(a, *sparse.known)
        slopes = torch.zeros_like(a) if gradient is None else torch.autograd.grad(soft.sum(), a)[0]
    hard, total_1, sums = s.new_zeros(len(s)), None, None
    if call.labels is not None:
        max_1 = s.amax(-1, keepdim=True).mul_(LOG2_E)
        torch.add(-max_1, s, alpha=LOG2_E, out=e_1).exp2_()
        total_1, sums = e_1.sum(-1, keepdim=True), cross_entropy_sums(s, call)
        hard = cross_entropy_from_sums(sums, (max_1 / LOG2_E + total_1.log()).squeeze(-1), call)
    if gradient is not None:
        _write_soft_gradient(
            softmax, slopes, soft_scale * (call.compensation / call.student_temperature), sparse.repeated
        )
        if total_1 is not None and sums is not None:
            add_cross_entropy_gradient(e, e_1, total_1, s, sums, call, hard_scale)
        if isinstance(call.weights, Tensor):  # a position that does not count may hold anything
            e.masked_fill_((call.weights == 0).unsqueeze(-1), 0.0)
        gradient.copy_(e)
    return soft.detach() * column_as_rows(call.compensation), hard


def _softmax(s: Tensor, sparse: SparseRows, t: Tensor | float, e: Tensor) -> _Softmax:
    """Return the student's rows at T, from their logits (n, V); ``e`` is memory for exponentials."""
    listed, ids = sparse.ids >= 0, sparse.ids.clamp(min=0)
    x_listed = (s.gather(-1, ids).double() / t).masked_fill(~listed, -torch.inf)
    torch.mul(s, LOG2_E / t, out=e)  # in units of log 2: exp2 is faster than exp
    if not sparse.repeated:
        e.scatter_reduce_(-1, ids, torch.where(listed, -torch.inf, torch.inf).to(e.dtype), "amin")
    maximum = e.amax(-1, keepdim=True)
    maximum = maximum.masked_fill_(maximum == -torch.inf, 0.0)  # every class is listed
    e.sub_(maximum).exp2_()
    e_sum = e.sum(-1, keepdim=True)
    log_rest = log_total = (maximum.double() / LOG2_E).add_(e_sum.double().log())
    if not sparse.repeated:
        log_total = torch.logsumexp(torch.cat([x_listed, log_rest], -1), -1, keepdim=True)
    return _Softmax(listed, ids, torch.cat([x_listed, log_rest], -1) - log_total, e, e_sum)


def _write_soft_gradient(softmax: _Softmax, slopes: Tensor, factor: Tensor | float, repeated: bool) -> None:
    """Write the gradient of the soft term, times a number or (n, 1), into ``softmax.e``."""
    listed, ids, a, e, e_sum = softmax
    a, slope_sum = a.detach(), slopes.sum(-1, keepdim=True)
    listed_slopes = slopes[:, :-1]
    lacking = a[:, :-1].isneginf()  # a logit of -inf stays where it is
    if repeated:
        e.mul_(-slope_sum * factor / e_sum)
        e.scatter_add_(-1, ids, (listed_slopes * factor).masked_fill(~listed | lacking, 0.0).to(e.dtype))
    else:
        of_rest = torch.where(e_sum > 0, (slopes[:, -1:] - slope_sum * a[:, -1:].exp()) / e_sum, 0.0)
        e.mul_(of_rest * factor)
        values = (listed_slopes - slope_sum * a[:, :-1].exp()) * factor
        _put(e, ids, listed, values.masked_fill(lacking, 0.0).to(e.dtype))


def _put(out: Tensor, ids: Tensor, listed: Tensor, values: Tensor) -> None:
    """Set out[ids] = values where an id is listed.

    The other entries must write something too: they repeat the value of the row's first listed class or, where there is none,
    what ``out`` already holds.
    """
    first = listed.to(torch.uint8).argmax(-1, keepdim=True)
    at = ids.gather(-1, first)
    standing = torch.where(listed.any(-1, keepdim=True), values.gather(-1, first), out.gather(-1, at))
    out.scatter_(-1, torch.where(listed, ids, at), torch.where(listed, values, standing))

r"""The loss against a teacher that is known by a few classes of each row: their ids, and a bucket for the rest.

The student's row becomes K + 1 log-probabilities at T, those of the K listed classes and that of all others together. The
others are summed by themselves, relative to their own maximum, never as 1 less what is listed: nothing cancels and nothing
underflows. The divergence of these few numbers is differentiated by autograd, g = dD/da, and spread over the row:

    dD/ds_j = g_j - p_j G           for a listed class
    dD/ds_j = p_j (g_rest / p_rest - G)   for the others,      G = sum g,      all of it / T

so a row costs one exponential for each class, and one more for cross-entropy unless T is 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from limbeck.kernels.call import Plan, Rows, Shares, columns_of, for_rows, part_of
from limbeck.kernels.cpu import CHUNK_ELEMENTS, LOG2_E, workspace
from limbeck.kernels.cross_entropy import add_hard_gradient, hard_sums, hard_value

CHUNK = {"cpu": CHUNK_ELEMENTS, "cuda": 1 << 26}
"""Logits in a chunk, by the kind of device."""


@dataclass(frozen=True)
class SparseRows:
    """What is known of the teacher, (N, ...) each."""

    ids: Tensor
    """(N, K), distinct in a row unless ``repeated``; -1 where a row has fewer."""
    known: tuple[Tensor, ...]
    """What ``distance`` takes beside the student's log-probabilities."""
    distance: Callable[..., Tensor]
    """(a (n, K + 1), *known) -> D of each row, (n,), differentiable in a; the last column is the rest."""
    repeated: bool
    """The ids are draws, one may come again, and there is no use for the rest."""

    def part(self, rows: Rows) -> SparseRows:
        return SparseRows(self.ids[rows], tuple(x[rows] for x in self.known), self.distance, self.repeated)


def sweep(
    student: Tensor, teacher: Tensor | None, plan: Plan, shares: Shares, gradient: Tensor | None
) -> tuple[Tensor, Tensor]:
    """As ``plan.Sweep`` says; the teacher is in ``plan.sparse``."""
    assert teacher is None
    count, classes = student.shape
    soft, hard = student.new_zeros(2, count, dtype=plan.dtype)
    size = max(1, CHUNK.get(student.device.type, CHUNK["cuda"]) // max(1, classes))
    for start in range(0, count, size):
        rows = slice(start, min(count, start + size))
        into = None if gradient is None else gradient[rows]
        soft[rows], hard[rows] = _chunk(student[rows], plan.part(rows), part_of(shares, rows), into)
    return soft, hard


def _chunk(student: Tensor, plan: Plan, shares: Shares, gradient: Tensor | None) -> tuple[Tensor, Tensor]:
    sparse, t = plan.sparse, plan.student_temperature
    assert sparse is not None
    pull, push = columns_of(shares)
    s = student.to(plan.dtype)
    e, e_1 = workspace(2, len(s), s.shape[-1], s.dtype, s.device)
    listed = sparse.ids >= 0
    ids = sparse.ids.clamp(min=0)
    x_listed = (s.gather(-1, ids) / t).masked_fill(~listed, -torch.inf)
    torch.mul(s, LOG2_E / t, out=e)  # in units of log 2: exp2 is faster than exp
    if not sparse.repeated:
        e.scatter_reduce_(-1, ids, torch.where(listed, -torch.inf, torch.inf).to(e.dtype), "amin")
    top = e.amax(-1, keepdim=True)
    top = top.masked_fill_(top == -torch.inf, 0.0)  # every class is listed
    e.sub_(top).exp2_()
    rest = e.sum(-1, keepdim=True)
    log_rest = log_total = (top / LOG2_E).add_(rest.log())
    if not sparse.repeated:
        log_total = torch.logsumexp(torch.cat([x_listed, log_rest], -1), -1, keepdim=True)
    with torch.enable_grad():
        a = torch.cat([x_listed, log_rest], -1) - log_total
        a.requires_grad_(gradient is not None)
        soft = sparse.distance(a, *sparse.known)
        g = torch.zeros_like(a) if gradient is None else torch.autograd.grad(soft.sum(), a)[0]
    hard, total_1, sums = torch.zeros_like(soft), None, None
    if plan.labels is not None:
        top_1 = s.amax(-1, keepdim=True).mul_(LOG2_E)
        torch.add(-top_1, s, alpha=LOG2_E, out=e_1).exp2_()
        total_1, sums = e_1.sum(-1, keepdim=True), hard_sums(s, plan)
        hard = hard_value(sums, (top_1 / LOG2_E + total_1.log()).squeeze(-1), plan)
    compensation = plan.compensation
    if gradient is not None:
        factor = pull * (compensation / t)
        pulled = g.sum(-1, keepdim=True)
        if sparse.repeated:
            e.mul_(-pulled * factor / rest)
            e.scatter_add_(-1, ids, (g[:, :-1] * factor).masked_fill(~listed, 0.0))
        else:
            shrunk = (log_rest - log_total).exp()
            of_rest = torch.where(rest > 0, (g[:, -1:] - pulled * shrunk) / rest, 0.0)
            e.mul_(of_rest * factor)
            _put(e, ids, listed, (g[:, :-1] - pulled * a.detach()[:, :-1].exp()) * factor)
        if total_1 is not None and sums is not None:
            add_hard_gradient(e, e_1, total_1, s, sums, plan, push)
        if isinstance(plan.weights, Tensor):  # a position that does not count may hold anything
            e.masked_fill_((plan.weights == 0).unsqueeze(-1), 0.0)
        gradient.copy_(e)
    return soft.detach() * for_rows(compensation), hard


def _put(out: Tensor, ids: Tensor, listed: Tensor, values: Tensor) -> None:
    """out[ids] = values where listed; the others repeat what stands in the first column that is listed, or in the row."""
    first = listed.to(torch.uint8).argmax(-1, keepdim=True)
    at = ids.gather(-1, first)
    standing = torch.where(listed.any(-1, keepdim=True), values.gather(-1, first), out.gather(-1, at))
    out.scatter_(-1, torch.where(listed, ids, at), torch.where(listed, values, standing))

r"""The loss where each process of a group holds consecutive columns of the vocabulary, in rank order.

Two collectives, whatever V is, over a few numbers for each row:

    MAX    max s, max t, and how many columns each process holds
    SUM    sum e^(x_s), sum e^(x_t), the KL's own sum, and for cross-entropy sum e^s and the label's logit

with x = (z - max z) / T. Forward and reverse KL need no more: with E = sum e^(x_t) (x_t - x_s),

    KL(p_t || p_s) = E / sum e^(x_t) + log sum e^(x_s) - log sum e^(x_t)

Other divergences sum their terms and psi (see ``limbeck.losses.divergences``) in a third. Every process ends with the whole
loss and the gradient of its own columns. Rows go by chunks between the collectives, so that only the numbers of a row last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch import distributed as dist

from limbeck.kernels.call import LOG_ZERO, Plan, Shares, columns_of, for_rows, part_of
from limbeck.kernels.cross_entropy import add_hard_gradient, hard_sums, hard_value

CHUNK_ELEMENTS = 1 << 22
"""Logits in a chunk."""


def sweep(
    student: Tensor,
    teacher: Tensor | None,
    plan: Plan,
    shares: Shares,
    gradient: Tensor | None,
    *,
    group: dist.ProcessGroup,
) -> tuple[Tensor, Tensor]:
    """As ``plan.Sweep`` says, for the columns that this process holds."""
    return _Sharded(student, teacher, plan, group).run(shares, gradient)


class _Sharded:
    """The sums of every row, over all columns."""

    def __init__(self, student: Tensor, teacher: Tensor | None, plan: Plan, group: dist.ProcessGroup) -> None:
        self.student, self.teacher, self.plan, self.group = student, teacher, plan, group
        rank, world = dist.get_rank(group), dist.get_world_size(group)
        count, columns = student.shape
        held = student.new_zeros(world, dtype=plan.dtype)
        held[rank] = columns
        tops = [student.amax(-1).to(plan.dtype)] + ([] if teacher is None else [teacher.amax(-1).to(plan.dtype)])
        packed = torch.cat([*tops, held])
        dist.all_reduce(packed, dist.ReduceOp.MAX, group)
        self.top_s, self.top_t = packed[:count, None], packed[count : 2 * count, None]
        self.offset, self.classes = int(packed[-world:][:rank].sum()), int(packed[-world:].sum())
        self._check_labels()

    def run(self, shares: Shares, gradient: Tensor | None) -> tuple[Tensor, Tensor]:
        plan = self.plan
        self.sums = self._summed(self._first)
        soft = hard = torch.zeros_like(self.top_s.squeeze(-1))
        self.pulled = soft
        if self.teacher is not None:
            soft, self.pulled = self._divergence()
            soft = soft * for_rows(plan.compensation)
        if plan.labels is not None:
            hard = hard_value(self.sums[4:], self.top_s.squeeze(-1) + self.sums[3].log(), plan)
        if gradient is not None:
            for rows in self._chunks():
                gradient[rows] = self._gradient(rows, part_of(shares, rows))
        return soft, hard

    def _first(self, rows: slice) -> Tensor:
        """(9, n): of the student and the teacher at T, of the KL, of the student at 1, and those of cross-entropy."""
        plan, sums = self.plan.part(rows), []
        s = self.student[rows].to(plan.dtype)
        zero = s.new_zeros(len(s))
        if self.teacher is None:
            sums += [zero, zero, zero]
        elif plan.measure.on_logits:
            d, present = self._difference(rows)
            sums += [present.sum(-1).to(s.dtype), zero, d.sum(-1)]
        else:
            x_s, x_t, _ = self._scaled(rows)
            e_s, e_t = x_s.exp(), x_t.exp()
            weight, apart = (e_t, x_t - x_s) if plan.forward_kl else (e_s, x_s - x_t)
            cross = (weight * apart.masked_fill_(weight == 0, 0.0)).sum(-1) if _is_kl(plan) else zero
            sums += [e_s.sum(-1), e_t.sum(-1), cross]
        if plan.labels is None:
            return torch.stack([*sums, *[zero] * 6])
        return torch.cat([torch.stack([*sums, (s - self.top_s[rows]).exp().sum(-1)]), hard_sums(s, plan, self.offset)])

    def _divergence(self) -> tuple[Tensor, Tensor]:
        """D and the sum of psi of each row."""
        plan, (sum_s, sum_t, cross) = self.plan, self.sums[:3]
        if _is_kl(plan):
            apart = sum_s.log() - sum_t.log()
            if plan.forward_kl:
                return cross / sum_t + apart, -torch.ones_like(apart)
            value = cross / sum_s - apart
            return value, value + 1
        terms, pulled = self._summed(self._second)
        return (terms / (2 * sum_s), pulled) if plan.measure.on_logits else (terms, pulled)

    def _second(self, rows: slice) -> Tensor:
        """(2, n): of the terms and of psi."""
        if self.plan.measure.on_logits:
            d = self._centred(rows)
            return torch.stack([(d * d).sum(-1), torch.zeros_like(d[:, 0])])
        a, b = self._log_probabilities(rows)
        terms, slope = self._terms(a, b)
        return torch.stack([terms.sum(-1), slope.sum(-1)])

    def _gradient(self, rows: slice, shares: Shares) -> Tensor:
        plan = self.plan.part(rows)
        pull, push = columns_of(shares)
        s = self.student[rows].to(plan.dtype)
        out = torch.zeros_like(s)
        if self.teacher is not None:
            if plan.measure.on_logits:
                out = self._centred(rows) * (-pull * plan.compensation / self.sums[0][rows, None])
            else:
                a, b = self._log_probabilities(rows)
                slope = -b.exp() if plan.forward_kl else self._terms(a, b)[1]
                out = (slope - a.exp() * self.pulled[rows, None]).mul_(
                    pull * (plan.compensation / plan.student_temperature)
                )
        if plan.labels is not None:
            sums = self.sums[:, rows]
            e = (s - self.top_s[rows]).exp_()
            add_hard_gradient(out, e, sums[3, :, None], s, sums[4:], plan, push, self.offset)
        out.masked_fill_(s.isneginf(), 0.0)  # a logit of -inf stays where it is
        if isinstance(plan.weights, Tensor):  # a position that does not count may hold anything
            out.masked_fill_((plan.weights == 0).unsqueeze(-1), 0.0)
        return out

    def _scaled(self, rows: slice) -> tuple[Tensor, Tensor, Tensor]:
        """(z - max z) / T of both models, and where a class is present."""
        assert self.teacher is not None
        plan = self.plan.part(rows)
        s, t = (z[rows].to(plan.dtype) for z in (self.student, self.teacher))
        absent = s.isneginf() & t.isneginf()
        x_s, x_t = (s - self.top_s[rows]) / plan.student_temperature, (t - self.top_t[rows]) / plan.teacher_temperature
        return x_s.masked_fill_(absent, LOG_ZERO), x_t.masked_fill_(absent, LOG_ZERO), ~absent

    def _log_probabilities(self, rows: slice) -> tuple[Tensor, Tensor]:
        x_s, x_t, present = self._scaled(rows)
        sums = self.sums[:2, rows, None].log()
        return torch.where(present, x_s - sums[0], LOG_ZERO), torch.where(present, x_t - sums[1], LOG_ZERO)

    def _terms(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """The divergence's terms and their derivatives psi."""
        with torch.enable_grad():
            a = a.detach().requires_grad_()
            terms = self.plan.measure.terms(a, b)
            return terms.detach(), torch.autograd.grad(terms.sum(), a)[0]

    def _difference(self, rows: slice) -> tuple[Tensor, Tensor]:
        """t - s where a class is present, and where it is."""
        assert self.teacher is not None
        s, t = (z[rows].to(self.plan.dtype) for z in (self.student, self.teacher))
        present = ~(s.isneginf() & t.isneginf())
        return torch.where(present, t - s, 0.0), present

    def _centred(self, rows: slice) -> Tensor:
        d, present = self._difference(rows)
        if self.plan.measure.share:
            d = torch.where(present, d - (self.sums[2] / self.sums[0])[rows, None], 0.0)
        return d

    def _summed(self, sums: Callable[[slice], Tensor]) -> Tensor:
        """The sums of all rows over all columns."""
        packed = torch.cat([sums(rows) for rows in self._chunks()], -1)
        dist.all_reduce(packed, dist.ReduceOp.SUM, self.group)
        return packed

    def _chunks(self) -> Iterator[slice]:
        count, columns = self.student.shape
        size = max(1, CHUNK_ELEMENTS // max(1, columns))
        return (slice(start, min(count, start + size)) for start in range(0, max(1, count), size))

    def _check_labels(self) -> None:
        labels = self.plan.labels
        if labels is not None and labels.device.type == "cpu" and bool((labels >= self.classes).any()):
            raise ValueError(
                f"labels: {int(labels.max())} is out of range for {self.classes} classes on all processes of the group "
                f"(expected 0 to {self.classes - 1}: labels count over the whole vocabulary)."
            )


def _is_kl(plan: Plan) -> bool:
    return plan.forward_kl or plan.reverse_kl

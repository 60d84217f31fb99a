r"""The loss where each process of a group holds consecutive columns of the vocabulary, in rank order.

Two collectives, whatever V is, over a few numbers for each row:

    MAX    max s, max t, and how many columns each process holds
    SUM    sum e^(x_s), sum e^(x_t), the KL's own sum, and for cross-entropy sum e^s and the label's logit

with x = (z - max z) / T. Forward and reverse KL need no more: with E = sum e^(x_t) (x_t - x_s),

    KL(p_t || p_s) = E / sum e^(x_t) + log sum e^(x_s) - log sum e^(x_t)

Other divergences sum their terms and slopes (see ``limbeck.losses.divergences``) in a third.
If some rows of both models are close, one more collective sums what log(p_t / p_s) needs to keep its digits, and the KLs sum
their terms too. Every process ends with the whole loss and the gradient of its own columns. Between the collectives the rows
are taken in chunks, so that only a few numbers for each row are kept.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch import distributed as dist

from limbeck.errors import ArgumentError
from limbeck.kernels.call import GradientScales, LossCall, column_as_rows, scales_as_columns, scales_of_rows
from limbeck.kernels.close_rows import CLOSE
from limbeck.kernels.cross_entropy import (
    PROBABILITIES_SUM_WITHIN,
    add_cross_entropy_gradient,
    cross_entropy_from_sums,
    cross_entropy_sums,
)
from limbeck.kernels.sequences import by_sequences

CHUNK_ELEMENTS = 1 << 22
"""Logits in a chunk."""
FAR = 80.0
"""A log-ratio of which the exponential does not overflow."""


@by_sequences(sys.maxsize)  # all at once: each part would wait for the other processes
def row_kernel(
    student: Tensor,
    teacher: Tensor | None,
    call: LossCall,
    scales: GradientScales,
    gradient: Tensor | None,
    *,
    group: dist.ProcessGroup,
) -> tuple[Tensor, Tensor]:
    """Return the values of all rows, and write the gradient of this process's columns; see ``call.RowKernel``."""
    return _Sharded(student, teacher, call, group).run(scales, gradient)


class _Sharded:
    """One call, with the sums of every row over all columns."""

    def __init__(self, student: Tensor, teacher: Tensor | None, call: LossCall, group: dist.ProcessGroup) -> None:
        self.student, self.teacher, self.call, self.group = student, teacher, call, group
        rank, world = dist.get_rank(group), dist.get_world_size(group)
        count, columns = student.shape
        held = student.new_zeros(world, dtype=call.dtype)
        held[rank] = columns
        maxima = [logits.amax(-1).to(call.dtype) for logits in (student, teacher) if logits is not None]
        packed = torch.cat([*maxima, held])
        dist.all_reduce(packed, dist.ReduceOp.MAX, group)
        self.max_s, self.max_t = packed[:count, None], packed[count : 2 * count, None]
        self.offset, self.classes = int(packed[-world:][:rank].sum()), int(packed[-world:].sum())
        self._check_labels()

    def run(self, scales: GradientScales, gradient: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the soft and hard values of all rows, and write the scaled gradient of this process's columns."""
        call = self.call
        self.sums = self._summed(self._first_sums)
        soft = hard = torch.zeros_like(self.max_s.squeeze(-1))
        self.slope_sum, self.close, self.excess = soft, None, soft
        if self.teacher is not None:
            soft, self.slope_sum = self._divergence()
            soft = soft * column_as_rows(call.compensation)
        if call.labels is not None:
            hard = cross_entropy_from_sums(self.sums[4:], self.max_s.squeeze(-1) + self.sums[3].log(), call)
        if gradient is not None:
            for rows in self._chunks():
                gradient[rows] = self._gradient(rows, scales_of_rows(scales, rows))
        return soft, hard

    def _first_sums(self, rows: slice) -> Tensor:
        """Return (9, n): sums of the student and the teacher at T, of the KL, of the student at 1, and of cross-entropy."""
        call, sums = self.call.part(rows), []
        s = self.student[rows].to(call.dtype)
        zero = s.new_zeros(len(s))
        if self.teacher is None:
            sums += [zero, zero, zero]
        elif call.divergence.on_logits:
            d, present = self._difference(rows)
            sums += [present.sum(-1).to(s.dtype), zero, d.sum(-1)]
        else:
            x_s, x_t, _ = self._scaled(rows)
            e_s, e_t = x_s.exp(), x_t.exp()
            weight, apart = (e_s, x_s - x_t) if call.is_reverse_kl else (e_t, x_t - x_s)
            cross = (weight * apart.masked_fill_(weight == 0, 0.0)).sum(-1)
            sums += [e_s.sum(-1), e_t.sum(-1), cross]
        if call.labels is None:
            return torch.stack([*sums, *[zero] * 6])
        sums.append((s - self.max_s[rows]).exp().sum(-1))
        return torch.cat([torch.stack(sums), cross_entropy_sums(s, call, self.offset)])

    def _divergence(self) -> tuple[Tensor, Tensor]:
        """Return D and the sum of the slopes of each row."""
        call, (sum_s, sum_t, cross) = self.call, self.sums[:3]
        if not call.divergence.on_logits:
            apart = sum_s.log() - sum_t.log()
            value = cross / sum_s - apart if call.is_reverse_kl else cross / sum_t + apart
            close = value < CLOSE  # the same on every process
            if close.any():
                self.excess, self.close = self._summed(self._normalizer_sums)[0], close
            elif call.is_forward_kl:
                return value, -torch.ones_like(value)
            elif call.is_reverse_kl:
                return value, value
        terms, slopes = self._summed(self._second_sums)
        return terms, slopes

    def _normalizer_sums(self, rows: slice) -> Tensor:
        """Return (1, n): the sums of p_s expm1(x_t - x_s), which are small where both models are close."""
        a, _ = self._log_probabilities(rows)
        return (a.exp() * self._apart(rows).clamp(max=FAR).expm1()).sum(-1, keepdim=True).t()

    def _apart(self, rows: slice) -> Tensor:
        """Return x_t - x_s with all its digits, 0 where both models lack the class."""
        assert self.teacher is not None
        call = self.call.part(rows)
        s, t = (z[rows].to(call.dtype) for z in (self.student, self.teacher))
        tops, temperatures = (self.max_s[rows], self.max_t[rows]), (call.student_temperature, call.teacher_temperature)
        apart = call.divergence.logit_difference(s, t, *temperatures, *tops)
        return apart.masked_fill_(s.isneginf() & t.isneginf(), 0.0)

    def _second_sums(self, rows: slice) -> Tensor:
        """Return (2, n): the sums of the terms and of the slopes."""
        terms, slopes = self._logit_terms(rows) if self.call.divergence.on_logits else self._terms(rows)[:2]
        return torch.stack([terms.sum(-1), slopes.sum(-1)])

    def _gradient(self, rows: slice, scales: GradientScales) -> Tensor:
        """Return the scaled gradient of some rows, (n, columns)."""
        call = self.call.part(rows)
        soft_scale, hard_scale = scales_as_columns(scales)
        s = self.student[rows].to(call.dtype)
        out = torch.zeros_like(s)
        if self.teacher is not None and call.divergence.on_logits:
            out = self._logit_terms(rows)[1] * (soft_scale * call.compensation)
        elif self.teacher is not None:
            if call.is_forward_kl and self.close is None:
                a, b = self._log_probabilities(rows)
                slopes = -b.exp()
            else:
                _, slopes, a = self._terms(rows)
            factor = soft_scale * (call.compensation / call.student_temperature)
            out = (slopes - a.exp() * self.slope_sum[rows, None]).mul_(factor)
        if call.labels is not None:
            sums = self.sums[:, rows]
            e = (s - self.max_s[rows]).exp_()
            add_cross_entropy_gradient(out, e, sums[3, :, None], s, sums[4:], call, hard_scale, self.offset)
        out.masked_fill_(s.isneginf(), 0.0)  # a logit of -inf stays where it is
        if isinstance(call.weights, Tensor):  # a position that does not count may hold anything
            out.masked_fill_((call.weights == 0).unsqueeze(-1), 0.0)
        return out

    def _scaled(self, rows: slice) -> tuple[Tensor, Tensor, Tensor]:
        """Return (z - max z) / T of both models, and True where a class is present."""
        assert self.teacher is not None
        call = self.call.part(rows)
        s, t = (z[rows].to(call.dtype) for z in (self.student, self.teacher))
        absent, zero = s.isneginf() & t.isneginf(), call.divergence.log_zero
        x_s, x_t = (s - self.max_s[rows]) / call.student_temperature, (t - self.max_t[rows]) / call.teacher_temperature
        return x_s.masked_fill_(absent, zero), x_t.masked_fill_(absent, zero), ~absent

    def _log_probabilities(self, rows: slice) -> tuple[Tensor, Tensor]:
        """Return the log-probabilities of both models, finite where both lack the class."""
        x_s, x_t, present = self._scaled(rows)
        sums, zero = self.sums[:2, rows, None].log(), self.call.divergence.log_zero
        return torch.where(present, x_s - sums[0], zero), torch.where(present, x_t - sums[1], zero)

    def _terms(self, rows: slice) -> tuple[Tensor, Tensor, Tensor]:
        """Return the divergence's terms, their slopes, and the student's log-probabilities."""
        a, b = self._log_probabilities(rows)
        d = b - a
        if self.close is not None:
            exact = self._apart(rows) - self.excess[rows, None].log1p()
            d = torch.where(self.close[rows, None] & (a > self.call.divergence.log_zero), exact, d)
        with torch.enable_grad():
            own = a.requires_grad_() - a.detach()
            d = torch.where(a.isneginf(), d, d - own)  # d has the gradient of b - a
            terms = self.call.divergence.terms_with_digits(a, b, d)
            return terms.detach(), torch.autograd.grad(terms.sum(), a)[0], a.detach()

    def _logit_terms(self, rows: slice) -> tuple[Tensor, Tensor]:
        """Return terms and slopes of a divergence on logits, 0 where both models lack the class."""
        divergence, (d, present) = self.call.divergence, self._difference(rows)
        classes, _, total = self.sums[:3, rows, None]
        if divergence.is_centred:
            d = d - total / classes
        terms, slopes = divergence.terms_and_slopes(d, 1 / classes, 1 / classes, *divergence.parameter_values)
        return torch.where(present, terms, 0.0), torch.where(present, slopes, 0.0)

    def _difference(self, rows: slice) -> tuple[Tensor, Tensor]:
        """Return t - s, 0 where both models lack the class, and True where a class is present."""
        assert self.teacher is not None
        s, t = (z[rows].to(self.call.dtype) for z in (self.student, self.teacher))
        present = ~(s.isneginf() & t.isneginf())
        return torch.where(present, t - s, 0.0), present

    def _summed(self, sums: Callable[[slice], Tensor]) -> Tensor:
        """Return the sums of all rows over all columns."""
        packed = torch.cat([sums(rows) for rows in self._chunks()], -1)
        dist.all_reduce(packed, dist.ReduceOp.SUM, self.group)
        return packed

    def _chunks(self) -> Iterator[slice]:
        """Return the rows in parts that fit the memory for intermediate results."""
        count, columns = self.student.shape
        size = max(1, CHUNK_ELEMENTS // max(1, columns))
        return (slice(start, min(count, start + size)) for start in range(0, max(1, count), size))

    def _check_label_rows(self, labels: Tensor) -> None:
        """Raise if label rows, of which each process holds some columns, are not probabilities; the same on every process."""
        lowest = labels.amin(-1).masked_fill_(labels.isnan().any(-1), -torch.inf)
        found = torch.stack([labels.sum(-1), (lowest < 0).to(labels.dtype)])
        dist.all_reduce(found, dist.ReduceOp.SUM, self.group)
        wrong = ~((found[0] - 1).abs() <= PROBABILITIES_SUM_WITHIN) | (found[1] > 0)
        if self.call.labelled is not None:
            wrong &= self.call.labelled
        if bool(wrong.any()):
            raise ArgumentError(
                "labels",
                f"a row sums to {float(found[0][wrong][0]):.4g} over all processes of the group, or has a negative number. "
                "Labels in a floating dtype are the probabilities of the classes: each process gives its own columns.",
            )

    def _check_labels(self) -> None:
        """Raise if a label is not a class of the whole vocabulary, whose size only the group knows."""
        labels = self.call.labels
        if labels is None or labels.device.type != "cpu":
            return
        if self.call.has_label_rows:
            self._check_label_rows(labels)
        elif bool((labels >= self.classes).any()):
            raise ArgumentError(
                "labels",
                f"{int(labels.max())} is out of range for {self.classes} classes on all processes of the group "
                f"(expected 0 to {self.classes - 1}: labels count over the whole vocabulary).",
            )

"""The public functions: check what is given, compute one value per position, reduce."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, overload

import torch
from torch import Tensor

from limbeck.kernels import rows as kernel
from limbeck.losses import checks, reference
from limbeck.losses.divergences import Divergence, LogitMSE, resolve_divergence

Temperature = float | Tensor | tuple[float | Tensor, float | Tensor]
Reduction = Literal["mean", "sum", "none"]
Compensate = bool | Literal["curvature"]

BACKENDS = ("auto", "reference", "rows")


class LossParts(NamedTuple):
    """The total loss and its two terms before alpha mixes them: total = alpha * soft + (1 - alpha) * hard."""

    total: Tensor
    soft: Tensor | None
    """C(T) * D; None without a teacher."""
    hard: Tensor | None
    """CE at T = 1; None without labels."""


# fmt: off
@overload
def distillation_loss(
    student_logits: Tensor, teacher_logits: Tensor | None, labels: Tensor | None = ..., *, temperature: Temperature = ...,
    alpha: float = ..., divergence: str | Divergence = ..., beta: float = ..., skew: float = ...,
    compensate: Compensate = ..., label_smoothing: float = ..., ignore_index: int = ..., mask: Tensor | None = ...,
    weight: Tensor | None = ..., reduction: Reduction = ..., num_items: Tensor | float | None = ...,
    inplace: bool = ..., backend: str = ..., return_parts: Literal[False] = ...,
) -> Tensor: ...
@overload
def distillation_loss(
    student_logits: Tensor, teacher_logits: Tensor | None, labels: Tensor | None = ..., *, temperature: Temperature = ...,
    alpha: float = ..., divergence: str | Divergence = ..., beta: float = ..., skew: float = ...,
    compensate: Compensate = ..., label_smoothing: float = ..., ignore_index: int = ..., mask: Tensor | None = ...,
    weight: Tensor | None = ..., reduction: Reduction = ..., num_items: Tensor | float | None = ...,
    inplace: bool = ..., backend: str = ..., return_parts: Literal[True],
) -> LossParts: ...
# fmt: on
def distillation_loss(
    student_logits: Tensor,
    teacher_logits: Tensor | None,
    labels: Tensor | None = None,
    *,
    temperature: Temperature = 4.0,
    alpha: float = 0.5,
    divergence: str | Divergence = "forward_kl",
    beta: float = 0.5,
    skew: float = 0.1,
    compensate: Compensate = True,
    label_smoothing: float = 0.0,
    ignore_index: int = -100,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: Reduction = "mean",
    num_items: Tensor | float | None = None,
    inplace: bool = False,
    backend: str = "auto",
    return_parts: bool = False,
) -> Tensor | LossParts:
    r"""The distillation loss: soft targets at temperature T and hard labels at T = 1.

        loss = alpha * C(T) * D( softmax(z_t / T), softmax(z_s / T) ) + (1 - alpha) * CE(z_s, y)

    C(T) keeps the size of the soft gradient independent of T: T² for every KL, JSD and skew KL, T for total variation,
    1 for logit MSE. ``limbeck.losses.reference`` derives it.

    Args:
        student_logits: (..., V), any floating dtype. The only argument that receives gradient, besides a temperature
            that asks for it.
        teacher_logits: (..., V), any floating dtype. Never receives gradient. None only with ``alpha=0``, which has no soft
            term: a student trained alone.
        labels: (...,) integers, the true classes. Needed unless ``alpha`` is 1.
        temperature: T > 0: a number, a tensor (...,) with one T per position, or a pair (T_teacher, T_student). With a
            pair, C is taken at T_student, so that the curvature of the student's loss stays independent of T.
        alpha: the weight of the soft term, in [0, 1].
        divergence: "forward_kl", "reverse_kl", "jsd" (with ``beta``), "skew_kl", "skew_reverse_kl" (with ``skew``),
            "tvd", "logit_mse", or a ``limbeck.losses.divergences.Divergence``.
        beta: the teacher's share in the mixture of "jsd"; 0 is forward KL, 1 is reverse KL.
        skew: the share that the first distribution has in the mixture of the skew divergences, in [0, 1).
        compensate: True multiplies by C(T), False leaves it out, "curvature" divides it further by the divergence's
            second-order coefficient, so that all smooth divergences pull alike at high T and choosing one is not a
            hidden change of the learning rate.
        label_smoothing: eps in [0, 1], spread over the classes in the hard term.
        ignore_index: the label of a position without one.
        mask: bool (...,), True where a position counts; by default where ``labels != ignore_index``. A position inside
            the mask whose label is ``ignore_index`` (an unlabelled example) counts in the soft term alone.
        weight: (V,) class weights of the hard term. They do not enter the mean's denominator.
        reduction: "mean" over the counted positions, one denominator for both terms; "sum"; or "none": (...,), 0 where
            a position does not count.
        num_items: replaces the mean's denominator: the number of counted positions of the whole accumulated batch, on
            all devices, so that the gradients of its parts add up to its own.
        inplace: permits a backend to consume ``student_logits``: they hold their gradient afterwards, and no memory is
            taken for it. Who saved them for another gradient, or asks for a second backward pass, gets an error. The
            reference backend leaves them as they are.
        backend: "auto", "reference" (plain torch on whole tensors), or "rows" (the CPU kernel, rows in chunks).
        return_parts: return ``LossParts`` (total, soft, hard) in place of the total.

    Returns:
        A scalar, or (...,) with ``reduction="none"``, in float32; in float64 when both logits are float64. When no
        position counts: 0, attached to the graph, with gradient 0.

    Raises:
        TypeError, ValueError: an argument of a wrong type, shape or range; the message names it and the remedy.

    References:
        Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015 (arXiv 1503.02531).

    Example:
        >>> import torch
        >>> from limbeck import distillation_loss
        >>> student = torch.tensor([[1.0, 2.0, 0.5]], requires_grad=True)
        >>> teacher = torch.tensor([[0.5, 3.0, -1.0]])
        >>> loss = distillation_loss(student, teacher, torch.tensor([1]), temperature=2.0, alpha=0.5)
        >>> loss.backward()
        >>> print(f"{loss.item():.4f}", [round(g, 4) for g in student.grad[0].tolist()])
        0.4517 [0.2059, -0.408, 0.2022]
    """
    checks.check_share("alpha", alpha)
    checks.check_logits(student_logits, teacher_logits, alpha)
    checks.check_share("label_smoothing", label_smoothing)
    checks.check_choice("compensate", compensate, (True, False, "curvature"))
    checks.check_choice("reduction", reduction, ("mean", "sum", "none"))
    checks.check_choice("backend", backend, BACKENDS)
    all_labelled = checks.check_labels(labels, student_logits, ignore_index, alpha)
    checks.check_mask(mask, student_logits)
    checks.check_weight(weight, student_logits)
    checks.check_num_items(num_items, reduction)
    teacher_temperature, student_temperature = checks.split_temperature(temperature, student_logits)
    measure = resolve_divergence(divergence, beta=beta, skew=skew)

    rows = _Rows.of(
        student_logits, teacher_logits, labels, mask, ignore_index, all_labelled, alpha, return_parts,
        measure, teacher_temperature, student_temperature, compensate, label_smoothing, weight,
    )  # fmt: skip
    weights = _weights(rows, reduction, num_items)
    if _takes_rows(backend, rows):
        plan = _plan(rows, weights, alpha, inplace, summed=reduction != "none")
        total, soft, hard = kernel.rows_loss(rows.student, rows.teacher, plan)
        if not return_parts:
            return total if plan.summed else total.reshape(student_logits.shape[:-1])
    else:
        soft, hard = rows.values(rows.student, rows.teacher)
        # A term that alpha rules out is left out, not multiplied by 0: it may be infinite.
        terms = [share * x for share, x in ((alpha, soft), (1 - alpha, hard)) if x is not None and share > 0]
        total = _weighted(sum(terms[1:], terms[0]), weights)

    def reduced(values: Tensor) -> Tensor:
        return values.reshape(student_logits.shape[:-1]) if reduction == "none" else values.sum()

    if not return_parts:
        return reduced(total)
    soft = None if rows.teacher is None or soft is None else reduced(_weighted(soft, weights))
    hard = None if rows.labels is None or hard is None else reduced(_weighted(hard, weights))
    return LossParts(reduced(total), soft, hard)


def logit_mse_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    center: bool = True,
    mask: Tensor | None = None,
    reduction: Reduction = "mean",
    num_items: Tensor | float | None = None,
) -> Tensor:
    r"""Logit matching: half the mean over classes of the squared difference of row-centred logits.

        loss = 1 / (2 V) * || (z_s - mean z_s) - (z_t - mean z_t) ||²

    It is what T² KL tends to when T grows. It has no temperature.

    Args:
        student_logits: (..., V), any floating dtype.
        teacher_logits: (..., V), any floating dtype. Never receives gradient.
        center: take each row's mean away first, which softmax never sees. False compares the logits as they are.
        mask: bool (...,), True where a position counts; by default everywhere.
        reduction: "mean" over the counted positions, "sum" or "none".
        num_items: replaces the mean's denominator; see ``distillation_loss``.

    Returns:
        A scalar, or (...,) with ``reduction="none"``.

    Raises:
        TypeError, ValueError: an argument of a wrong type, shape or range; the message names it and the remedy.

    References:
        Ba and Caruana, "Do Deep Nets Really Need to be Deep?", 2014. Hinton et al., 2015, section 2.1.

    Example:
        >>> import torch
        >>> from limbeck import logit_mse_loss
        >>> logit_mse_loss(torch.tensor([[1.0, 3.0]]), torch.tensor([[7.0, 5.0]]))
        tensor(2.)
    """
    return distillation_loss(
        student_logits,
        teacher_logits,
        alpha=1.0,
        divergence=LogitMSE(center=center),
        mask=mask,
        reduction=reduction,
        num_items=num_items,
    )


@dataclass(frozen=True)
class _Rows:
    """One call, with positions flattened to rows and everything in the dtype of the arithmetic but the logits."""

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

    @classmethod
    def of(
        cls,
        student: Tensor,
        teacher: Tensor | None,
        labels: Tensor | None,
        mask: Tensor | None,
        ignore_index: int,
        all_labelled: bool,
        alpha: float,
        both: bool,
        measure: Divergence,
        teacher_temperature: Tensor | float,
        student_temperature: Tensor | float,
        compensate: Compensate,
        label_smoothing: float,
        weight: Tensor | None,
    ) -> _Rows:
        dtypes = {student.dtype} if teacher is None else {student.dtype, teacher.dtype}
        dtype = torch.float64 if dtypes == {torch.float64} else torch.float32
        labelled = None
        if labels is not None and not all_labelled:
            labelled = (labels != ignore_index).reshape(-1)
        counted = labelled if mask is None else mask.reshape(-1)
        t_t, t_s = (
            t.to(student.device, dtype).reshape(-1, 1) if isinstance(t, Tensor) else t
            for t in (teacher_temperature, student_temperature)
        )
        wanted_soft, wanted_hard = alpha > 0 or both, alpha < 1 or both
        return cls(
            student=student.reshape(-1, student.shape[-1]),
            teacher=teacher.detach().reshape(-1, student.shape[-1]) if teacher is not None and wanted_soft else None,
            labels=None if labels is None or not wanted_hard else _filled(labels, labelled),
            labelled=labelled,
            counted=counted,
            measure=measure,
            teacher_temperature=t_t,
            student_temperature=t_s,
            compensation=reference.compensation(measure, t_s, compensate),
            label_smoothing=label_smoothing,
            weight=None if weight is None else weight.to(dtype),
            dtype=dtype,
        )

    def values(
        self, student: Tensor, teacher: Tensor | None, part: slice = slice(None)
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
            soft = soft * (factor.squeeze(-1) if isinstance(factor, Tensor) else factor)
        if self.labels is not None:
            hard = reference.hard_rows(student, self.labels[part], self.weight, self.label_smoothing)
            hard = hard if self.labelled is None else torch.where(self.labelled[part], hard, 0.0)
        return soft, hard


def _filled(labels: Tensor, labelled: Tensor | None) -> Tensor:
    """(N,) class indices, 0 where there is no label, so that all can be looked up."""
    labels = labels.long().reshape(-1)
    return labels if labelled is None else labels.masked_fill(~labelled, 0)


def _weights(rows: _Rows, reduction: str, num_items: Tensor | float | None) -> Tensor | float:
    """1 over the mean's denominator, for all rows or (N,) with 0 where a position does not count."""
    weights: Tensor | float = 1.0 if rows.counted is None else rows.counted.to(rows.dtype)
    if reduction != "mean":
        return weights
    if num_items is None:
        num_items = len(rows.student) if rows.counted is None else rows.counted.sum()
    if isinstance(num_items, Tensor):
        num_items = num_items.to(rows.student.device).reshape(())
        divided = weights / torch.where(num_items == 0, 1, num_items)
        return divided if rows.counted is not None else divided.to(rows.dtype).expand(len(rows.student))
    return weights / (num_items or 1)


def _weighted(values: Tensor, weights: Tensor | float) -> Tensor:
    if not isinstance(weights, Tensor):
        return values * weights
    return torch.where(weights > 0, values * weights, 0.0)


def _takes_rows(backend: str, rows: _Rows) -> bool:
    """Whether the CPU kernel computes this call."""
    obstacle = None
    if rows.student.device.type != "cpu":
        obstacle = f"it is for the CPU, and the logits are on {rows.student.device}"
    elif any(isinstance(t, Tensor) and t.requires_grad for t in (rows.teacher_temperature, rows.student_temperature)):
        obstacle = "the temperature asks for gradient, which only the reference gives"
    elif torch.compiler.is_compiling():
        obstacle = "torch.compile has its own way to fuse"
    if backend == "rows" and obstacle is not None:
        raise ValueError(f"backend: 'rows' cannot compute this call: {obstacle}. Use 'auto'.")
    return backend in ("rows", "auto") and obstacle is None


def _plan(rows: _Rows, weights: Tensor | float, alpha: float, inplace: bool, *, summed: bool) -> kernel.RowsPlan:
    count = len(rows.student)
    t_t, t_s, factor = (
        x.expand(count, 1) if isinstance(x, Tensor) else x
        for x in (rows.teacher_temperature, rows.student_temperature, rows.compensation)
    )
    return kernel.RowsPlan(
        labels=rows.labels,
        labelled=rows.labelled,
        weights=weights,
        dtype=rows.dtype,
        alpha=alpha,
        teacher_temperature=t_t,
        student_temperature=t_s,
        compensation=factor,
        label_smoothing=rows.label_smoothing,
        closed_form=rows.measure.is_forward_kl and rows.weight is None,
        exact=rows.values,
        inplace=inplace,
        summed=summed,
    )

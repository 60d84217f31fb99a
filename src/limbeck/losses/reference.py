r"""The whole mathematics of distillation on one page, in plain torch.

A student learns from two sources. The *soft targets* are the teacher's probabilities, softened by a temperature T > 1
so that the small ones count too: they say which wrong classes are close to the right one. The *hard labels* are the true
classes.

    loss = alpha * C(T) * D( softmax(z_t / T), softmax(z_s / T) ) + (1 - alpha) * CE(z_s, y)

with z_s and z_t the logits of the student and of the teacher, D a divergence (forward KL by default) and CE
the cross-entropy, always at T = 1.

**Why C(T) = T².** For forward KL the gradient with respect to the student's logits is

    dKL/dz_s = (p_s - p_t) / T

The 1/T is the chain rule. The difference p_s - p_t shrinks too: for T large against the logits, and logits of zero
mean, softmax(z/T) = 1/V + z/(V T) + O(1/T²), so

    dKL/dz_s  ->  (z_s - z_t) / (V T²)          T² KL  ->  ||z_s - z_t||² / (2 V)

Multiplied by T², the soft gradient keeps its size when T changes, and alpha keeps its meaning. "1/T²" is exact only in
this limit, where the loss is half the mean squared difference of the logits; at a finite T the gradient is the first
formula. A divergence whose gradient falls at another rate has its own C(T).

**Close distributions.** Sum p_t (b - a), with a = log p_s and b = log p_t, is a small difference of large terms: where the
models agree, float32 leaves it no digits. Both distributions have the sum 1, so any multiple of sum (p_s - p_t) may be added,
and KL(p ‖ q) is a sum of terms that are never negative,

    p log(p/q) + q - p  =  p (e^r - 1 - r),  r = log(q/p)

whose power series p (r²/2 + r³/6 + ...) keeps all digits. The other divergences are made of such terms, for mixtures in the
place of q. The log-ratio d = b - a comes from the difference of the logits, which is exact where they are close:

    d = (z_t - z_s)/T - log( sum p_s e^((z_t - z_s)/T) )

**At inference T is gone**: the prediction is softmax(z_s) or argmax(z_s). T changes what the student learns, and nothing else.

The functions below return one value per row, for logits (..., V). Everything in Limbeck that is faster is tested against
them in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from limbeck.losses.arguments import Compensate
from limbeck.losses.arithmetic import log_ratio
from limbeck.losses.divergences import Divergence


def soft_rows(
    student_logits: Tensor,
    teacher_logits: Tensor,
    divergence: Divergence,
    teacher_temperature: Tensor | float,
    student_temperature: Tensor | float,
) -> Tensor:
    """Return D( softmax(z_t / T_t), softmax(z_s / T_s) ) of each row.

    A class whose logit over T is -inf in both models is absent: it has no term and no gradient.

    Args:
        student_logits: z_s, (..., V).
        teacher_logits: z_t, (..., V).
        divergence: D.
        teacher_temperature: T_t, a number or (..., 1).
        student_temperature: T_s, a number or (..., 1).

    Returns:
        (...,), before C(T).
    """
    if divergence.on_logits:
        a, b = student_logits, teacher_logits
        absent = a.isneginf() & b.isneginf()
    else:
        a, b = _softened(student_logits, student_temperature), _softened(teacher_logits, teacher_temperature)
        absent = a.isneginf() & b.isneginf()
        a, b = log_softmax(a, -1), log_softmax(b, -1)
    a, b = a.masked_fill(absent, divergence.log_zero), b.masked_fill(absent, divergence.log_zero)
    if divergence.on_logits:
        return divergence.value(a, b, ~absent)
    d = b - a
    with torch.no_grad():  # d has the gradient of b - a, and digits that b - a has lost
        exact = log_ratio(student_logits, teacher_logits, student_temperature, teacher_temperature, a.exp(), d)
        lost = torch.where(d.isfinite(), exact - d, 0.0)
    return divergence.value_with_digits(a, b, d + lost, ~absent)


def _softened(logits: Tensor, temperature: Tensor | float) -> Tensor:
    """Return z / T, where an infinite z gives T no gradient: dz/dT = -z / T² would make it NaN by 0 * inf."""
    softened = logits / temperature
    if not (isinstance(temperature, Tensor) and temperature.requires_grad):
        return softened
    lacking = softened.isneginf()  # padding by the lowest finite number may become infinite at T < 1
    return (logits.masked_fill(lacking, 0.0) / temperature).masked_fill(lacking, -torch.inf)


def sparse_soft_rows(
    student_logits: Tensor,
    ids: Tensor,
    known: Sequence[Tensor],
    distance: Callable[..., Tensor],
    student_temperature: Tensor | float,
) -> Tensor:
    """Return D of each row against a teacher that is known by some classes.

    Args:
        student_logits: z_s, (N, V).
        ids: the classes that are known of the teacher, (N, K), -1 where a row has fewer.
        known: what is known of them.
        distance: (a, *known) -> D of each row, where a has K + 1 log-probabilities of the student: those of the K classes, and
            that of all others together.
        student_temperature: T_s, a number or (N, 1).

    Returns:
        (N,), before C(T).
    """
    a = log_softmax(_softened(student_logits, student_temperature), -1)
    classes = a.shape[-1]
    is_listed = torch.zeros(len(a), classes + 1, dtype=torch.bool, device=a.device)
    is_listed = is_listed.scatter(-1, ids.masked_fill(ids < 0, classes), True)[:, :classes]
    others = a.masked_fill(is_listed, -torch.inf)
    none = others.isneginf().all(-1, keepdim=True)  # here the gradient of logsumexp would be NaN
    rest = torch.logsumexp(others.masked_fill(none, 0.0), -1, keepdim=True).masked_fill(none, -torch.inf)
    listed = a.gather(-1, ids.clamp(min=0)).masked_fill(ids < 0, -torch.inf)
    return distance(torch.cat([listed, rest], -1), *known)


def hard_rows(student_logits: Tensor, labels: Tensor, weight: Tensor | None, label_smoothing: float) -> Tensor:
    """Return CE(z_s, y) at T = 1 of each row, with class weights w and label smoothing eps.

        (1 - eps) sum_c y_c w_c (-log p_c) + eps / V * sum_c w_c (-log p_c)

    as torch does; a label that is an integer is the row with y_c = 1 at this class. Absent classes (-inf) get no part of eps.

    Args:
        student_logits: z_s, (..., V).
        labels: y, (...,) integers in [0, V), or rows (..., V) of probabilities, which may ask for gradient.
        weight: w, (V,); None for 1.
        label_smoothing: eps, in [0, 1].

    Returns:
        (...,).
    """
    nll = -log_softmax(student_logits, -1)
    weighted = nll if weight is None else nll * weight
    if labels.is_floating_point():
        loss = (labels * weighted.masked_fill((labels == 0) & nll.isposinf(), 0.0)).sum(-1)
    else:
        loss = weighted.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    if label_smoothing:
        present = ~student_logits.isneginf()
        uniform = torch.where(present, weighted, 0.0).sum(-1) / present.sum(-1)
        loss = (1 - label_smoothing) * loss + label_smoothing * uniform
    return loss


def compensation(divergence: Divergence, student_temperature: Tensor | float, compensate: Compensate) -> Tensor | float:
    """Return C(T): T² for the smooth divergences, T for total variation, 1 for logits.

    Args:
        divergence: D.
        student_temperature: T_s, a number or (..., 1).
        compensate: False returns 1, "curvature" also divides by f''(1).

    Returns:
        A number, or a tensor in the shape of the temperature.
    """
    if compensate is False:
        return 1.0
    factor = divergence.compensation(student_temperature)
    return factor / divergence.curvature if compensate == "curvature" else factor

"""Cross-entropy at T = 1 of a row, from a few sums that may also be sums over shards of the vocabulary.

    CE = (1 - eps) w_y (log_sum - z_y) + eps / n * sum over present classes of w_c (log_sum - z_c)

with class weights w (1 by default), label smoothing eps, and n the number of present classes, whose logit is not -inf.
"""

from __future__ import annotations

import torch
from torch import Tensor

from limbeck.kernels.call import Plan


def hard_sums(z: Tensor, plan: Plan, offset: int = 0) -> Tensor:
    """(5, n): w_y z_y, w_y, and over the present classes: n, sum w, sum w z; of the classes from ``offset`` on."""
    assert plan.labels is not None
    labels, owned = _labels(z, plan, offset)
    picked = z.gather(-1, labels).squeeze(-1)
    weight_y = torch.ones_like(picked) if plan.weight is None else plan.weight[labels.squeeze(-1)]
    sums = [torch.where(owned, weight_y * picked, 0.0), torch.where(owned, weight_y, 0.0)]
    if plan.label_smoothing:
        present = ~z.isneginf()
        weight = present.to(z.dtype) if plan.weight is None else present * plan.weight
        sums += [present.sum(-1), weight.sum(-1), (weight * z.masked_fill(~present, 0.0)).sum(-1)]
    else:
        sums += [torch.zeros_like(picked)] * 3
    return torch.stack([x.to(z.dtype) for x in sums])


def hard_value(sums: Tensor, log_sum: Tensor, plan: Plan) -> Tensor:
    """CE of each row, (n,), from its sums and the log of the sum of exponentials; 0 where a row has no label."""
    weighted_logit, weight, present, weights, weighted_logits = sums
    eps = plan.label_smoothing
    value = (1 - eps) * (weight * log_sum - weighted_logit)
    if eps:
        value = value + eps / present * (weights * log_sum - weighted_logits)
    return value if plan.labelled is None else torch.where(plan.labelled, value, 0.0)


def add_hard_gradient(
    out: Tensor, e: Tensor, total: Tensor, z: Tensor, sums: Tensor, plan: Plan, share: Tensor | float, offset: int = 0
) -> None:
    """Add the share of dCE/dz to ``out``, softmax(z) being e / total; ``share`` is one number or (n, 1)."""
    _, weight, present, weights, _ = (x.unsqueeze(-1) for x in sums)
    eps = plan.label_smoothing
    if plan.labelled is not None:
        share = share * plan.labelled.unsqueeze(-1).to(out.dtype)
    labels, owned = _labels(z, plan, offset)
    mass = (1 - eps) * weight + (eps / present * weights if eps else 0.0)
    out.addcmul_(e, mass * share / total)
    if eps:
        even = (~z.isneginf()).to(out.dtype) if plan.weight is None else ~z.isneginf() * plan.weight
        out.sub_(even.mul_(eps / present * share))
    pulled = torch.where(owned.unsqueeze(-1), -(1 - eps) * weight * share, 0.0)
    out.scatter_add_(-1, labels, pulled.expand(labels.shape).to(out.dtype))


def _labels(z: Tensor, plan: Plan, offset: int) -> tuple[Tensor, Tensor]:
    """Labels as columns of ``z``, (n, 1), and where they are among them, (n,)."""
    assert plan.labels is not None
    labels = plan.labels - offset
    owned = (labels >= 0) & (labels < z.shape[-1])
    return labels.clamp(0, z.shape[-1] - 1).unsqueeze(-1), owned

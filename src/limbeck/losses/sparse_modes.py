"""What is done about the classes that sparse targets do not list: one way for each mode."""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch
from torch import Tensor

from limbeck.errors import ArgumentError
from limbeck.kernels.sparse import SparseRows
from limbeck.losses.divergences import Divergence, ForwardKL, ReverseKL
from limbeck.losses.labels import as_int64
from limbeck.losses.sparse_targets import SparseTargets

Mode = Literal["tail", "zero", "renormalise", "sample"]
MODES = ("tail", "zero", "renormalise", "sample")


def check_mode(mode: Mode, divergence: Divergence, targets: SparseTargets) -> None:
    """Require targets and a divergence that suit the mode.

    Args:
        mode: what is done about the classes that are not listed.
        divergence: of the soft term.
        targets: what is known of the teacher.

    Raises:
        ArgumentError: they do not suit it.
    """
    if divergence.on_logits:
        raise ArgumentError(
            "divergence", f"{divergence.name!r} compares dense logits, which sparse targets do not have."
        )
    if mode == "sample":
        if targets.counts is None:
            raise ArgumentError(
                "mode",
                "'sample' needs targets with counts, made by SparseTargets.sample. A top-k list is not a sample.",
            )
        if not divergence.is_computed_as(ForwardKL):
            raise ArgumentError(
                "divergence",
                "only forward KL can be estimated from draws without bias; use it, or mode='tail' on a top-k list.",
            )
        return
    if targets.counts is not None:
        raise ArgumentError(
            "mode", f"these targets are draws, and {mode!r} needs a list of distinct classes. Use mode='sample'."
        )
    if targets.log_probs is None:
        raise ArgumentError("targets.log_probs", "needed for everything but draws.")
    if mode == "zero" and divergence.is_computed_as(ReverseKL):
        raise ArgumentError(
            "divergence", "reverse KL is infinite where the teacher gives nothing. Use mode='tail' or 'renormalise'."
        )


def sparse_rows(targets: SparseTargets, mode: Mode, divergence: Divergence, t: float, student: Tensor) -> SparseRows:
    """Return the targets at T as rows, in float64, with the divergence that the mode computes.

    Args:
        targets: what is known of the teacher, (..., K).
        mode: what is done about the classes that are not listed.
        divergence: of the soft term.
        t: the teacher's temperature.
        student: logits, (N, V) or (B, L, V), for their shape and device.

    Returns:
        (N, ...) each.

    Raises:
        ArgumentError: the targets do not know their log-normaliser at T.
    """

    def flat(x: Tensor) -> Tensor:
        return x.detach().to(student.device).reshape(student.shape[:-1].numel(), x.shape[-1])

    ids = as_int64(flat(targets.ids))
    if mode == "sample":
        assert targets.counts is not None
        weights = flat(targets.counts).double().masked_fill(ids < 0, 0.0)
        weights = weights / weights.sum(-1, keepdim=True).clamp(min=1)
        b = torch.zeros_like(weights)
        if targets.log_probs is not None:
            b = flat(targets.at(t).double())
        if t != targets.drawn_at:
            weights = weights * (b - flat(targets.at(targets.drawn_at).double())).exp()
        known, distance = (weights, b), _estimate_from_draws
    elif mode == "renormalise":
        log_probs = targets.log_probs
        assert log_probs is not None
        b = flat(log_probs).double().masked_fill(ids < 0, -torch.inf)
        known, distance = (b / t,), partial(_renormalised, divergence)
    else:
        b = flat(targets.at(t).double()).masked_fill(ids < 0, -torch.inf)
        rest = torch.full_like(b[:, :1], -torch.inf) if mode == "zero" else flat(targets.log_rest_at(t).unsqueeze(-1))
        every_class = (ids >= 0).sum(-1, keepdim=True) == student.shape[-1]
        rest = rest.masked_fill(every_class, -torch.inf)  # the difference was only rounding
        known, distance = (torch.cat([b, rest], -1),), partial(_with_rest, divergence)
    return SparseRows(ids, tuple(x.double() for x in known), distance, repeated=mode == "sample")


def _with_rest(divergence: Divergence, a: Tensor, b: Tensor) -> Tensor:
    """Return D over the listed classes and the rest as one more class."""
    absent = a.isneginf() & b.isneginf()
    a, b = (x.masked_fill(absent, divergence.log_zero) for x in (a, b))
    return divergence.value(a, b, ~absent)


def _renormalised(divergence: Divergence, a: Tensor, b: Tensor) -> Tensor:
    """Return D over the listed classes as if there were no others; 0 where none is listed."""
    absent, zero = b.isneginf(), divergence.log_zero
    a, b = (torch.log_softmax(x.masked_fill(absent, zero), -1).masked_fill(absent, zero) for x in (a[:, :-1], b))
    return divergence.value(a, b, ~absent)


def _estimate_from_draws(a: Tensor, weights: Tensor, b: Tensor) -> Tensor:
    """Return sum w (b - a): an unbiased estimate of forward KL, or of the cross-entropy where b is not known."""
    return (weights * (b - a[:, :-1])).masked_fill(weights == 0, 0.0).sum(-1)

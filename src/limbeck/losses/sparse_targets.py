"""What is kept of a teacher that is known by a few classes of each position."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class SparseTargets:
    r"""What is kept of a teacher: K classes of each position, with their log-probabilities at T = 1.

    At another temperature

        log p_T(i) = log p(i) / T - A_T        A_T = log sum over all classes of p(j)^(1/T)

    and A_T cannot be had from K classes: ``log_normalizers`` carries it for every T that may be wanted later.

    Args:
        ids: (..., K) integers; -1 where a position has fewer.
        log_probs: (..., K), log p(i) at T = 1. None only for draws, whose soft loss is then the cross-entropy
            -sum p_t log p_s: the divergence and a constant, with the same gradient.
        log_normalizers: A_T, (...,), by T. A_1 is 0 and need not be there.
        counts: (..., K), how often each id was drawn, for draws with replacement from the teacher's distribution; None for
            its most likely classes.
        drawn_at: the temperature that the draws were made at.

    Example:
        >>> import torch
        >>> from limbeck import SparseTargets
        >>> targets = SparseTargets.top_k(torch.tensor([[2.0, 1.0, 0.0, -1.0]]), k=2, temperatures=[2.0])
        >>> targets.ids, targets.log_probs.exp().round(decimals=3)
        (tensor([[0, 1]]), tensor([[0.6440, 0.2370]]))
        >>> targets.at(2.0).exp().round(decimals=3)  # what softmax(logits / 2) gives these two
        tensor([[0.4550, 0.2760]])
    """

    ids: Tensor
    log_probs: Tensor | None
    log_normalizers: Mapping[float, Tensor] = field(default_factory=dict)
    counts: Tensor | None = None
    drawn_at: float = 1.0

    @staticmethod
    def top_k(teacher_logits: Tensor, k: int, temperatures: Sequence[float] = ()) -> SparseTargets:
        """The k most likely classes, (..., V) -> (..., k), with what is needed to use them at the given temperatures."""
        log_probs = torch.log_softmax(_float(teacher_logits), -1)
        values, ids = log_probs.topk(min(k, log_probs.shape[-1]), -1)
        return SparseTargets(ids, values, _normalizers(log_probs, temperatures))

    @staticmethod
    def sample(
        teacher_logits: Tensor,
        draws: int,
        *,
        temperature: float = 1.0,
        temperatures: Sequence[float] = (),
        generator: torch.Generator | None = None,
    ) -> SparseTargets:
        """Draws with replacement from softmax(teacher_logits / temperature), one entry for each: (..., V) -> (..., draws).

        References:
            Anshumann et al., "Sparse Logit Sampling: Accelerating Knowledge Distillation in LLMs", 2025.
        """
        log_probs = torch.log_softmax(_float(teacher_logits), -1)
        p = torch.softmax(log_probs / temperature, -1).flatten(0, -2)
        ids = torch.multinomial(p, draws, replacement=True, generator=generator)
        ids = ids.reshape(*log_probs.shape[:-1], draws)
        normalizers = _normalizers(log_probs, {*temperatures, temperature})
        return SparseTargets(ids, log_probs.gather(-1, ids), normalizers, torch.ones_like(ids), float(temperature))

    def apply(self, function: Callable[[Tensor], Tensor]) -> SparseTargets:
        """The targets with a function applied to each of their tensors, such as ``lambda x: x[:, :-1]``."""
        log_probs, counts = (None if x is None else function(x) for x in (self.log_probs, self.counts))
        normalizers = {t: function(normalizer) for t, normalizer in self.log_normalizers.items()}
        return SparseTargets(function(self.ids), log_probs, normalizers, counts, self.drawn_at)

    def at(self, temperature: float) -> Tensor:
        """log p_T of the listed classes, (..., K).

        Raises:
            ValueError: A_T is not there.
        """
        if self.log_probs is None:
            raise ValueError(
                "targets: these draws have no log_probs, so they can only be used at the temperature they were drawn at."
            )
        if temperature == 1:
            return self.log_probs
        for t, normalizer in self.log_normalizers.items():
            if math.isclose(t, temperature, rel_tol=1e-9):
                return self.log_probs / temperature - normalizer.unsqueeze(-1)
        known = ", ".join(f"{t:g}" for t in sorted({1.0, *self.log_normalizers}))
        raise ValueError(
            f"temperature: the teacher's log-normaliser at T = {temperature:g} is not among the targets (there are: {known}). "
            "It is a sum over all classes that the listed ones do not tell. Make the targets with "
            f"temperatures=[{temperature:g}], use a temperature that is there, or mode='renormalise', which needs none."
        )


def check_targets(targets: Any, student_logits: Tensor) -> None:
    if not isinstance(targets, SparseTargets):
        raise TypeError(
            f"targets: expected limbeck.SparseTargets, got {type(targets).__name__}. Try SparseTargets.top_k(logits, k)."
        )
    ids, positions = targets.ids, student_logits.shape[:-1]
    if not isinstance(ids, Tensor) or ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
        raise TypeError(f"targets.ids: expected integers, got {getattr(ids, 'dtype', type(ids).__name__)}.")
    if ids.shape[:-1] != positions or ids.dim() == 0 or ids.shape[-1] == 0:
        raise ValueError(f"targets.ids: expected shape {(*positions, 'K')}, K >= 1, got {tuple(ids.shape)}.")
    for name, value in (("log_probs", targets.log_probs), ("counts", targets.counts)):
        if value is not None and value.shape != ids.shape:
            raise ValueError(
                f"targets.{name}: expected the shape of ids, {tuple(ids.shape)}, got {tuple(value.shape)}."
            )
    for t, normalizer in targets.log_normalizers.items():
        if normalizer.shape != positions:
            raise ValueError(
                f"targets.log_normalizers[{t:g}]: expected one number per position, {tuple(positions)}, "
                f"got {tuple(normalizer.shape)}."
            )
    if ids.device.type == "cpu" and ids.numel():
        low, high = (int(x) for x in ids.aminmax())
        if low < -1 or high >= student_logits.shape[-1]:
            wrong = low if low < -1 else high
            raise ValueError(
                f"targets.ids: {wrong} is out of range for {student_logits.shape[-1]} classes (expected 0 to "
                f"{student_logits.shape[-1] - 1}, or -1 where there is none)."
            )
        ordered = ids.sort(-1).values
        if targets.counts is None and bool(((ordered[..., 1:] == ordered[..., :-1]) & (ordered[..., 1:] >= 0)).any()):
            raise ValueError(
                "targets.ids: a class is listed twice at one position. Draws need counts; a top-k list has each class once."
            )


def _float(logits: Tensor) -> Tensor:
    return logits.detach() if logits.dtype == torch.float64 else logits.detach().float()


def _normalizers(log_probs: Tensor, temperatures: Any) -> dict[float, Tensor]:
    return {float(t): torch.logsumexp(log_probs / t, -1) for t in temperatures if t != 1}

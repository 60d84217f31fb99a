"""A teacher that is known by a few classes of each position."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from limbeck.errors import ArgumentError, ArgumentTypeError
from limbeck.losses.checks import is_cheap_to_read
from limbeck.losses.labels import as_int64, is_integers


@dataclass(frozen=True)
class SparseTargets:
    r"""Soft targets of K classes of each position, with their log-probabilities at T = 1.

    At another temperature

        log p_T(i) = log p(i) / T - A_T        A_T = log sum over all classes of p(j)^(1/T)

    and A_T cannot be computed from K classes: ``log_normalizers`` carries it for every T that may be used later. The
    probability of all other classes together is 1 minus the sum of these; where that is next to nothing, the subtraction
    loses it to rounding, so ``log_rests`` carries its logarithm.

    A log-probability that is stored has the rounding of its dtype, about 1e-7 in float32. A student that agrees with the
    teacher up to such a difference has a loss made of this rounding: it is wrong by some 15 % for logits 1e-6 apart, by 0.1 %
    for logits 1e-5 apart.

    Args:
        ids: (..., K) integers; -1 where a position has fewer.
        log_probs: (..., K), log p(i) at T = 1. None only for draws, whose soft loss is then the cross-entropy
            -sum p_t log p_s: the divergence and a constant, with the same gradient.
        log_normalizers: A_T, (...,), by T. A_1 is 0 and may be missing.
        counts: (..., K), how often each id was drawn, for draws with replacement from the teacher's distribution. None where
            the ids are its most likely classes.
        drawn_at: the temperature that the draws were made at.
        log_rests: the logarithm of the probability of the classes that are not listed, (...,), by T. Without it, mode "tail"
            subtracts. It is not used where it contradicts the list.

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
    log_rests: Mapping[float, Tensor] = field(default_factory=dict)

    @staticmethod
    def top_k(teacher_logits: Tensor, k: int, temperatures: Sequence[float] = ()) -> SparseTargets:
        """Return the k most likely classes, with what is needed to use them at the given temperatures.

        Args:
            teacher_logits: (..., V), any floating dtype.
            k: classes to keep of each position, at most V.
            temperatures: at which the targets will be used, besides 1.

        Returns:
            Targets with ids (..., k), without gradient.
        """
        log_probs = torch.log_softmax(_float(teacher_logits), -1)
        values, ids = log_probs.topk(min(k, log_probs.shape[-1]), -1)
        normalizers = _normalizers(log_probs, temperatures)
        others = log_probs.scatter(-1, ids, -torch.inf)
        rests = {1.0: torch.logsumexp(others, -1)}
        rests |= {t: torch.logsumexp(others / t, -1) - normalizer for t, normalizer in normalizers.items()}
        return SparseTargets(ids, values, normalizers, log_rests=rests)

    @staticmethod
    def sample(
        teacher_logits: Tensor,
        draws: int,
        *,
        temperature: float = 1.0,
        temperatures: Sequence[float] = (),
        generator: torch.Generator | None = None,
    ) -> SparseTargets:
        """Return draws with replacement from softmax(teacher_logits / temperature), with one entry for each draw.

        Args:
            teacher_logits: (..., V), any floating dtype.
            draws: the number of draws at each position.
            temperature: of the distribution that is drawn from.
            temperatures: at which the targets will be used, besides 1 and ``temperature``.
            generator: the source of randomness; torch's own by default.

        Returns:
            Targets with ids (..., draws) and counts of 1, without gradient.

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
        """Return the targets with a function applied to each of their tensors.

        Args:
            function: changes the positions, as ``lambda x: x[:, :-1]`` does. It gets tensors (..., K) and (...,).

        Returns:
            New targets.
        """
        log_probs, counts = (None if x is None else function(x) for x in (self.log_probs, self.counts))
        normalizers = {t: function(normalizer) for t, normalizer in self.log_normalizers.items()}
        rests = {t: function(rest) for t, rest in self.log_rests.items()}
        return SparseTargets(function(self.ids), log_probs, normalizers, counts, self.drawn_at, rests)

    def at(self, temperature: float) -> Tensor:
        """Return log p_T of the listed classes.

        Args:
            temperature: T.

        Returns:
            (..., K).

        Raises:
            ArgumentError: A_T is not known, or the targets are draws without log-probabilities.
        """
        if self.log_probs is None:
            raise ArgumentError(
                "targets",
                "these draws have no log_probs, so they can only be used at the temperature they were drawn at.",
            )
        if temperature == 1:
            return self.log_probs
        normalizer = _entry(self.log_normalizers, temperature)
        if normalizer is not None:
            return self.log_probs / temperature - normalizer.unsqueeze(-1)
        known = ", ".join(f"{t:g}" for t in sorted({1.0, *self.log_normalizers}))
        raise ArgumentError(
            "temperature",
            f"the teacher's log-normaliser at T = {temperature:g} is not among the targets (there are: {known}). "
            "It is a sum over all classes that the listed ones do not tell. Make the targets with "
            f"temperatures=[{temperature:g}], use a temperature that is there, or mode='renormalise', which needs none.",
        )

    def log_rest_at(self, temperature: float) -> Tensor:
        """Return the logarithm of the probability at T of all classes that are not listed.

        Args:
            temperature: T.

        Returns:
            (...,) in float64: the entry of ``log_rests`` where there is one that agrees with the list, else the difference
            to 1, which is as exact as its rounding.

        Raises:
            ArgumentError: as ``at`` does.
        """
        log_probs = self.at(temperature)
        listed = log_probs.double().masked_fill(as_int64(self.ids).to(log_probs.device) < 0, -torch.inf)
        difference = 1 - listed.exp().sum(-1)
        rest = torch.log(difference.clamp(min=0.0))
        known = _entry(self.log_rests, temperature)
        if known is None:
            return rest
        # A list that was changed afterwards has another rest, and one that is large enough to be subtracted.
        known = known.to(rest.device, rest.dtype)
        rounding = 128 * torch.finfo(log_probs.dtype).eps
        return torch.where((known.exp() - difference).abs() <= rounding, known, rest)


def check_targets(targets: Any, student_logits: Tensor) -> None:
    """Require sparse targets whose tensors fit together and fit the student's logits.

    Args:
        targets: what was given.
        student_logits: (..., V).

    Raises:
        ArgumentTypeError: not ``SparseTargets``, or ids that are not integers.
        ArgumentError: a shape that does not fit, an id out of range, or a class that is listed twice.
    """
    if not isinstance(targets, SparseTargets):
        raise ArgumentTypeError(
            "targets",
            f"expected limbeck.SparseTargets, got {type(targets).__name__}. Try SparseTargets.top_k(logits, k).",
        )
    ids, positions = targets.ids, student_logits.shape[:-1]
    if not is_integers(ids):
        raise ArgumentTypeError("targets.ids", f"expected integers, got {getattr(ids, 'dtype', type(ids).__name__)}.")
    if ids.shape[:-1] != positions or ids.dim() == 0 or ids.shape[-1] == 0:
        raise ArgumentError("targets.ids", f"expected shape {(*positions, 'K')}, K >= 1, got {tuple(ids.shape)}.")
    for name, value in (("log_probs", targets.log_probs), ("counts", targets.counts)):
        if value is not None and value.shape != ids.shape:
            raise ArgumentError(
                f"targets.{name}", f"expected the shape of ids, {tuple(ids.shape)}, got {tuple(value.shape)}."
            )
    for name, by_temperature in (("log_normalizers", targets.log_normalizers), ("log_rests", targets.log_rests)):
        for t, number in by_temperature.items():
            if number.shape != positions:
                raise ArgumentError(
                    f"targets.{name}[{t:g}]",
                    f"expected one number per position, {tuple(positions)}, got {tuple(number.shape)}.",
                )
    if is_cheap_to_read(ids) and ids.numel():
        ids = as_int64(ids)
        low, high = (int(x) for x in ids.aminmax())
        if low < -1 or high >= student_logits.shape[-1]:
            wrong = low if low < -1 else high
            raise ArgumentError(
                "targets.ids",
                f"{wrong} is out of range for {student_logits.shape[-1]} classes (expected 0 to "
                f"{student_logits.shape[-1] - 1}, or -1 where there is none).",
            )
        ordered = ids.sort(-1).values
        if targets.counts is None and bool(((ordered[..., 1:] == ordered[..., :-1]) & (ordered[..., 1:] >= 0)).any()):
            raise ArgumentError(
                "targets.ids",
                "a class is listed twice at one position. Draws need counts; a top-k list has each class once.",
            )


def _float(logits: Tensor) -> Tensor:
    """Return the logits in float32 or float64, without gradient."""
    return logits.detach() if logits.dtype == torch.float64 else logits.detach().float()


def _entry(by_temperature: Mapping[float, Tensor], temperature: float) -> Tensor | None:
    """Return what is known at a temperature, or None."""
    return next((x for t, x in by_temperature.items() if math.isclose(t, temperature, rel_tol=1e-9)), None)


def _normalizers(log_probs: Tensor, temperatures: Iterable[float]) -> dict[float, Tensor]:
    """Return A_T by T, of log-probabilities (..., V)."""
    return {float(t): torch.logsumexp(log_probs / t, -1) for t in temperatures if t != 1}

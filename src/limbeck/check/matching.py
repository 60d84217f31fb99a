"""Which formula has the gradient that a loss has."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from limbeck.check.candidates import FAMILIES, HARD, RIGHT, WRONG, Hard, Soft, member
from limbeck.check.probe import Example, Probe, size

TOLERANCE = 2e-4
"""The largest relative difference of the gradients of a loss and of its formula."""


@dataclass(frozen=True)
class Match:
    """The formula of a loss: its gradient is the sum of these terms.

    Args:
        soft: the formula of the soft term; None where only the hard term was sought.
        soft_weights: of each function of the soft term, for the sum over rows.
        hard: the formula of the hard term; None if the loss has none.
        hard_weights: of the cross-entropy, and of its mean over all labels.
        residual: the relative difference from the loss's gradient.
    """

    soft: Soft | None
    soft_weights: tuple[float, ...]
    hard: Hard | None
    hard_weights: tuple[float, ...]
    residual: float


class _Seen:
    """Rows of several examples, and the gradient of the loss on them.

    Args:
        probe: of the loss.
        examples: what the loss takes, one at a time.
    """

    def __init__(self, probe: Probe, examples: Sequence[Example]) -> None:
        self.gradient = torch.cat([probe.aligned_gradient(probe.gradient(example)) for example in examples]).flatten()
        student, teacher, self.labels = map(torch.cat, zip(*map(probe.aligned, examples), strict=True))
        self.student, self.teacher = student.double(), teacher.double()
        self.temperature = probe.temperature
        self._columns: dict[Soft | Hard, list[Tensor]] = {}

    def columns(self, term: Soft | Hard | None) -> list[Tensor]:
        """Return the gradients of a formula; computed once.

        Args:
            term: the formula; None has none.
        """
        if term is None:
            return []
        if term not in self._columns:
            other = self.teacher if isinstance(term, Soft) else self.labels
            self._columns[term] = [g.flatten() for g in term.gradients(self.student, other, self.temperature)]
        return self._columns[term]


def match(probe: Probe, *, has_hard: bool) -> Match | None:
    """Return the formula whose gradient a loss has; None where it is none of those that are known.

    Args:
        probe: of the loss.
        has_hard: True if the loss depends on the labels.
    """
    seen = _Seen(probe, [*_variants(probe.draw(0)), probe.draw(1)])
    hards: Sequence[Hard | None] = HARD if has_hard else (None,)
    found = _best(RIGHT, hards, seen)
    if found.residual > TOLERANCE:
        found = _best(WRONG, hards, seen)
    for family in FAMILIES:
        if found.residual > TOLERANCE:
            found = _best_of_family(family, hards[:2], seen)
    return found if found.residual < TOLERANCE else None


def match_hard(probe: Probe) -> Match | None:
    """Return the formula of the hard term where both models are equal and the soft term has no gradient.

    Args:
        probe: of the loss.
    """
    examples = [example._replace(teacher=example.student) for example in _variants(probe.draw())]
    found = _best((None,), HARD, _Seen(probe, examples))
    return found if found.residual < TOLERANCE else None


def _variants(example: Example) -> list[Example]:
    return [example, example.with_other_teacher(), example.with_other_labels()]


def _residual(match: Match) -> float:
    return match.residual


def _best(softs: Iterable[Soft | None], hards: Iterable[Hard | None], seen: _Seen) -> Match:
    """Return the best match, or the first that is good enough."""
    found = []
    for soft, hard in itertools.product(softs, hards):
        found.append(_fit(soft, hard, seen))
        if found[-1].residual < TOLERANCE:
            return found[-1]
    return min(found, key=_residual)


def _best_of_family(family: str, hards: Sequence[Hard | None], seen: _Seen) -> Match:
    """Return the best match of a family: steps to both sides, halved each time."""
    centre, step = 0.5, 0.25
    best = _best((member(family, centre),), hards, seen)
    while step > 2e-6 and TOLERANCE / 10 < best.residual < 1.5 * step + 0.01:
        for x in (centre - step, centre + step):
            found = _best((member(family, x),), hards, seen)
            if found.residual < best.residual:
                best, centre = found, x
        step /= 2
    return best


def _fit(soft: Soft | None, hard: Hard | None, seen: _Seen) -> Match:
    """Return the weights with which the terms come closest to the gradient that was seen."""
    softs = seen.columns(soft)
    basis = torch.stack([*softs, *seen.columns(hard)], -1)
    weights = torch.linalg.lstsq(basis, seen.gradient.unsqueeze(-1)).solution
    label, smooth = weights[len(softs) :].flatten().tolist() if hard else (1.0, 0.0)
    if not weights.isfinite().all() or abs(label) < 1e-6 * abs(smooth) or smooth < -1e-6 * abs(label):
        return Match(soft, (), hard, (), 1.0)
    residual = size(seen.gradient - (basis @ weights).squeeze(-1)) / max(size(seen.gradient), 1e-300)
    values = tuple(weights.flatten().tolist())
    return Match(soft, values[: len(softs)], hard, values[len(softs) :], residual)

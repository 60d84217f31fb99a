"""Teachers that know some of the classes, beside those that know all (Hinton, Vinyals and Dean, 2015, section 5).

With p_g of the generalists, p_m of specialist m on its set S_m of classes, and w their weights, the targets are the q that
minimises

    w_g KL(p_g, q) + sum_m w_m KL(p_m, q_m),    q_m = q on S_m, divided by its sum q(S_m)

A specialist says how the classes of S_m share their probability, and nothing about the sum of it. So q = p_g outside of all S_m
and q(S_m) = p_g(S_m). Inside of S_m the terms are those of two distributions over S_m with the weights w_g p_g(S_m) and w_m:

    q_i = p_g(S_m) (w_g p_g,i + w_m p_m,i) / (w_g p_g(S_m) + w_m)

This holds for sets without a common class, each by itself; specialists of the same set act as one, their average. Where sets
overlap, U is the union of those that hang together. Then q(U) = p_g(U), and inside of U, q = softmax(z) for the minimum z of

    w_g p_g(U) (lse(z) - p_g|U . z) + sum_m w_m (lse_m(z) - p_m . z),    lse_m = the logarithm of the sum of exp(z) over S_m

which is convex, so that Newton's method finds it.

The "dustbin" of a specialist, its one class for everything else, is left out: p_m is its distribution given that the class is
one of S_m. Where the class is another one, p_g(S_m) is small, and what the specialist says there changes little.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from limbeck.errors import ArgumentError

Classes = Sequence[int]
"""The numbers of the classes that the columns of a specialist stand for, in the order of its columns."""
STEPS = 200
"""Newton's steps, at most. Ten are usual."""
CLOSE = 1e-13
"""The largest derivative at the minimum, as a share of all weights."""
LEAST = 1e-12
"""What a probability of a teacher is taken for if it is less. Without such a bound the second derivatives may be singular."""
MOST_NUMBERS = 2**24
"""The most numbers in the second derivatives that are computed at once: 128 MB."""


@dataclass(frozen=True)
class Weighted:
    """The weighted average of the distributions over one set of classes."""

    log_probs: Tensor
    """(..., V) or, of a specialist, (..., its classes)."""
    weight: float
    """The sum of the weights."""

    @classmethod
    def of(cls, log_probs: Sequence[Tensor], weights: Sequence[float]) -> Self:
        """Return the average of some distributions.

        Args:
            log_probs: the logarithms of each.
            weights: a positive number for each.
        """
        total = sum(weights)
        terms = [p + math.log(w / total) for p, w in zip(log_probs, weights, strict=True)]
        return cls(torch.logsumexp(torch.stack(terms), 0), total)


def with_specialists(generalist: Weighted, specialists: Sequence[tuple[Classes, Weighted]]) -> Tensor:
    """Return the logarithms of the distribution that is closest to a generalist and to all specialists.

    Args:
        generalist: over all classes, (..., V).
        specialists: the classes of each, and its distribution over them. Each set of classes is there once.

    Returns:
        (..., V), the log q of the formula above.

    Example:
        >>> generalist = Weighted(torch.tensor([0.5, 0.25, 0.25]).log(), 1.0)
        >>> specialist = Weighted(torch.tensor([1.0, 0.0]).log(), 1.0)
        >>> with_specialists(generalist, [((1, 2), specialist)]).exp()
        tensor([0.5000, 0.4167, 0.0833])
    """
    combined = generalist.log_probs.clone()
    for group in _overlapping(specialists):
        if len(group) > 1:
            _combine(combined, generalist, group)
            continue
        ((classes, specialist),) = group
        columns = torch.tensor(classes, device=combined.device)
        inside = generalist.log_probs.index_select(-1, columns) + math.log(generalist.weight)
        own = specialist.log_probs + math.log(specialist.weight)
        # divided by the sum of its own terms, the share of each class sums to 1 whatever the rounding
        shares = torch.logaddexp(inside, own).log_softmax(-1)
        mass = generalist.log_probs.index_select(-1, columns).logsumexp(-1, keepdim=True)
        combined[..., columns] = mass + shares
    return combined


def _overlapping(specialists: Sequence[tuple[Classes, Weighted]]) -> list[list[tuple[Classes, Weighted]]]:
    """Return the specialists in groups, so that no class belongs to two groups."""
    groups: list[list[tuple[Classes, Weighted]]] = []
    for one in specialists:
        joined = [group for group in groups if any(set(one[0]) & set(classes) for classes, _ in group)]
        groups = [group for group in groups if group not in joined] + [[one, *(s for group in joined for s in group)]]
    return groups


def _combine(combined: Tensor, generalist: Weighted, group: Sequence[tuple[Classes, Weighted]]) -> None:
    """Write log q of the classes of overlapping specialists into ``combined`` (..., V)."""
    union = sorted({number for classes, _ in group for number in classes})
    columns = torch.tensor(union, device=combined.device)
    inside = generalist.log_probs.index_select(-1, columns)
    mass = inside.logsumexp(-1, keepdim=True)
    knows = torch.zeros(1 + len(group), len(union), dtype=torch.bool, device=combined.device)
    knows[0] = True
    own = inside.new_full((1 + len(group), *inside.shape), -math.inf)
    own[0] = (inside - mass).nan_to_num(
        nan=-math.log(len(union)), neginf=-math.inf
    )  # no mass: what it says has no weight
    weights = inside.new_empty(1 + len(group), *mass.shape)
    weights[0] = generalist.weight * mass.exp()
    for m, (classes, specialist) in enumerate(group, 1):
        places = [union.index(number) for number in classes]
        knows[m, places], weights[m] = True, specialist.weight
        own[m][..., places] = specialist.log_probs
    rows = own.double().flatten(1, -2), weights.double().flatten(1, -2)
    size = max(1, MOST_NUMBERS // len(union) ** 2)
    parts = zip(*(x.split(size, 1) for x in rows), strict=True)
    shares = torch.cat([_minimum(p, w, knows) for p, w in parts]).reshape(inside.shape)
    combined[..., columns] = mass + shares.to(combined.dtype)


def _minimum(log_probs: Tensor, weights: Tensor, knows: Tensor) -> Tensor:
    """Return log q (R, C) with the least sum over m of weights_m KL(p_m, q_m), by Newton's method.

    A step is shortened to log(1 + d) / d of its length, where d is the difference between its largest and smallest entry. The
    objective is a sum of log-sum-exps, for which this never increases it, and comes to the minimum from everywhere (Sun and
    Tran-Dinh, "Generalized self-concordant functions", 2019).

    Args:
        log_probs: (M, R, C) float64, log p_m, -inf at the classes that m does not know.
        weights: (M, R, 1) float64.
        knows: (M, C) bool, the classes of each; of one, all.
    """
    total = weights.sum(0)
    is_possible = (weights * log_probs.exp()).sum(0) > 0
    p = log_probs.clamp(min=math.log(LEAST)).masked_fill(~knows.unsqueeze(1), -math.inf).softmax(-1)
    weights = weights.clamp(min=LEAST * total)
    wanted = (weights * p).sum(0)
    z, eye = wanted.log(), torch.eye(wanted.shape[-1], dtype=wanted.dtype, device=wanted.device)
    for _ in range(STEPS):
        q = z.masked_fill(~knows.unsqueeze(1), -math.inf).softmax(-1)
        found = (weights * q).sum(0)
        if bool(((found - wanted).abs() <= CLOSE * total).all()):
            break
        scale = found.rsqrt()  # with it, the diagonal is nearly 1, also where probabilities are tiny
        own, flat = q * scale, (found / total).sqrt()  # a constant added to z changes nothing: the direction is filled
        second = (1 + LEAST) * eye - torch.einsum("mri,mrj->rij", weights * own, own)
        step = scale * torch.linalg.solve(second + torch.einsum("ri,rj->rij", flat, flat), scale * (found - wanted))
        length = step.amax(-1, keepdim=True) - step.amin(-1, keepdim=True)
        z = z - step * torch.where(length > 0, length.log1p() / length, 1.0)
    return z.masked_fill(~is_possible, -math.inf).log_softmax(-1)


def check_classes(classes: Sequence[Classes | None], teachers: int) -> None:
    """Raise an error if specialists cannot be combined with the other teachers of an ensemble.

    Args:
        classes: for each teacher, the classes that it knows; None for all.
        teachers: the number of teachers.

    Raises:
        ArgumentError: there is not one entry for each teacher, no teacher knows all classes, or a set has fewer than two
            classes or one of them twice.
    """
    known = [tuple(numbers) for numbers in classes if numbers is not None]
    if len(classes) != teachers:
        raise ArgumentError("classes", f"expected an entry for each of {teachers} teachers, got {len(classes)}.")
    if len(known) == teachers:
        raise ArgumentError(
            "classes",
            "all teachers are specialists, and none says how probable their sets of classes are. Add one that knows all.",
        )
    for numbers in known:
        if len(numbers) < 2 or len(set(numbers)) < len(numbers) or min(numbers) < 0:
            raise ArgumentError(
                "classes", f"expected two or more different class numbers of a specialist, got {list(numbers)}."
            )

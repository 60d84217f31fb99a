"""Teachers that know some of the classes, beside those that know all (Hinton, Vinyals and Dean, 2015, section 5).

With p_g of the generalists, p_m of specialist m on its set S_m of classes, and w their weights, the targets are the q that
minimises

    w_g KL(p_g, q) + sum_m w_m KL(p_m, q_m),    q_m = q on S_m, divided by its sum q(S_m)

A specialist says how the classes of S_m share their probability, and nothing about the sum of it. So q = p_g outside of all S_m
and q(S_m) = p_g(S_m). Inside of S_m the terms are those of two distributions over S_m with the weights w_g p_g(S_m) and w_m:

    q_i = p_g(S_m) (w_g p_g,i + w_m p_m,i) / (w_g p_g(S_m) + w_m)

This holds for sets without a common class, each by itself; specialists of the same set act as one, their average. The "dustbin"
of a specialist, its one class for everything else, is left out: p_m is its distribution given that the class is one of S_m.
Where the class is another one, p_g(S_m) is small, and what the specialist says there changes little.
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
        specialists: the classes of each, and its distribution over them. No class belongs to two of them.

    Returns:
        (..., V), the log q of the formula above.

    Example:
        >>> generalist = Weighted(torch.tensor([0.5, 0.25, 0.25]).log(), 1.0)
        >>> specialist = Weighted(torch.tensor([1.0, 0.0]).log(), 1.0)
        >>> with_specialists(generalist, [((1, 2), specialist)]).exp()
        tensor([0.5000, 0.4167, 0.0833])
    """
    combined = generalist.log_probs.clone()
    for classes, specialist in specialists:
        columns = torch.tensor(classes, device=combined.device)
        inside = generalist.log_probs.index_select(-1, columns) + math.log(generalist.weight)
        own = specialist.log_probs + math.log(specialist.weight)
        # divided by the sum of its own terms, the share of each class sums to 1 whatever the rounding
        shares = torch.logaddexp(inside, own).log_softmax(-1)
        mass = generalist.log_probs.index_select(-1, columns).logsumexp(-1, keepdim=True)
        combined[..., columns] = mass + shares
    return combined


def check_classes(classes: Sequence[Classes | None], teachers: int) -> None:
    """Raise an error if specialists cannot be combined with the other teachers of an ensemble.

    Args:
        classes: for each teacher, the classes that it knows; None for all.
        teachers: the number of teachers.

    Raises:
        ArgumentError: there is not one entry for each teacher, no teacher knows all classes, a set has fewer than two classes
            or one of them twice, or two different sets have a class in common.
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
    sets = list({frozenset(numbers) for numbers in known})
    for i, one in enumerate(sets):
        for other in sets[:i]:
            if common := sorted(one & other):
                raise ArgumentError(
                    "classes",
                    f"two specialists with different sets of classes both know the class {common[0]}. Give each class to one "
                    "of them, or give them the same classes.",
                )

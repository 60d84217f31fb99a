"""What a model answers about examples with several positions, such as pixels: sums and decisions, in place of all logits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from limbeck.models.heads import Head
from limbeck.tasks import Targets, Task


@dataclass
class Answers:
    """A model's answers about some examples at T = 1.

    The logits of a set of images with a class for each pixel would fill the memory, so that batches are measured one by one.
    """

    task: Task
    names: list[str] = field(default_factory=list)
    """The names of the task's scores."""
    sums: Tensor = field(default_factory=lambda: torch.empty(0, 0))
    """(N, K) float64, what ``Task.sums`` returned for each example."""
    decisions: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int32))
    """(P,) int32, the class decided at each position that counts, example after example."""
    counted: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))
    """(N,) int64, how many positions of each example count."""
    comparisons: dict[str, Tensor] = field(default_factory=dict)
    """By name, (N,) float64: the sum over positions of each of ``Task.comparisons``; empty without a teacher."""

    @property
    def metrics(self) -> dict[str, float]:
        """Return the metrics of the whole set, without the agreement."""
        found = {name: value.item() for name, value in self._metrics(self.sums.sum(0)).items()}
        compared = {name: float(values.sum() / self.counted.sum()) for name, values in self.comparisons.items()}
        return found | compared

    @property
    def class_metrics(self) -> dict[str, Tensor]:
        """Return the metrics of each class, (C,), by name."""
        return self.task.class_metrics_of_counts(self.sums.sum(0)[1 + len(self.names) :])

    def values_of_examples(self, metric: str) -> Tensor:
        """Return numbers for the examples, (N,), whose mean is a metric of the set and whose spread tells its error.

        A metric is a function of sums over examples. The number of an example is the metric plus the example's part in its
        linear change (the delta method), so that a ratio such as IoU has an error as a mean has.

        Args:
            metric: the name of the metric.
        """
        count, total = len(self.sums), self.sums.sum(0).requires_grad_()
        value = self._metrics(total)[metric]
        (slope,) = torch.autograd.grad(value, total)
        return (value + count * ((self.sums - total / count) @ slope)).detach()

    def agreement(self, other: Answers) -> Tensor:
        """Return numbers for the examples, (N,), whose mean is the share of positions about which both models decide alike.

        Args:
            other: what another model answers about the same examples.
        """
        example = torch.repeat_interleave(torch.arange(len(self.counted)), self.counted)
        alike = (self.decisions == other.decisions).double()
        agreed = torch.zeros(len(self.counted), dtype=torch.float64).index_add_(0, example, alike)
        share = agreed.sum() / self.counted.sum()
        return share + (agreed - share * self.counted) / self.counted.double().mean()

    def _metrics(self, total: Tensor) -> dict[str, Tensor]:
        found = self.task.metrics_of_sums(self.names, total)
        found["nll"] = found.pop("loss")
        return {name: found[name] for name in self.task.columns if name in found}


class Outputs:
    """What a model answers about a batch: aligned logits; or the hidden states before its last layer, which are smaller.

    Args:
        values: (N, ..., V) logits, or (N, L, d) hidden states.
        head: makes logits of hidden states; None if the values are logits.
    """

    def __init__(self, values: Tensor, head: Head | None = None) -> None:
        self._values, self._head = values, head

    def at(self, places: Any) -> Tensor:
        """Return the logits at some positions, in float32.

        Args:
            places: an index of the positions' axes.
        """
        values = self._values[places]
        return (values if self._head is None else self._head.logits(values)).float()

    def parts(self) -> Iterator[slice]:
        """Yield slices of the second axis, which are all of it: one, or as many as keep the logits small."""
        return iter([slice(None)]) if self._head is None else self._head.parts(self._values)

    def compute(self) -> None:
        """Compute all logits, one part after the other, and keep none."""
        for part in self.parts():
            self.at((slice(None), part))


def collect_answers(
    task: Task, batches: Iterator[tuple[Outputs, Targets]], teacher: Iterator[Outputs] | None = None
) -> Answers:
    """Measure batches one by one.

    Args:
        task: measures.
        batches: what a model answers, and the targets, of each batch.
        teacher: what a teacher answers, to be compared; None for no comparison.

    Returns:
        The answers about all examples.
    """
    sums, decisions, counted, names, compared = [], [], [], [], dict[str, list[Tensor]]()
    for outputs, targets in batches:
        assert targets.labels is not None
        theirs = None if teacher is None else next(teacher)
        of_batch, decided, values = [], [], dict[str, list[Tensor]]()
        for part in outputs.parts():
            places = (slice(None), part)
            logits = outputs.at(places)
            names, of_part = task.sums(logits, targets.labels[places])
            of_batch.append(of_part.double())
            decided.append(task.decide(logits))
            if theirs is not None:
                for name, compared_part in task.comparisons(logits, theirs.at(places)).items():
                    values.setdefault(name, []).append(compared_part)
        sums.append(torch.stack(of_batch).sum(0).cpu())
        decisions.append(torch.cat(decided, 1)[targets.mask].int().cpu())
        counted.append(targets.mask.flatten(1).sum(-1).cpu())
        for name, of_parts in values.items():
            of_examples = torch.where(targets.mask, torch.cat(of_parts, 1), 0).flatten(1).double().sum(-1)
            compared.setdefault(name, []).append(of_examples.cpu())
    comparisons = {name: torch.cat(values) for name, values in compared.items()}
    return Answers(task, names, torch.cat(sums), torch.cat(decisions), torch.cat(counted), comparisons)

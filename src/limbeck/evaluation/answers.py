"""What a model answers about examples with several positions, such as pixels: sums and decisions, in place of all logits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

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


def collect_answers(
    task: Task, batches: Iterator[tuple[Tensor, Targets]], teacher: Iterator[tuple[Tensor, Targets]] | None = None
) -> Answers:
    """Measure batches one by one.

    Args:
        task: measures.
        batches: aligned logits and their targets, of each batch.
        teacher: the same of a teacher, to be compared; None for no comparison.

    Returns:
        The answers about all examples.
    """
    sums, decisions, counted, names, compared = [], [], [], [], dict[str, list[Tensor]]()
    for logits, targets in batches:
        assert targets.labels is not None
        names, of_batch = task.sums(logits, targets.labels)
        sums.append(of_batch.double().cpu())
        decisions.append(task.decide(logits)[targets.mask].int().cpu())
        counted.append(targets.mask.flatten(1).sum(-1).cpu())
        if teacher is not None:
            for name, values in task.comparisons(logits, next(teacher)[0]).items():
                of_batch = torch.where(targets.mask, values, 0).flatten(1).double().sum(-1)
                compared.setdefault(name, []).append(of_batch.cpu())
    comparisons = {name: torch.cat(values) for name, values in compared.items()}
    return Answers(task, names, torch.cat(sums), torch.cat(decisions), torch.cat(counted), comparisons)

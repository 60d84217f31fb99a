"""An exported student beside the student itself, on examples of the run's test set."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.data import Examples
from limbeck.export.formats import Run
from limbeck.export.program import inputs_of
from limbeck.models import forward_logits
from limbeck.tasks import Task, task_named

EXAMPLES, BATCH = 128, 32
"""How many examples are compared, and how many of them at once. The first is also compared alone."""
SAME = 1e-4
"""The largest difference that rounding makes, as a share of the largest logit."""
LEAST_AGREEMENT = 0.9
"""The least agreement of a student whose weights have 8 bits."""
PASSES = 30


@dataclass(frozen=True)
class Comparison:
    """How an exported student and the student differ."""

    examples: int
    largest_difference: float
    """Of two logits, or of two numbers."""
    largest_logit: float
    agreement: float
    """The task's likeness: the share of equal decisions; in regression R², of embeddings the cosine."""
    milliseconds: float
    """The median time for one example."""
    student_milliseconds: float
    """The same of the student itself, in torch."""

    def fault(self, *, int8: bool) -> str | None:
        """Return why the exported student is not the student; None if it is.

        Args:
            int8: its weights have 8 bits, so that the logits may differ and the decisions should not.
        """
        if not (self.largest_difference < float("inf")):
            return f"its logits are not finite where the student's are (on {self.examples} test examples)"
        if int8 and not self.agreement >= LEAST_AGREEMENT:
            return (
                f"it agrees with the student to {self.agreement:.3f} on {self.examples} test examples; expected at least "
                f"{LEAST_AGREEMENT}"
            )
        if not int8 and self.largest_difference > SAME * max(1.0, self.largest_logit):
            return (
                f"its logits differ from the student's by up to {self.largest_difference:.3g} on {self.examples} test "
                f"examples, where the largest is {self.largest_logit:.3g}; expected rounding alone"
            )
        return None


@torch.no_grad()
def compare(run: Run, student: nn.Module, examples: Examples) -> Comparison:
    """Run an exported student and the student on examples.

    Args:
        run: the exported student.
        student: the student.
        examples: the examples; 128 at most are run.

    Returns:
        The differences, and the time of both.
    """
    task = task_named(examples.task)
    difference, largest, answers = 0.0, 0.0, []
    for batch in _batches(examples):
        inputs = inputs_of(student, batch, task)
        ours, theirs = forward_logits(student, inputs).float(), run(inputs).float()
        apart = (ours - theirs).abs().nan_to_num(float("inf"), float("inf"))
        difference, largest = max(difference, apart.max().item()), max(largest, ours.abs().max().item())
        rows = _at_positions(task, batch, theirs, ours)
        answers.append(rows if task.unit == "example" else [task.agreement(*rows)])
    first = inputs_of(student, examples.__getitems__([0]), task)
    fast, own = _medians(lambda: run(first), lambda: forward_logits(student, first))
    columns = [
        torch.cat(rows) for rows in zip(*answers[1:], strict=True)
    ]  # without the first example, which comes twice
    likeness = task.agreement(*columns) if task.unit == "example" else columns[0]
    return Comparison(min(EXAMPLES, len(examples)), difference, largest, likeness.mean().item(), fast, own)


def _batches(examples: Examples) -> Iterator[dict[str, Any]]:
    """Yield the first example alone, and then all of them in batches."""
    yield examples.__getitems__([0])
    count = min(EXAMPLES, len(examples))
    for start in range(0, count, BATCH):
        yield examples.__getitems__(range(start, min(start + BATCH, count)))


def _at_positions(task: Task, batch: dict[str, Any], *logits: Tensor) -> list[Tensor]:
    """Return logits at the positions of a batch that count: (P, V) each."""
    mask, aligned = task.targets(batch).mask, [task.align(each) for each in logits]
    if mask.shape != aligned[0].shape[:-1]:  # a class for each pixel, at another resolution than the labels
        return [each.flatten(0, -2) for each in aligned]
    return [each[mask] for each in aligned]


def _medians(*functions: Any) -> list[float]:
    """Return the median milliseconds of some functions, which are called in turn."""
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(PASSES):
        for function, own in zip(functions, times, strict=True):
            start = time.perf_counter()
            function()
            own.append(1000 * (time.perf_counter() - start))
    return [statistics.median(own[1:]) for own in times]

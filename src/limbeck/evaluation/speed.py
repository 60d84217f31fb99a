"""How long a forward pass of a model takes, and all that is measured of models on the test set."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from limbeck.data import Examples, Splits
from limbeck.evaluation.answers import Answers, Outputs
from limbeck.evaluation.inference import SMALL_BATCH, ask_models, head_of, hidden_states, test_metrics, to_device
from limbeck.models import forward_logits
from limbeck.models.forward import size_of
from limbeck.tasks import task_named

FEWEST, MOST = 5, 1000
"""How many passes are measured, at least and at most."""


@dataclass(frozen=True)
class Speed:
    """What was measured of a model's forward passes on one batch."""

    batch: int
    """The examples in the batch."""
    median: float
    """The median time of a pass, in milliseconds."""
    p99: float
    """The time in milliseconds that 99 % of the passes do not exceed."""
    passes: int
    """How many were measured."""

    @property
    def throughput(self) -> float:
        """Return the examples in a second, at the median time."""
        return 1000 * self.batch / self.median


@torch.no_grad()
def measure_speed(model: nn.Module, examples: Examples, *, batch_size: int = 128, seconds: float = 0.2) -> Speed:
    """Measure the time of a forward pass.

    Args:
        model: any model that ``limbeck.models.forward_logits`` can call.
        examples: examples for the batch; they are repeated if there are too few.
        batch_size: examples in the batch; 8 at most where an example has several positions.
        seconds: how long to measure, at least; five passes are measured in any case.

    Returns:
        The times.
    """
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    task = task_named(examples.task)
    count = batch_size if task.unit == "example" else min(batch_size, SMALL_BATCH)
    batch = to_device(examples.__getitems__([i % len(examples) for i in range(count)]), device)
    batch, head = task.complete(batch, [model]), head_of(model, examples)
    model.eval()
    times: list[float] = []
    while len(times) < FEWEST or (sum(times) < seconds and len(times) <= MOST):
        start = time.perf_counter()
        if head is None:
            forward_logits(model, batch)
        else:
            Outputs(hidden_states(head, model, batch), head).compute()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    median, p99 = 1000 * np.quantile(times[1:], (0.5, 0.99))  # the first pass also prepares what the others use
    return Speed(count, float(median), float(p99), len(times) - 1)


def milliseconds_per_batch(model: nn.Module, examples: Examples, *, seconds: float = 0.2) -> float:
    """Return the median time of a forward pass on a batch of 128 examples, or of 8 that have several positions.

    Args:
        model: any model that ``limbeck.models.forward_logits`` can call.
        examples: examples for the batch.
        seconds: how long to measure, at least.
    """
    return measure_speed(model, examples, seconds=seconds).median


def evaluate_models(
    models: Mapping[str, nn.Module], splits: Splits, answers: Mapping[str, Tensor | Answers] | None = None
) -> dict[str, dict[str, float]]:
    """Measure models on the test set.

    Args:
        models: the models by name. If one is named "teacher", the others' agreement with it is measured.
        splits: the examples.
        answers: what ``ask_models`` returned; by default the models are asked.

    Returns:
        For each model, the number of parameters if it has some, the test metrics and the milliseconds for one batch.
    """
    answers = ask_models(models, splits) if answers is None else answers
    results = {}
    for name, model in models.items():
        reference = answers.get("teacher") if name != "teacher" else None
        metrics = test_metrics(answers[name], splits, reference).metrics
        speed = milliseconds_per_batch(model, splits.test)
        results[name] = {**size_of(model), **metrics, "milliseconds_per_batch": speed}
    return results

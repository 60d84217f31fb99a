"""Run a model over examples: logits, speed and metrics."""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from limbeck.data import Examples, Splits, identity_collate
from limbeck.evaluation.arms import Measured
from limbeck.models import count_parameters, forward_logits
from limbeck.tasks import task_named


@torch.no_grad()
def predict_logits(
    model: nn.Module, examples: Examples, *, batch_size: int = 512, progress: str | None = None
) -> Tensor:
    """Compute a model's logits for every example. The model stays in eval mode.

    Args:
        model: any model that ``limbeck.models.forward_logits`` can call.
        examples: the N examples, in the order of the result.
        batch_size: examples in one batch.
        progress: the title of a progress bar, which appears after one second; None for no bar.

    Returns:
        Logits (N, V), float32 on the CPU.
    """
    from tqdm import tqdm

    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    model.eval()
    # An unshuffled loader still draws a seed for its workers. It draws from its own generator, so that evaluating a
    # model does not change how the next one is trained.
    loader = DataLoader(examples, batch_size=batch_size, collate_fn=identity_collate, generator=torch.Generator())
    batches = tqdm(loader, desc=progress, delay=1.0, leave=False, disable=progress is None)
    task = task_named(examples.task)
    logits = [task.align(forward_logits(model, _to(batch, device))).float().cpu() for batch in batches]
    return torch.cat(logits) if logits else torch.empty(0, 0)


@torch.no_grad()
def milliseconds_per_batch(
    model: nn.Module, examples: Examples, *, batch_size: int = 128, seconds: float = 0.2
) -> float:
    """Measure the time of one forward pass.

    Args:
        model: any model that ``limbeck.models.forward_logits`` can call.
        examples: examples for the batch; they are repeated if there are too few.
        batch_size: examples in the batch.
        seconds: how long to measure, at least; five passes are measured in any case.

    Returns:
        The median time in milliseconds.
    """
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    batch = _to(examples.__getitems__([i % len(examples) for i in range(batch_size)]), device)
    model.eval()
    times: list[float] = []
    while len(times) < 5 or sum(times) < seconds:
        start = time.perf_counter()
        forward_logits(model, batch)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times[1:])


def evaluate_models(models: dict[str, nn.Module], splits: Splits) -> dict[str, dict[str, float]]:
    """Measure models on the test set.

    Args:
        models: the models by name. If one is named "teacher", the others' agreement with it is measured.
        splits: the examples.

    Returns:
        For each model, the number of parameters, the test metrics and the milliseconds for one batch.
    """
    logits: dict[str, Tensor] = {
        name: predict_logits(model, splits.test, progress=f"Testing the {name}") for name, model in models.items()
    }
    results = {}
    for name, model in models.items():
        reference = logits.get("teacher") if name != "teacher" else None
        metrics = test_metrics(logits[name], splits, reference).metrics
        speed = milliseconds_per_batch(model, splits.test)
        results[name] = {"parameters": count_parameters(model), **metrics, "milliseconds_per_batch": speed}
    return results


def main_metric(splits: Splits) -> str:
    """Return the metric that students are compared by: the task's score, or the likeness if the test set has no labels.

    Args:
        splits: the examples.
    """
    task = task_named(splits.task)
    return task.score if splits.has_test_labels else task.likeness


def test_metrics(logits: Tensor, splits: Splits, teacher_logits: Tensor | None) -> Measured:
    """Measure a model on the test set; of a test set without labels, its agreement with the teacher alone.

    Args:
        logits: (N, V), the model's logits of the test examples.
        splits: the examples.
        teacher_logits: (N, V), the teacher's; None leaves the agreement out.

    Returns:
        The metrics; and of the task's score and the agreement, which are means over examples, the value of each example.
    """
    task, labels, target = task_named(splits.task), splits.test.labels, splits.preprocessing.target
    if not task.has_labels:  # what embeddings should be is what the teacher's are
        if teacher_logits is None:
            return Measured({})
        labels, teacher_logits = teacher_logits, None
    if target is not None:  # errors are told in the unit of the labels
        labels, logits = target.undo(labels), target.undo(logits)
        teacher_logits = None if teacher_logits is None else target.undo(teacher_logits)
    values: dict[str, Tensor] = {}
    if splits.has_test_labels:
        values[task.score] = task.values(logits, labels)
    if teacher_logits is not None:
        values[task.likeness] = task.agreement(logits, teacher_logits)
    by_example = {name: value.double().numpy() for name, value in values.items()}
    if splits.has_test_labels:
        return Measured(task.metrics(logits, labels, teacher_logits), by_example)
    return Measured({name: float(row.mean()) for name, row in by_example.items()}, by_example)


def _to(batch: dict[str, Any], device: torch.device) -> dict[str, Any]:
    return {name: value.to(device) if isinstance(value, Tensor) else value for name, value in batch.items()}

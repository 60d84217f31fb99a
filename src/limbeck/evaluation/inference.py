"""Run a model over examples: logits, speed and metrics."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from limbeck.data import Examples, Splits, identity_collate
from limbeck.errors import ModelError
from limbeck.evaluation.answers import Answers, Outputs, collect_answers
from limbeck.evaluation.arms import Measured
from limbeck.models import forward_logits, token_columns
from limbeck.models.forward import call_model
from limbeck.models.heads import Head, find_head
from limbeck.tasks import CausalLM, Targets, task_named

BATCH = 512
SMALL_BATCH = 8
"""The examples in a batch, and those of examples with several positions, whose logits take more memory."""
MOST_POSITIONS = 4096
"""The most positions of such a batch whose logits are kept."""
MOST_LOGITS = 2**25
"""The most logits of tokens that are made or kept at once; 128 MB in float32."""

Answer = Callable[[dict[str, Any]], Tensor]
"""A function from a batch to logits."""


@torch.no_grad()
def predict_logits(
    model: nn.Module, examples: Examples, *, batch_size: int = BATCH, progress: str | None = None
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
    batches = _outputs(model, examples, batch_size, progress)
    task = task_named(examples.task)
    logits = [(task.align(row) if task.unit == "example" else row).float().cpu() for row, _ in batches]
    return torch.cat(logits) if logits else torch.empty(0, 0)


def answers_of(
    model: nn.Module,
    examples: Examples,
    *,
    teacher: nn.Module | None = None,
    batch_size: int = BATCH,
    progress: str | None = None,
) -> Tensor | Answers:
    """Ask a model about every example, at T = 1. The model stays in eval mode.

    Args:
        model: any model that ``limbeck.models.forward_logits`` can call.
        examples: the examples, in the order of the result.
        teacher: run beside the model where a task has metrics that need the logits of both; None to leave these out.
        batch_size: examples in one batch.
        progress: the title of a progress bar; None for no bar.

    Returns:
        Logits (N, V); or where an example has several positions, ``Answers``.
    """
    task = task_named(examples.task)
    if task.unit == "example":
        return predict_logits(model, examples, batch_size=batch_size, progress=progress)
    with torch.no_grad():
        head = head_of(model, examples)
        if teacher is None or task.unit != "token":
            return collect_answers(task, outputs_of(model, examples, head, progress=progress))
        teacher_head = head_of(teacher, examples)
        size = min(batch_of(model, examples, head), batch_of(teacher, examples, teacher_head))
        beside = (outputs for outputs, _ in outputs_of(teacher, examples, teacher_head, batch_size=size))
        return collect_answers(task, outputs_of(model, examples, head, batch_size=size, progress=progress), beside)


def head_of(model: nn.Module | Answer, examples: Examples) -> Head | None:
    """Return the last layer of a causal language model, so that its logits need not be whole; None where there is none.

    Args:
        model: any model. It stays in the mode that it is in.
        examples: the examples that it is asked about.
    """
    if not isinstance(model, nn.Module) or not isinstance(task_named(examples.task), CausalLM) or len(examples) == 0:
        return None
    try:
        return find_head(model, to_device(examples.__getitems__([0]), _device_of(model)))
    except ModelError:
        return None


@torch.no_grad()
def outputs_of(
    model: nn.Module | Answer,
    examples: Examples,
    head: Head | None = None,
    *,
    batch_size: int | None = None,
    progress: str | None = None,
) -> Iterator[tuple[Outputs, Targets]]:
    """Yield what a model answers, aligned as the examples' task does it, and the targets, batch by batch.

    Args:
        model: any model that ``limbeck.models.forward_logits`` can call. It stays in eval mode.
        examples: the examples.
        head: the model's last layer, with which its logits are never whole; None for whole logits.
        batch_size: examples in one batch; by default few enough for their logits to take little memory.
        progress: the title of a progress bar; None for no bar.
    """
    task, size = task_named(examples.task), batch_size or batch_of(model, examples, head)
    if head is None:
        for logits, targets in aligned_outputs(model, examples, batch_size=size, progress=progress):
            yield Outputs(logits), targets
        return
    for batch in _batches(model, examples, size, progress):
        yield Outputs(task.align(hidden_states(head, model, batch)), head), task.targets(batch)


@torch.no_grad()
def aligned_outputs(
    model: nn.Module | Answer, examples: Examples, *, batch_size: int | None = None, progress: str | None = None
) -> Iterator[tuple[Tensor, Targets]]:
    """Yield a model's logits as the examples' task aligns them, and their targets, batch by batch.

    Args:
        model: any model that ``limbeck.models.forward_logits`` can call, which stays in eval mode; or a function from a batch
            to logits.
        examples: the examples.
        batch_size: examples in one batch; by default few enough for their logits to take little memory.
        progress: the title of a progress bar; None for no bar.
    """
    task = task_named(examples.task)
    for logits, batch in _outputs(model, examples, batch_size or batch_of(model, examples), progress):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".* are interpolated to ")  # the trainer says it once
            logits = task.align(task.fit(logits, batch, "student"))
        yield logits.float(), task.targets(batch)


def batch_of(model: nn.Module | Answer, examples: Examples, head: Head | None = None) -> int:
    """Return how many examples with several positions to run at once: fewer where there are many logits for each token.

    Args:
        model: the model that is run.
        examples: the examples.
        head: the model's last layer, with which its logits are never whole; None for whole logits.
    """
    if head is not None:
        return SMALL_BATCH
    columns = token_columns(model) if isinstance(model, nn.Module) else None
    lengths = getattr(examples.load, "lengths", None)
    if columns is None or not lengths:
        return SMALL_BATCH
    return max(1, min(SMALL_BATCH, MOST_LOGITS // (columns * max(lengths))))


@torch.no_grad()
def rows_of(model: nn.Module | Answer, examples: Examples) -> tuple[Tensor, Tensor]:
    """Return a model's logits at the positions of some examples that count, (P, V), and the labels there, (P,).

    Of many positions some are taken, spread evenly over all of them.

    Args:
        model: any model that ``limbeck.models.forward_logits`` can call; or, where an example has several positions, a function
            from a batch to logits.
        examples: a few examples: all of these logits are kept.
    """
    if task_named(examples.task).unit == "example":
        assert isinstance(model, nn.Module)
        return predict_logits(model, examples), examples.labels
    logits, labels = [], []
    columns = (token_columns(model) if isinstance(model, nn.Module) else None) or 1
    most = max(1, min(MOST_POSITIONS, MOST_LOGITS // (columns * max(1, len(examples)))))  # of each example
    for outputs, targets in outputs_of(model, examples, head_of(model, examples)):
        assert targets.labels is not None
        places = targets.mask.flatten().nonzero().squeeze(-1)
        limit = MOST_POSITIONS if columns == 1 else most * len(targets.mask)
        places = places[:: max(1, math.ceil(len(places) / limit))]
        logits.append(outputs.at(torch.unravel_index(places, targets.mask.shape)).cpu())
        labels.append(targets.labels.flatten()[places].cpu())
    return torch.cat(logits), torch.cat(labels)


def _outputs(
    model: nn.Module | Answer, examples: Examples, batch_size: int, progress: str | None
) -> Iterator[tuple[Tensor, dict[str, Any]]]:
    """Yield what a model returns for each batch, and the batch."""
    for batch in _batches(model, examples, batch_size, progress):
        yield forward_logits(model, batch) if isinstance(model, nn.Module) else model(batch), batch


def _batches(
    model: nn.Module | Answer, examples: Examples, batch_size: int, progress: str | None
) -> Iterator[dict[str, Any]]:
    """Put a model in eval mode, and yield the batches on its device."""
    from tqdm import tqdm

    device, task = _device_of(model), task_named(examples.task)
    if isinstance(model, nn.Module):
        model.eval()
    # An unshuffled loader still draws a seed for its workers. It draws from its own generator, so that evaluating a
    # model does not change how the next one is trained.
    loader = DataLoader(examples, batch_size=batch_size, collate_fn=identity_collate, generator=torch.Generator())
    for batch in tqdm(loader, desc=progress, delay=1.0, leave=False, disable=progress is None):
        batch = to_device(batch, device)
        yield task.complete(batch, [model]) if isinstance(model, nn.Module) else batch


def hidden_states(head: Head, model: nn.Module | Answer, batch: dict[str, Any]) -> Tensor:
    """Return the hidden states before a model's last layer, (N, L, d).

    Args:
        head: the last layer.
        model: the model.
        batch: tensors by name.
    """
    assert isinstance(model, nn.Module)
    return head.run(lambda: call_model(model, batch), lambda hidden: hidden)


def _device_of(model: nn.Module | Answer) -> torch.device:
    parameters = model.parameters() if isinstance(model, nn.Module) else iter(())
    return next((parameter.device for parameter in parameters), torch.device("cpu"))


def ask_models(models: Mapping[str, nn.Module], splits: Splits) -> dict[str, Tensor | Answers]:
    """Ask models about every test example, at T = 1.

    Args:
        models: the models by name. One named "teacher" is run beside the others where a metric needs the logits of both.
        splits: the examples.

    Returns:
        What ``answers_of`` returned for each model, by its name.
    """
    teacher = models.get("teacher")
    return {
        name: answers_of(
            model, splits.test, teacher=None if model is teacher else teacher, progress=f"Testing the {name}"
        )
        for name, model in models.items()
    }


def main_metric(splits: Splits) -> str:
    """Return the metric that students are compared by: the task's score, or the likeness if the test set has no labels.

    Args:
        splits: the examples.
    """
    task = task_named(splits.task)
    return task.score if splits.has_test_labels else task.likeness


def test_metrics(logits: Tensor | Answers, splits: Splits, teacher_logits: Tensor | Answers | None) -> Measured:
    """Measure a model on the test set; of a test set without labels, its agreement with the teacher alone.

    Args:
        logits: what ``answers_of`` returned for the model and the test examples.
        splits: the examples.
        teacher_logits: the same for the teacher; None leaves the agreement out.

    Returns:
        The metrics; and of the task's score and the agreement, which are means over examples, the value of each example.
    """
    if isinstance(logits, Answers):
        assert not isinstance(teacher_logits, Tensor)
        return _measure_answers(logits, splits, teacher_logits)
    assert not isinstance(teacher_logits, Answers)
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


def validation_score(answers: Tensor | Answers, examples: Examples) -> float:
    """Return the metric that choices are made by, of the validation set.

    Args:
        answers: what ``answers_of`` returned for a model and the validation examples.
        examples: these examples, with the labels that count.
    """
    task = task_named(examples.task)
    metrics = answers.metrics if isinstance(answers, Answers) else task.metrics(answers, examples.labels)
    return metrics[task.score]


def _measure_answers(answers: Answers, splits: Splits, teacher: Answers | None) -> Measured:
    """Return the metrics of a set whose examples have several positions, those of each class included."""
    metrics, values = dict[str, float](), dict[str, Tensor]()
    if splits.has_test_labels:
        metrics = answers.metrics
        if (size := getattr(splits.test.load, "bytes_per_token", None)) is not None:
            metrics["bits_per_byte"] = -metrics["log_likelihood"] / math.log(2) / size
        if outside := getattr(splits.test.load, "outside", 0.0):
            metrics["outside"] = outside
        values[answers.task.score] = answers.values_of_examples(answers.task.score)
    if teacher is not None:
        values["agreement"] = answers.agreement(teacher)
        metrics["agreement"] = float(values["agreement"].mean())
    if splits.has_test_labels:
        for metric, of_classes in answers.class_metrics.items():
            names = zip(splits.label_names, of_classes.tolist(), strict=True)
            metrics |= {class_metric(metric, name): value for name, value in names if not math.isnan(value)}
    return Measured(metrics, {name: value.numpy() for name, value in values.items()})


def class_metric(metric: str, name: str) -> str:
    """Return the name of a metric of one class.

    Args:
        metric: such as "iou".
        name: the name of the class.
    """
    return f"{metric} of {name}"


def to_device(batch: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """Return a batch with its tensors on a device.

    Args:
        batch: tensors and other values by name.
        device: where to put the tensors.
    """
    return {name: value.to(device) if isinstance(value, Tensor) else value for name, value in batch.items()}

"""One real batch through a model before anything is trained: does it give logits that the run can use?"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.data import Splits
from limbeck.errors import ConfigError, LimbeckError
from limbeck.losses import SparseTargets
from limbeck.losses.inspection import are_probabilities
from limbeck.models.forward import NOT_MODEL_INPUTS, call_model, logits_of, only_logits_of, underlying
from limbeck.tasks import Targets, Task, task_named

LOOKED_AT = 8
"""The number of examples in the batch."""
LOOKED_AT_OF_TOKENS = 2
"""The same where each token has as many logits as there are tokens."""


def check_outputs(model: nn.Module, splits: Splits, key: str, *, columns: int | None = None) -> int:
    """Run a model on a few examples and, of texts, on the longest one, and check what it returns.

    Args:
        model: the model; its mode is left as it is.
        splits: the examples.
        key: the config's key of the model, for messages.
        columns: how many columns a student must have; None for a teacher, whose columns are compared by name.

    Returns:
        The number of its columns.

    Raises:
        ConfigError: it fails, returns no logits or probabilities, or logits of another shape, of no floating-point dtype or
            that are not finite; one line for each fault.
    """
    training, task = model.training, task_named(splits.task)
    faults: dict[str, None] = {}
    width = 0
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        for batch in look_batches(splits):
            try:
                batch = task.complete(batch, [model])
                output = call_model(model.eval(), batch)
                logits = only_logits_of(output, model) if columns is None else logits_of(output, model)
                rows = len(batch["labels"])
                if task.unit == "example":
                    logits = task.align(logits)
                else:  # the task says what is wrong with another shape
                    logits, _, targets = meet(task, logits, None, batch)
                    rows = int(targets.mask.sum())
                    if logits.shape[:-1] == targets.mask.shape:
                        logits = logits[targets.mask]
            except LimbeckError as error:
                faults |= dict.fromkeys(f"{key}: {fault}" for fault in error.faults)
            except Exception as error:  # whatever a model raises, the run would end in it
                faults |= {_failure(key, model, batch, error): None}
            else:
                faults |= dict.fromkeys(_faults(key, logits, rows, splits, columns))
                width = logits.shape[-1] if logits.dim() else 0
    model.train(training)
    if faults:
        raise ConfigError(*faults)
    return width


def look_batches(splits: Splits) -> Iterator[dict[str, Any]]:
    """Yield the first training examples, and then the longest text of all examples, if they are texts.

    Args:
        splits: the examples.
    """
    count = LOOKED_AT if splits.shape.classes else LOOKED_AT_OF_TOKENS
    yield splits.train.__getitems__(range(min(count, len(splits.train))))
    longest = None, 0, 0
    for part in (splits.train, splits.validation, splits.test):
        if (known := getattr(part.load, "lengths", None)) is not None:
            lengths = [known[i] for i in part.ids.tolist()]
            if lengths and max(lengths) > longest[2]:
                longest = part, lengths.index(max(lengths)), max(lengths)
    if longest[0] is not None:
        yield longest[0].__getitems__([longest[1]])


def meet(
    task: Task, student: Tensor, teacher: Tensor | SparseTargets | None, batch: dict[str, Any], *, shared: bool = True
) -> tuple[Tensor, Tensor | SparseTargets | None, Targets]:
    """Return the aligned logits of a student and a teacher, and the targets, as the trainer takes them.

    Embeddings of another width than the teacher's become zeros of that width: the trainer projects them.

    Args:
        task: that of the batch.
        student: what the student returned.
        teacher: what the teacher returned; None for none.
        batch: the batch.
        shared: whether a column of tokens stands for the same one in both models.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".* are interpolated to ")  # the trainer says it once
        student = task.align(task.fit(student, batch, "student"))
        if isinstance(teacher, Tensor):
            teacher = task.align(task.fit(teacher, batch, "teacher"))
            if not task.has_labels and student.shape[-1] != teacher.shape[-1]:  # in the place of a projector
                student = student @ student.new_zeros(student.shape[-1], teacher.shape[-1])
        elif teacher is not None:
            teacher = task.align_targets(teacher)
    if (
        task.unit == "token" and isinstance(teacher, Tensor) and shared
    ):  # what one has alone is padding: the tokens were compared
        columns = min(student.shape[-1], teacher.shape[-1])
        student, teacher = student[..., :columns], teacher[..., :columns]
    return student, teacher, task.targets(batch)


def _faults(key: str, logits: Tensor, rows: int, splits: Splits, columns: int | None) -> Iterator[str]:
    """Yield what is wrong with the logits of some examples."""
    task, width = task_named(splits.task), splits.shape.classes or "D"
    family, unit = task.family, task.unit
    what = "numbers" if family == "distance" else "classes"
    if logits.dim() != 2 or len(logits) != rows:
        yield (
            f"{key}: returned logits of shape {tuple(logits.shape)} for {rows} {unit}s. Expected ({rows}, {width}): one row "
            f"of logits for each {unit}."
        )
    elif columns is not None and logits.shape[-1] != columns:
        yield (
            f"{key}: has {logits.shape[-1]} output columns, and the data has {columns} {what}. Build it for {columns}: a "
            "function that takes an argument classes or num_classes is given the number; else set it in settings."
        )
    if not logits.is_floating_point():
        yield f"{key}: returned {str(logits.dtype).removeprefix('torch.')}. Expected logits, which are floating-point."
    elif bool((logits.isnan() | (logits == torch.inf)).any()) or bool(logits.isneginf().all(-1).any()):
        yield (
            f"{key}: its logits of the first training examples are not finite. Check its weights, its inputs (data.mean, "
            "data.std) and its dtype: float16 goes up to 65,504."
        )
    elif family in ("softmax", "sigmoid") and logits.dim() == 2 and logits.shape[-1] > 1 and are_probabilities(logits):
        remedy = "Set teacher.outputs: probabilities" if columns is None else "Leave out the softmax at its end"
        yield f"{key}: every row that it returned lies in [0, 1] and sums to 1: probabilities, not logits. {remedy}."


def _failure(key: str, model: nn.Module, batch: Mapping[str, Any], error: Exception) -> str:
    """Return the line about a model that raised an error of its own."""
    config, ids = getattr(underlying(model), "config", None), batch.get("input_ids")
    positions, known = (getattr(config, name, None) for name in ("max_position_embeddings", "vocab_size"))
    if ids is not None and known and int(ids.max()) >= known:
        return (
            f"data.tokenizer: gives the id {int(ids.max())}, and {key} knows {known} tokens. Name the tokenizer that the model "
            "was trained with."
        )
    if ids is not None and positions and ids.shape[1] > positions - 3:  # some count from the padding id on
        return (
            f"data.max_length: a text has {ids.shape[1]} tokens, and {key} has {positions} positions. Set data.max_length so "
            "that longer texts are cut off."
        )
    given = ", ".join(
        f"{name} {tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"
        for name, value in batch.items()
        if name not in NOT_MODEL_INPUTS and isinstance(value, Tensor)
    )
    reason = str(error).strip().partition("\n")[0] or type(error).__name__
    return f"{key}: {type(underlying(model)).__name__} fails on the first examples ({given}): {reason}"

"""``limbeck predict``: predict new inputs with a run's student."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

import torch
from torch import nn

from limbeck.data import IGNORE_INDEX, Examples, Preprocessing
from limbeck.data.new_inputs import NewInput, read_new_inputs
from limbeck.errors import DataError
from limbeck.evaluation import predict_logits
from limbeck.models import load_model
from limbeck.run.folder import STUDENT, read_run
from limbeck.tasks import Task, has_numbers, task_named

BATCH_SIZE = 256


@dataclass(frozen=True)
class Prediction:
    """The student's prediction for one input, at T = 1."""

    input: str
    """The file, or the text; of a row of a table, the file and the row."""
    label: str | None
    """The name of the most probable class, or what else the task answers in words; None if the input cannot be read."""
    probabilities: dict[str, float] = field(default_factory=dict)
    """The probability of every class, by its name."""
    columns: dict[str, Any] = field(default_factory=dict)
    """The other columns of the input's row, where it stands in a table."""
    error: str | None = None
    """Why the input cannot be read; None if it can."""
    numbers: dict[str, float] = field(default_factory=dict)
    """Of a regression each predicted number by the name of its column; of an embedding each number by its place."""


def predict(folder: str | Path, inputs: Sequence[str | Path], *, functions: Sequence[str] = ()) -> Iterator[Prediction]:
    """Predict images, texts or rows of tables.

    A run folder does not decide which code runs: a student that a ``package.module:function`` made is refused unless
    ``functions`` names it.

    Args:
        folder: the folder of a finished run.
        inputs: image files; or texts, and ``.txt`` files with one text on each line. For both: folders of such files, CSV,
            JSONL and Parquet files, and "-" for the lines of the standard input. Where the student reads a table: such files
            and folders of them.
        functions: names ``package.module:function`` that may be called.

    Returns:
        An iterator over one prediction for each image, text or row, in the order of the inputs. An input that cannot be read
        has an ``error`` in place of a label.

    Raises:
        ConfigError: the folder holds no finished run.
        DataError: nothing to predict was found, or a file or table is missing or cannot be read.
        ModelError: the student cannot be loaded.
    """
    folder = Path(folder)
    read_run(folder)
    model, read = load_model(folder / STUDENT, model=functions), Preprocessing.load(folder / STUDENT)
    task = task_named(read.task)
    columns = read.column if read.table is None else read.table.columns
    items = read_new_inputs(inputs, is_image=read.image is not None, column=columns)
    first = next(items, None)
    if first is None:
        raise DataError(f"{', '.join(map(str, inputs))}: nothing to predict in it.")
    items = chain([first], items)
    batches = iter(lambda: list(islice(items, BATCH_SIZE)), [])
    return (prediction for batch in batches for prediction in _predict_batch(model, task, read, batch))


def _predict_batch(model: nn.Module, task: Task, read: Preprocessing, items: Sequence[NewInput]) -> list[Prediction]:
    """Return the prediction for each input. One that cannot be read does not stop the others."""
    try:
        batch = read([item.content for item in items])
    except DataError as error:
        if len(items) == 1:
            name = items[0].name
            told = str(error) if name in str(error) else f"{name}: {error}"
            return [Prediction(name, None, columns=items[0].columns, error=told)]
        return [prediction for item in items for prediction in _predict_batch(model, task, read, [item])]
    logits = predict_logits(model, _unlabelled(batch, len(items), read.task))
    logits = logits if read.target is None else read.target.undo(logits)
    predictions = []
    for item, row in zip(items, logits, strict=True):
        label, told = task.tell(row, read.label_names)
        probabilities, numbers = ({}, told) if has_numbers(task) else (told, {})
        predictions.append(Prediction(item.name, label, probabilities, item.columns, numbers=numbers))
    return predictions


def _unlabelled(batch: dict[str, Any], count: int, task: str) -> Examples:
    """Return the inputs of a batch as examples without labels."""

    def load(rows: list[int]) -> dict[str, Any]:
        return {name: value[rows] for name, value in batch.items()}

    return Examples(load, torch.full((count,), IGNORE_INDEX), task=task)

"""``limbeck predict``: predict new inputs with a run's student."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from limbeck.data import IGNORE_INDEX, Examples, Preprocessing
from limbeck.errors import DataError
from limbeck.evaluation import predict_logits
from limbeck.models import load_model
from limbeck.run.folder import STUDENT, read_run
from limbeck.tasks import task_named

BATCH_SIZE = 256
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")


@dataclass(frozen=True)
class Prediction:
    """The student's prediction for one input, at T = 1."""

    input: str
    """The file, or the text."""
    label: str
    """The name of the most probable class; of a task with another kind of answer, that answer in words."""
    probabilities: dict[str, float]
    """The probability of every class, by its name."""


def predict(folder: str | Path, inputs: Sequence[str | Path], *, functions: Sequence[str] = ()) -> list[Prediction]:
    """Predict images or texts.

    A run folder does not decide which code runs: a student that a ``package.module:function`` made is refused unless
    ``functions`` names it.

    Args:
        folder: the folder of a finished run.
        inputs: image files and folders of them; or texts, and ``.txt`` files with one text on each line.
        functions: names ``package.module:function`` that may be called.

    Returns:
        One prediction for each image or text, in the order of the inputs.

    Raises:
        ConfigError: the folder holds no finished run.
        DataError: nothing to predict was found, or a file cannot be read.
        ModelError: the student cannot be loaded.
    """
    folder = Path(folder)
    read_run(folder)
    model, read = load_model(folder / STUDENT, model=functions), Preprocessing.load(folder / STUDENT)
    task = task_named(read.task)
    items = _list_items(inputs, is_image=read.image is not None)
    predictions = []
    for start in range(0, len(items), BATCH_SIZE):
        batch = items[start : start + BATCH_SIZE]
        examples = _unlabelled(read(batch), len(batch))
        for item, row in zip(batch, predict_logits(model, examples), strict=True):
            predictions.append(Prediction(str(item), *task.tell(row, read.label_names)))
    return predictions


def _list_items(inputs: Sequence[str | Path], *, is_image: bool) -> list[str]:
    """Return the image files or the texts that the inputs name."""
    items: list[str] = []
    for given in inputs:
        path = Path(given)
        if is_image and path.is_dir():
            items += sorted(str(p) for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
        elif is_image and not path.is_file():
            raise DataError(f"{given}: no such file. Expected an image, or a folder of images.")
        elif not is_image and path.suffix == ".txt" and path.is_file():
            items += [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        else:
            items.append(str(given))
    if not items:
        raise DataError(f"{', '.join(map(str, inputs))}: nothing to predict in it.")
    return items


def _unlabelled(batch: dict[str, Any], count: int) -> Examples:
    """Return the inputs of a batch as examples without labels."""

    def load(rows: list[int]) -> dict[str, Any]:
        return {name: value[rows] for name, value in batch.items()}

    return Examples(load, torch.full((count,), IGNORE_INDEX))

"""The images or rows that a teacher was trained on, compared with those of the data."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from limbeck.data import NumberFormat, Splits
from limbeck.data.preprocessing import PREPROCESSING_FILE
from limbeck.errors import ConfigError
from limbeck.models.forward import underlying


@dataclass(frozen=True)
class SavedInputs:
    """What the ``inputs.json`` beside a model says."""

    path: str
    """The file."""
    labels: tuple[str, ...]
    """The names of the model's classes."""
    image: dict[str, Any] = field(default_factory=dict)
    """The fields of the ``ImageFormat`` that it was trained on; empty if they are not told."""
    target: NumberFormat | None = None
    """How the numbers that it returns are standardised; None if it returns others."""
    table: dict[str, Any] | None = None
    """The fields of the ``TableFormat`` that it was trained on; None if it takes no rows of a table."""


def read_inputs(folder: Path | None) -> SavedInputs | None:
    """Read the ``inputs.json`` that a run wrote beside a model.

    Args:
        folder: where the model was loaded from, if that is a folder.

    Returns:
        What the file says; None if there is none.

    Raises:
        ConfigError: the file is broken.
    """
    path = None if folder is None else folder / PREPROCESSING_FILE
    if path is None or not path.is_file():
        return None
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        target = NumberFormat(**saved["target"]) if saved.get("target") else None
        return SavedInputs(
            str(path), tuple(saved["labels"]), dict(saved.get("image") or {}), target, saved.get("table")
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} cannot be read ({error}).") from None


def check_images(teacher: nn.Module, saved: SavedInputs | None, splits: Splits) -> None:
    """Check that a trained teacher is asked about images as it was trained on, where its folder or its config tells.

    Args:
        teacher: the model. Only the ``image_size`` of a Hugging Face config is read.
        saved: what ``inputs.json`` says, if there is one.
        splits: the examples.

    Raises:
        ConfigError: the images have another size, other channels or another normalisation; one line for each.
    """
    image = splits.preprocessing.image
    if image is None:
        return
    trained_on = {} if saved is None else saved.image
    size, source = trained_on.get("size"), saved.path if saved else "its config (image_size)"
    if saved is None:
        size = getattr(getattr(underlying(teacher), "config", None), "image_size", None)
    size = (size, size) if isinstance(size, int) else tuple(size or ())
    faults = []
    if len(size) == 2 and size != tuple(image.size):
        faults.append(
            f"data.image_size: the teacher was trained on images of {size[0]} x {size[1]}, says {source}, and the data has "
            f"{image.size[0]} x {image.size[1]}. Set data.image_size: {size[0]}"
            + (
                f", or teacher.settings: {{image_size: {image.size[0]}}} if its config is wrong."
                if saved is None
                else "."
            )
        )
    for name in ("channels", "mean", "std"):
        there, here = trained_on.get(name), getattr(image, name)
        if there is not None and _as_list(there) != _as_list(here):
            faults.append(f"data.{name}: the teacher was trained with {there}, says {source}, and the data has {here}.")
    if faults:
        raise ConfigError(*faults)


def check_table(saved: SavedInputs | None, splits: Splits) -> None:
    """Check that a trained model is asked about rows of the columns and with the standardisation of its training.

    Args:
        saved: what ``inputs.json`` says, if there is one.
        splits: the examples.

    Raises:
        ConfigError: the columns, their categories or their means and standard deviations are others; one line for each kind.
    """
    if saved is None or (saved.table is None and splits.preprocessing.table is None):
        return
    there, here = saved.table or {}, splits.preprocessing.table
    faults = []
    for kind in ("numbers", "categories"):
        theirs, ours = there.get(kind, {}), {} if here is None else getattr(here, kind)
        if list(theirs) != list(ours):
            faults.append(
                f"data.columns: the model was trained on the {kind} {_listed(theirs)}, says {saved.path}, and the data has "
                f"{_listed(ours)}. Name the same columns in the same order."
            )
        elif different := [name for name in ours if theirs[name] != ours[name]]:
            what = "mean or standard deviation" if kind == "numbers" else "categories"
            faults.append(
                f"data.name: the {what} of column {different[0]!r} is not that of the model's training ({saved.path}): "
                f"{ours[different[0]]} here, {theirs[different[0]]} there. Use the same training examples."
            )
    if faults:
        raise ConfigError(*faults)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "of no column"


def _as_list(value: Any) -> list[Any]:
    """Return one number, or one for each channel, as a list with all of them where they differ."""
    values = list(value) if isinstance(value, list | tuple) else [value]
    return values[:1] if len(set(values)) == 1 else values

"""The images or rows that a teacher was trained on, compared with those of the data."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from limbeck.config import Config
from limbeck.data import DataConfig, NumberFormat, Splits, load_splits
from limbeck.data.images import ImageFormat
from limbeck.data.preprocessing import PREPROCESSING_FILE
from limbeck.data.splits import HELD_OUT_SIZES
from limbeck.errors import ConfigError, DataError
from limbeck.models import InputFormat, input_format_of
from limbeck.models.forward import underlying
from limbeck.run.language import keep_tokens


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


def load_run_splits(config: Config) -> Splits:
    """Read and split the data of a run. What the config leaves open about images is as its published model was trained.

    Args:
        config: the run. The first teacher that tells its images decides, or else the student.

    Returns:
        The examples; a note says what was taken from the model. If the student knows some tokens alone, they have these.

    Raises:
        ConfigError: the tokens of the data cannot be cut.
        DataError: the data cannot be read.
        ModelError: a model's files cannot be understood.
    """
    return keep_tokens(config, _load_splits(config))


def _load_splits(config: Config) -> Splits:
    named = [*config.teacher.models, config.student]
    told = next((found for model in named if model.model and (found := model.input_format()) is not None), None)
    data = config.data if told is None else _as_trained(config.data, told)
    if told is None or data == config.data:
        return load_splits(config.data, seed=config.seed, task=config.task)
    try:
        splits = load_splits(data, seed=config.seed, task=config.task)
    except DataError:  # the data are no such images: what is wrong is said in terms of the config
        return load_splits(config.data, seed=config.seed, task=config.task)
    image = splits.preprocessing.image
    if image is not None:
        splits.notes.append(
            f"Images are {image.size[0]} x {image.size[1]}, with mean {image.mean} and std {image.std}, as {told.source} says."
        )
    return splits


def _as_trained(data: DataConfig, told: InputFormat) -> DataConfig:
    """Return the settings of the data, with what they leave open about images taken from a model."""
    filled: dict[str, Any] = {"mean": told.mean, "std": told.std}
    if told.size is not None and told.size[0] == told.size[1] and data.name not in HELD_OUT_SIZES:
        filled["image_size"] = told.size[0]
    if len(told.mean or ()) == 3:
        filled["channels"] = 3
    return dataclasses.replace(data, **{name: value for name, value in filled.items() if getattr(data, name) is None})


def notes_on_images(model: nn.Module, splits: Splits, key: str) -> list[str]:
    """Return a sentence if a model that is to be trained has seen images of another normalisation. Training adapts it.

    Args:
        model: the model.
        splits: the examples.
        key: the config's key of the model.

    Raises:
        ModelError: the model's files cannot be understood.
    """
    image, told = splits.preprocessing.image, input_format_of(model)
    if image is None or told is None:
        return []
    return [
        f"{key}: its weights were trained with {name} {_as_list(there)}, says {told.source}, and the data has {_as_list(here)}."
        for name, there, here in (("mean", told.mean, image.mean), ("std", told.std, image.std))
        if there is not None and not _are_close(there, here)
    ]


def check_images(teacher: nn.Module, saved: SavedInputs | None, splits: Splits) -> None:
    """Check that a trained teacher is asked about images as it was trained on, where its folder or its config tells.

    Args:
        teacher: the model. What ``input_format_of`` tells and the ``image_size`` of a Hugging Face config are read.
        saved: what ``inputs.json`` says, if there is one.
        splits: the examples.

    Raises:
        ConfigError: the images have another size, other channels or another normalisation; one line for each.
    """
    image = splits.preprocessing.image
    if image is None:
        return
    told = input_format_of(teacher) if saved is None else None
    trained_on = {} if saved is None else saved.image
    size, source = trained_on.get("size"), saved.path if saved else "its config (image_size)"
    if told is not None:
        trained_on = {"mean": told.mean, "std": told.std}
        splits.notes.extend(_notes_on_resizing(told, image))
    if saved is None:
        size = getattr(getattr(underlying(teacher), "config", None), "image_size", None)
    size = (size, size) if isinstance(size, int) else tuple(size or ())
    faults = []
    if len(size) == 2 and size != tuple(image.size):
        faults.append(
            f"data.image_size: the teacher was trained on images of {size[0]} x {size[1]}, says {source}, and the data has "
            f"{image.size[0]} x {image.size[1]}. Set data.image_size: {_side(size)}"
            + (
                f", or teacher.settings: {{image_size: {_side(image.size)}}} if its config is wrong."
                if saved is None
                else "."
            )
        )
    for name in ("channels", "mean", "std"):
        there, here = trained_on.get(name), getattr(image, name)
        if there is not None and not _are_close(there, here):
            says = source if told is None else told.source
            shown = _as_list(there) if len(_as_list(there)) > 1 else _as_list(there)[0]
            faults.append(
                f"data.{name}: the teacher was trained with {shown}, says {says}, and the data has {here}. "
                f"Set data.{name}: {shown}."
            )
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


def _notes_on_resizing(told: InputFormat, image: ImageFormat) -> list[str]:
    """Return what is resized in another way than in a teacher's training, which a network of any input size endures."""
    notes = []
    if told.size is not None and told.size != tuple(image.size):
        here = f"{image.size[0]} x {image.size[1]}"
        notes.append(
            f"The teacher was trained on images of {told.size[0]} x {told.size[1]} ({told.source}) and is given {here}."
        )
    if told.resample not in (None, "bilinear"):
        notes.append(
            f"Images are resized by bilinear interpolation; the teacher's were by {told.resample} ({told.source})."
        )
    return notes


def _are_close(there: Any, here: Any) -> bool:
    """Return True if two numbers, or two lists with one for each channel, mean the same normalisation."""
    first, second = _as_list(there), _as_list(here)
    pairs = zip(first, second, strict=False)
    return len(first) == len(second) and all(math.isclose(a, b, abs_tol=1e-4) for a, b in pairs)


def _side(size: Sequence[int]) -> int | list[int]:
    """Return the height and width as a config has them: one number for a square."""
    return size[0] if size[0] == size[1] else list(size)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "of no column"


def _as_list(value: Any) -> list[Any]:
    """Return one number, or one for each channel, as a list with all of them where they differ."""
    values = list(value) if isinstance(value, list | tuple) else [value]
    return values[:1] if len(set(values)) == 1 else values

"""How the pixels of images were normalised for a model of Transformers: what the file beside its weights says."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from torch import nn

from limbeck.models.forward import underlying
from limbeck.models.tokens import folder_with

PROCESSOR_FILE = "preprocessor_config.json"


@dataclass(frozen=True)
class Normalisation:
    """What a model was trained on: (x - mean) / std of pixels x between 0 and 1."""

    mean: list[float]
    """One number, or one for each channel."""
    std: list[float]
    """The same."""
    path: str
    """The file that says so."""


def saved_normalisation(model: nn.Module) -> Normalisation | None:
    """Return how the images of a model were normalised, from the file beside its weights. No hub is asked.

    Args:
        model: any module. One of Transformers knows its folder, or the id whose files Transformers has downloaded before.

    Returns:
        The mean and the standard deviation for pixels between 0 and 1; None if there is no such file, or it does not say.
    """
    name = getattr(underlying(model), "name_or_path", None)
    folder = folder_with((PROCESSOR_FILE,), name) if isinstance(name, str) and name else None
    path = None if folder is None else folder / PROCESSOR_FILE
    if path is None or not path.is_file():
        return None
    try:
        found = _in_numbers_from_0_to_1(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, AttributeError, ZeroDivisionError):  # a file of another program
        return None
    return found and Normalisation(*found, str(path))


def _in_numbers_from_0_to_1(saved: dict[str, Any]) -> tuple[list[float], list[float]] | None:
    """Return the mean and the standard deviation of pixels from 0 to 1, where the file has those of pixels from 0 to 255."""
    mean, std = [0.0], [1.0]
    if saved.get("do_normalize", True):
        mean, std = saved.get("image_mean"), saved.get("image_std")
        if mean is None or std is None:
            return None
    factor = 255 * float(saved.get("rescale_factor", 1 / 255)) if saved.get("do_rescale", True) else 255.0
    offset = 1.0 if saved.get("rescale_offset") else 0.0  # EfficientNet has this one, and divides twice by std
    power = 2 if saved.get("include_top") else 1
    return [(float(m) + offset) / factor for m in _several(mean)], [float(s) ** power / factor for s in _several(std)]


def _several(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]

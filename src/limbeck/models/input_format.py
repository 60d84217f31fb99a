"""The images that a published model was trained on: their size, normalisation and resizing, where its files tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from limbeck.errors import ModelError
from limbeck.models.forward import underlying

PROCESSOR = "preprocessor_config.json"
RESAMPLING = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
"""The names of Pillow's numbers for the ways to resize, which files of image processors have."""


@dataclass(frozen=True)
class InputFormat:
    """The images that a model was trained on: x between 0 and 1 becomes (x - mean) / std."""

    source: str
    """Where this is told, for messages."""
    size: tuple[int, int] | None = None
    """Height and width in pixels."""
    mean: tuple[float, ...] | None = None
    """The number that is subtracted, one for each channel."""
    std: tuple[float, ...] | None = None
    """The number that is divided by, one for each channel."""
    resample: str | None = None
    """How images are resized, such as "bilinear"."""


def input_format_of(model: nn.Module) -> InputFormat | None:
    """Return the format of the images that a model was trained on.

    Args:
        model: any module; wrappers around it are looked through. One of timm or torchvision has it from ``build_model`` or
            ``load_trained_model``; one of Transformers from the ``preprocessor_config.json`` beside its weights.

    Returns:
        The format, or None if nothing tells it.

    Raises:
        ModelError: the file cannot be understood.
    """
    inside = underlying(model)
    own, name = getattr(inside, "input_format", None), getattr(inside, "name_or_path", None)
    if isinstance(own, InputFormat):
        return own
    return input_format_of_processor(name) if isinstance(name, str) and name else None


def input_format_of_processor(name: str) -> InputFormat | None:
    """Return what the image processor of a model of Transformers does to images.

    Args:
        name: a Hugging Face id or folder.

    Returns:
        The format, or None if there is no image processor.

    Raises:
        ModelError: its file has values that cannot be understood.
    """
    from transformers.image_processing_base import ImageProcessingMixin

    try:
        saved = ImageProcessingMixin.get_image_processor_dict(name)[0]
    except (OSError, ValueError) as error:
        if (Path(name) / PROCESSOR).is_file():
            raise ModelError(f"{Path(name) / PROCESSOR}: cannot be read ({error}).") from None
        return None
    source = f"{name}/{PROCESSOR}"
    try:
        return _format_of_processor(saved, source)
    except (TypeError, ValueError, KeyError, AttributeError, ZeroDivisionError) as error:
        raise ModelError(f"model {name!r}: its {PROCESSOR} cannot be understood ({error}).") from None


def _format_of_processor(saved: Mapping[str, Any], source: str) -> InputFormat:
    cropped = saved.get("do_center_crop") and saved.get("crop_size") is not None
    size = _size(saved["crop_size"] if cropped else saved.get("size")) if saved.get("do_resize", True) else None
    # A processor computes (255 x f - m) / s with its rescale_factor f, where x is between 0 and 1.
    factor = 255 * float(saved.get("rescale_factor", 1 / 255)) if saved.get("do_rescale", True) else 255.0
    offset = 1.0 if saved.get("rescale_offset") else 0.0  # EfficientNet has this one,
    power = 2 if saved.get("include_top") else 1  # and divides twice by std
    mean, std = saved.get("image_mean"), saved.get("image_std")
    if not saved.get("do_normalize", True):
        mean, std = 0.0, 1.0
    resample = saved.get("resample")
    return InputFormat(
        source,
        size,
        None if mean is None else tuple(round((float(value) + offset) / factor, 9) for value in _listed(mean)),
        None if std is None else tuple(round(float(value) ** power / factor, 9) for value in _listed(std)),
        RESAMPLING.get(resample) if isinstance(resample, int) else resample,
    )


def _size(size: Any) -> tuple[int, int] | None:
    """Return height and width from a number, a pair, or a mapping with height and width or the shortest edge."""
    if isinstance(size, Mapping):
        if "height" in size:
            return int(size["height"]), int(size["width"])
        size = size.get("shortest_edge")
    if size is None:
        return None
    height, width = (size, size) if isinstance(size, int) else size
    return int(height), int(width)


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, Sequence) else [value]

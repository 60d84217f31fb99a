"""Examples as a page shows them: an image or a text, with the true labels."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import torch
from torch import Tensor

from limbeck.data import IGNORE_INDEX, Examples

MOST_CHARACTERS = 300
"""Where a long text is cut."""
MOST_PIXELS = 96
"""The most pixels on a side of an image."""


@dataclass(frozen=True)
class Shown:
    """One example."""

    title: str
    labels: tuple[int, ...] | None
    """The true class, or where there are several all classes that are there; None if that is not known of each class."""
    image: str | None = None
    """The image as a ``data:`` address; None if the example is no image."""
    text: str | None = None
    """The text; None if the example is no text."""


def show_examples(examples: Examples, rows: Tensor) -> list[Shown]:
    """Return examples as a page shows them.

    Args:
        examples: such as the test set, with one class for each example, or 0 or 1 for each class.
        rows: the positions of the examples that are wanted.
    """
    some = examples.subset(rows)
    batch, tokenizer = some.as_one_batch(), examples.tokenizer
    shown = []
    for row, (number, label) in enumerate(zip(rows.tolist(), some.labels.tolist(), strict=True)):
        image = image_address(batch["pixel_values"][row]) if "pixel_values" in batch else None
        text = None
        if tokenizer is not None and "input_ids" in batch:
            text = tokenizer.decode(batch["input_ids"][row].tolist(), skip_special_tokens=True)
            text = text if len(text) <= MOST_CHARACTERS else text[:MOST_CHARACTERS].rsplit(" ", 1)[0] + " [cut]"
        shown.append(Shown(f"Test example {number}", _classes_of(label), image, text))
    return shown


def _classes_of(label: int | list[float]) -> tuple[int, ...] | None:
    """Return the classes that a label names; None if it is not known."""
    if isinstance(label, list):
        return None if IGNORE_INDEX in label else tuple(i for i, value in enumerate(label) if value > 0.5)
    return None if label == IGNORE_INDEX else (label,)


def image_address(pixels: Tensor) -> str:
    """Return an image as the ``data:`` address of a PNG, with its darkest and its lightest value stretched to black and white.

    Args:
        pixels: (C, H, W), with 1 or 3 channels. A larger image is made smaller.
    """
    from PIL import Image

    pixels = (pixels - pixels.min()) / (pixels.max() - pixels.min()).clamp(min=1e-6)
    array = (255 * pixels).round().to(torch.uint8).permute(1, 2, 0).squeeze(-1).numpy()
    image = Image.fromarray(array)
    image.thumbnail((MOST_PIXELS, MOST_PIXELS))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()

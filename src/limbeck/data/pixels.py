"""One image, from whatever holds it to pixels whose range is known: 8 bits, or numbers from 0 to 1."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from limbeck.errors import DataError

GREY_MODES = ("1", "L", "LA", "La", "I", "F")
"""Pillow's modes of images without colour, besides those of 16 bits, which begin with "I;16"."""
LARGEST_16_BIT = 65_535


def is_grey(mode: str) -> bool:
    """Return True if images of a mode of Pillow have no colour.

    Args:
        mode: such as "L", "RGB" or "I;16".
    """
    return mode in GREY_MODES or mode.startswith("I;16")


def open_image(image: Any) -> Any:
    """Return a PIL image whose pixels have a known range.

    Args:
        image: a file name, a PIL image, or an array (H, W) or (H, W, C) with values from 0 to 255, or uint16.

    Returns:
        An image of at most 8 bits, or one of mode "F" with values from 0 to 1. An image of a file stands upright.

    Raises:
        DataError: the file cannot be read, the array is no image, or the range of the pixels is not known. A file is named.
    """
    from PIL import Image, ImageOps

    if isinstance(image, Image.Image):
        return _known_range(image)
    if not isinstance(image, str | Path):
        return _known_range(_image_of(np.asarray(image)))
    try:
        with Image.open(image) as opened:
            opened.load()
            # as the `datasets` library does with the images that a student is trained on
            return ImageOps.exif_transpose(_known_range(opened))
    except DataError:
        raise
    except Exception as error:  # every decoder raises its own
        raise DataError(f"{image}: not an image that can be read ({error}).") from None


def _known_range(image: Any) -> Any:
    """Return a PIL image as it is if its pixels have at most 8 bits; one of mode "F", from 0 to 1, if they have 16.

    Pillow itself cuts 16-bit pixels off at 255, so that nearly all of them become white.
    """
    from PIL import Image

    is_16_bit_png = image.mode == "I" and image.format == "PNG"  # before version 11.3, Pillow opened them as 32-bit
    if image.mode.startswith("I;16") or is_16_bit_png:
        floats = Image.fromarray(np.array(image, dtype=np.float32) / LARGEST_16_BIT)
        floats.info = image.info  # says which way is up
        return floats
    if image.mode in ("I", "F"):
        kind = "integers" if image.mode == "I" else "floats"
        raise DataError(
            f"{_name(image)}: has 32-bit {kind} as pixels, whose range is not known. Save it with 8 or 16 bits."
        )
    return image


def _image_of(array: np.ndarray) -> Any:
    """Return the PIL image of an array of pixels."""
    from PIL import Image

    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.size == 0 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[-1] in (3, 4))):
        raise DataError(f"an image: expected an array (H, W), (H, W, 3) or (H, W, 4), got shape {array.shape}.")
    if array.dtype == np.bool_:
        return Image.fromarray(array.astype(np.uint8) * 255)
    if array.dtype == np.uint16:
        # Pillow has no colour images of 16 bits
        return Image.fromarray(array if array.ndim == 2 else (array / 257).round().astype(np.uint8))
    if array.dtype.kind not in "uif":
        raise DataError(f"an image: expected an array of numbers, got {array.dtype}.")
    low, high = float(array.min()), float(array.max())
    if not (low >= 0 and high <= 255) or (array.dtype.kind == "f" and 0 < high <= 1):
        raise DataError(
            f"an image: expected pixels from 0 to 255, or uint16 from 0 to {LARGEST_16_BIT:,}, got {array.dtype} from {low:g} "
            f"to {high:g}."
        )
    return Image.fromarray(array.astype(np.uint8))


def _name(image: Any) -> str:
    """Return the file that an image was read from, or what else it can be called."""
    return str(getattr(image, "filename", "") or "an image")

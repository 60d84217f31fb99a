"""Images: from files and arrays to pixel values, and the random changes that teacher and student share."""

from __future__ import annotations

import gzip
import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import xxhash
from pydantic import Field
from torch import Tensor

from limbeck.data.pixels import open_image
from limbeck.errors import ArgumentError, DataError
from limbeck.field_checks import check_fields
from limbeck.losses import IGNORE_INDEX

LARGEST = 4096
"""The most views of an example, and the most pixels that a view is shifted by."""


@dataclass(frozen=True)
class ImageFormat:
    """How an image becomes pixel values: its size, its channels, and (x - mean) / std with x between 0 and 1.

    Raises:
        ArgumentError: ``mean`` or ``std`` has neither one value nor one for each channel.
    """

    size: tuple[int, int]
    """Height and width in pixels."""
    channels: int
    """1 for grey, 3 for colour."""
    mean: float | Sequence[float] = 0.0
    """The number that is subtracted, or one number for each channel."""
    std: float | Sequence[float] = 1.0
    """The number that is divided by, or one number for each channel."""

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            value = getattr(self, name)
            if isinstance(value, Sequence) and len(value) not in (1, self.channels):
                raise ArgumentError(
                    name, f"expected one number, or one for each of {self.channels} channels, got {list(value)}."
                )

    def __call__(self, images: Sequence[Any]) -> Tensor:
        """Turn images into pixel values.

        Args:
            images: PIL images, file names, or arrays (H, W) or (H, W, C) with values from 0 to 255, or uint16 to 65,535.

        Returns:
            (N, C, H, W) float32, normalised.

        Raises:
            DataError: a file is not an image that can be read, or the range of its pixels is not known.
        """
        return self.normalise(torch.stack([self._pixels(image) for image in images]))

    def normalise(self, pixels: Tensor) -> Tensor:
        """Subtract the mean and divide by the standard deviation.

        Args:
            pixels: (N, C, H, W) with values from 0 to 1.

        Returns:
            (N, C, H, W) float32.
        """
        mean, std = (torch.as_tensor(value, dtype=torch.float32).reshape(-1, 1, 1) for value in (self.mean, self.std))
        return (pixels - mean) / std

    def _pixels(self, image: Any) -> Tensor:
        """Return one image as (C, H, W) with values from 0 to 1."""
        from PIL import Image

        image, largest = open_image(image), 1.0
        if image.mode != "F":
            image, largest = image.convert("L" if self.channels == 1 else "RGB"), 255
        height, width = self.size
        if image.size != (width, height):
            image = image.resize((width, height), Image.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.array(image, dtype=np.float32) / largest)
        return pixels.expand(self.channels, -1, -1) if pixels.dim() == 2 else pixels.permute(2, 0, 1)


def read_idx(path: Path) -> Tensor:
    """Read one IDX file of unsigned bytes, the format of MNIST.

    Args:
        path: the file. If it does not exist, the gzipped file beside it with ``.gz`` after its name is read.

    Returns:
        A uint8 tensor with the shape that the file says.

    Raises:
        DataError: the file is missing, cut short or not IDX.
    """
    found = next((p for p in (path, path.with_name(path.name + ".gz")) if p.is_file()), None)
    if found is None:
        raise DataError(f"{path}: no such file, nor {path.name}.gz.")
    try:
        content = gzip.decompress(found.read_bytes()) if found.suffix == ".gz" else found.read_bytes()
        zero, kind, dimensions = struct.unpack(">HBB", content[:4])
        shape = struct.unpack(f">{dimensions}I", content[4 : 4 + 4 * dimensions])
        values = np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions)
        if zero or kind != 8 or values.size != int(np.prod(shape)):
            raise ValueError("its header does not fit its content")
    except (OSError, EOFError, ValueError, struct.error) as error:
        raise DataError(f"{found}: not a whole IDX file of bytes ({error}).") from None
    return torch.from_numpy(values.reshape(shape).copy())


@dataclass(frozen=True)
class Augmentation:
    """Random changes to a batch of images. Teacher and student see the same changed image, as Beyer et al. (2022) advise.

    Raises:
        ArgumentError: a field has another type, or a number is negative.

    Example:
        >>> batch = {"pixel_values": torch.rand(4, 1, 8, 8), "labels": torch.arange(4)}
        >>> sorted(Augmentation(shift=1, mixup=0.2)(batch))
        ['labels', 'mixup_labels', 'mixup_weight', 'pixel_values']
    """

    shift: Annotated[int, Field(ge=0)] = 0
    """Each image is moved by up to this many pixels in either direction, and filled with its own border."""
    flip: bool = False
    """Mirror each image left to right with probability 1/2."""
    mixup: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """The parameter of Beta(mixup, mixup), which draws the weights of two images that are mixed; 0 for no mixing. The hard term
    counts both labels by these weights (Zhang et al., "mixup", 2018)."""
    cutmix: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """The parameter of Beta(cutmix, cutmix), which draws how much of an image a box of another image leaves; 0 for no boxes.
    The hard term counts both labels by their areas (Yun et al., "CutMix", 2019). With mixup as well, each batch has one of
    both, with probability 1/2."""

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def is_on(self) -> bool:
        """Return True if images are changed at all."""
        return bool(self.shift or self.flip or self.mixes)

    @property
    def mixes(self) -> bool:
        """Return True if images are mixed with others of their batch, so that a view is not one example's own."""
        return bool(self.mixup or self.cutmix)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Change the images of a batch.

        Args:
            batch: ``pixel_values`` (N, C, H, W), and perhaps ``labels`` (N, ...). Labels of pixels (N, H, W) and their ``mask``
                are moved with the images. It is left as it is.

        Returns:
            A new batch. After mixup or cutmix it also has ``mixup_labels``, the labels of the images that were mixed in, and
            ``mixup_weight``, the share of the first image and label. An image without a label is mixed with such images.
        """
        images: Tensor = batch["pixel_values"]
        if self.shift:
            down, right = torch.randint(0, 2 * self.shift + 1, (2, len(images)), device=images.device)
            batch = _moved(batch, lambda pixels: _shift(pixels, self.shift, down, right))
        if self.flip:
            chosen = torch.rand(len(images), device=images.device) < 0.5
            batch = _moved(batch, lambda pixels: _mirror(pixels, chosen))
        return self._mixed(batch) if self.mixes else dict(batch)

    def _mixed(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Return a batch in which each image is mixed with another."""
        images, labels = batch["pixel_values"], batch.get("labels")
        cuts = self.mixup == 0 or (self.cutmix > 0 and bool(torch.rand(()) < 0.5))
        alpha = self.cutmix if cuts else self.mixup
        share = torch.distributions.Beta(alpha, alpha).sample().item()
        partner = _partners(images, labels)
        if cuts:
            mixed, (rows, columns) = images.clone(), _box(images.shape[-2], images.shape[-1], share)
            mixed[..., rows, columns] = images[partner, :, rows, columns]
            share = 1 - mixed[0, 0, rows, columns].numel() / mixed[0, 0].numel()
        else:
            mixed = share * images + (1 - share) * images[partner]
        batch = {**batch, "pixel_values": mixed}
        if labels is None:
            return batch
        if cuts and labels.dim() == 3:  # a class for each pixel
            raise ArgumentError("cutmix", "labels of pixels are not mixed by areas. Leave it out for dense prediction.")
        return {**batch, "mixup_weight": share, "mixup_labels": labels[partner]}


@dataclass(frozen=True)
class FixedViews:
    """A few views of each example that never change, so that a teacher can be asked about all of them before training.

    Which of its views an example shows is drawn again for every batch. What a view looks like depends on nothing but the seed,
    the example's id and the view's number.

    Raises:
        ArgumentError: count or shift is out of range, or all views would be the same.

    Example:
        >>> batch = {"pixel_values": torch.rand(4, 1, 8, 8), "example_id": torch.arange(4)}
        >>> sorted(FixedViews(3, shift=1)(batch))
        ['example_id', 'pixel_values', 'view_id']
    """

    count: int
    """The number of views of each example, 2 to 4096."""
    shift: int = 0
    """Each view is moved by up to this many pixels in either direction, and filled with its own border."""
    flip: bool = False
    """Mirror each view left to right with probability 1/2."""
    seed: int = 0
    """Another seed gives other views."""

    def __post_init__(self) -> None:
        if not 2 <= self.count <= LARGEST or not 0 <= self.shift <= LARGEST:
            expected = f"expected 2 to {LARGEST}, shifted by 0 to {LARGEST} pixels"
            raise ArgumentError("views", f"{expected}, got {self.count}, {self.shift}.")
        if not self.shift and not self.flip:
            raise ArgumentError("views", "without shift or flip they would all be the same.")

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Draw a view of each example.

        Args:
            batch: ``pixel_values`` (N, C, H, W) and ``example_id`` (N,). It is left as it is.

        Returns:
            A new batch with these views, and ``view_id`` (N,), their numbers.
        """
        return self.select(batch, torch.randint(self.count, batch["example_id"].shape))

    def select(self, batch: dict[str, Any], view: Tensor) -> dict[str, Any]:
        """Make the views that are asked for.

        Args:
            batch: ``pixel_values`` (N, C, H, W) and ``example_id`` (N,). It is left as it is.
            view: (N,) integers from 0 to ``count`` - 1, the number of the view of each example.

        Returns:
            A new batch with these views, and ``view_id`` (N,), their numbers.
        """
        pairs = zip(batch["example_id"].tolist(), view.tolist(), strict=True)
        drawn = torch.tensor([xxhash.xxh3_64_intdigest(f"{self.seed} {i} {v}".encode()) >> 1 for i, v in pairs])
        drawn = drawn.to(batch["pixel_values"].device)
        if self.shift:
            places = 2 * self.shift + 1
            batch = _moved(batch, lambda pixels: _shift(pixels, self.shift, drawn % places, drawn // places % places))
        if self.flip:
            batch = _moved(batch, lambda pixels: _mirror(pixels, (drawn >> 62).bool()))
        return {**batch, "view_id": view}


def _partners(images: Tensor, labels: Tensor | None) -> Tensor:
    """Return the number of the image that each is mixed with: a random order in which labelled images have labelled ones."""
    drawn = torch.rand(len(images), device=images.device)
    if labels is None:
        return drawn.argsort()
    labelled = (labels != IGNORE_INDEX).reshape(len(labels), -1).any(-1).to(images.device, torch.int)
    partner = torch.empty_like(labelled, dtype=torch.long)
    partner[labelled.argsort(stable=True)] = (drawn + labelled).argsort()
    return partner


def _box(height: int, width: int, share: float) -> tuple[slice, slice]:
    """Return rows and columns of a box that leaves ``share`` of an image, at a random centre; the border may cut it."""
    sides = []
    for length in (height, width):
        cut = int(length * math.sqrt(1 - share))
        first = int(torch.randint(length, ())) - cut // 2
        sides.append(slice(max(0, first), min(length, first + cut)))
    return sides[0], sides[1]


def _moved(batch: dict[str, Any], move: Callable[[Tensor], Tensor]) -> dict[str, Any]:
    """Return a batch whose images are moved, and in the same way the labels and the mask of pixels, (N, H, W)."""
    changed = {"pixel_values": move(batch["pixel_values"])}
    for name in ("labels", "mask"):
        if name in batch and batch[name].dim() == 3:
            changed[name] = move(batch[name].unsqueeze(1)).squeeze(1)
    return {**batch, **changed}


def _mirror(images: Tensor, chosen: Tensor) -> Tensor:
    """Mirror the images (N, C, H, W) where ``chosen`` (N,) is True."""
    return torch.where(chosen[:, None, None, None], images.flip(-1), images)


def _shift(images: Tensor, pixels: int, down: Tensor, right: Tensor) -> Tensor:
    """Move each image (N, C, H, W) up and left by ``down`` and ``right`` (N,) less ``pixels``, and fill it with its border."""
    count, channels, height, width = images.shape
    rows = (down[:, None] - pixels + torch.arange(height, device=images.device)).clamp(0, height - 1)
    columns = (right[:, None] - pixels + torch.arange(width, device=images.device)).clamp(0, width - 1)
    example = torch.arange(count, device=images.device)[:, None, None, None]
    channel = torch.arange(channels, device=images.device)[None, :, None, None]
    return images[example, channel, rows[:, None, :, None], columns[:, None, None, :]]

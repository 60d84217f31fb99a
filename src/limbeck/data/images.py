"""Images: from files and arrays to pixel values, and the augmentation that teacher and student share."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xxhash
from torch import Tensor

from limbeck.errors import ArgumentError, DataError


@dataclass(frozen=True)
class ImageFormat:
    """How an image becomes pixel values: size (H, W), channels, and (x - mean) / std with x in [0, 1]."""

    size: tuple[int, int]
    channels: int
    mean: float | Sequence[float] = 0.0
    std: float | Sequence[float] = 1.0

    def __call__(self, images: Sequence[Any]) -> Tensor:
        """PIL images, file names or arrays (H, W) or (H, W, C) with values 0 to 255 -> (N, C, H, W) float32."""
        return self.normalise(torch.stack([self._one(image) for image in images]))

    def normalise(self, pixels: Tensor) -> Tensor:
        """(N, C, H, W) with values in [0, 1] -> the same, normalised."""
        mean, std = (torch.as_tensor(value, dtype=torch.float32).reshape(-1, 1, 1) for value in (self.mean, self.std))
        return (pixels - mean) / std

    def _one(self, image: Any) -> Tensor:
        from PIL import Image

        if isinstance(image, str | Path):
            try:
                image = Image.open(image)
            except (OSError, ValueError) as error:
                raise DataError(f"{image}: not an image that can be read ({error}).") from None
        elif not isinstance(image, Image.Image):
            image = Image.fromarray(np.asarray(image).astype(np.uint8))
        image = image.convert("L" if self.channels == 1 else "RGB")
        height, width = self.size
        if image.size != (width, height):
            image = image.resize((width, height), Image.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.array(image, dtype=np.float32) / 255)
        return pixels.unsqueeze(0) if self.channels == 1 else pixels.permute(2, 0, 1)


def read_idx(path: Path) -> Tensor:
    """Read one IDX file of unsigned bytes (the format of MNIST), gzipped or not.

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
    """Random views of a batch of images. Teacher and student see the same view (Beyer et al., 2022, call it consistent).

    Args:
        shift: move each image by up to this many pixels in either direction, filling with its own border.
        flip: mirror each image left to right with probability 1/2.
        mixup: the parameter of Beta(mixup, mixup), which draws the weight of each image when it is mixed with another one of
            the batch; 0 for none. The hard term counts both labels by these weights. (Zhang et al., "mixup", 2018.)

    Raises:
        ArgumentError: shift or mixup is negative.

    Example:
        >>> batch = {"pixel_values": torch.rand(4, 1, 8, 8), "labels": torch.arange(4)}
        >>> sorted(Augmentation(shift=1, mixup=0.2)(batch))
        ['labels', 'mixup_labels', 'mixup_weight', 'pixel_values']
    """

    shift: int = 0
    """Move each image by up to this many pixels in either direction."""
    flip: bool = False
    """Mirror each image left to right with probability 1/2."""
    mixup: float = 0.0
    """The parameter of the Beta distribution that draws how two images are mixed; 0 for no mixing."""

    def __post_init__(self) -> None:
        for name in ("shift", "mixup"):
            if getattr(self, name) < 0:
                raise ArgumentError(name, f"should be greater than or equal to 0, got {getattr(self, name)}.")

    @property
    def is_on(self) -> bool:
        """True if a student sees anything but the image as it is."""
        return bool(self.shift or self.flip or self.mixup)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """A new batch; the given one is left as it is."""
        images: Tensor = batch["pixel_values"]
        if self.shift:
            down, right = torch.randint(0, 2 * self.shift + 1, (2, len(images)), device=images.device)
            images = _shift(images, self.shift, down, right)
        if self.flip:
            images = _mirror(images, torch.rand(len(images), device=images.device) < 0.5)
        batch = {**batch, "pixel_values": images}
        if self.mixup:
            share = torch.distributions.Beta(self.mixup, self.mixup).sample().item()
            partner = torch.randperm(len(images), device=images.device)
            batch["pixel_values"] = share * images + (1 - share) * images[partner]
            if "labels" in batch:
                batch |= {"mixup_weight": share, "mixup_labels": batch["labels"][partner]}
        return batch


@dataclass(frozen=True)
class FixedViews:
    """A few views of each example, always the same, so that a teacher can be asked about all of them beforehand.

    Which view a batch has of each example is drawn anew every time; what the view is depends on the seed, the example's id
    and the view's number alone.

    Args:
        count: views of each example, 2 to 4096.
        shift: as in ``Augmentation``.
        flip: as in ``Augmentation``.
        seed: another one gives other views.

    Example:
        >>> batch = {"pixel_values": torch.rand(4, 1, 8, 8), "example_id": torch.arange(4)}
        >>> sorted(FixedViews(3, shift=1)(batch))
        ['example_id', 'pixel_values', 'view_id']
    """

    count: int
    shift: int = 0
    flip: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if not 2 <= self.count <= 4096 or not 0 <= self.shift <= 4096:
            raise ValueError(f"views: expected 2 to 4096, shifted by 0 to 4096 pixels, got {self.count}, {self.shift}.")
        if not self.shift and not self.flip:
            raise ValueError("views: without shift or flip they would all be the same.")

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """A new batch with one view of each example, and which: ``view_id`` (N,)."""
        return self.show(batch, torch.randint(self.count, batch["example_id"].shape))

    def show(self, batch: dict[str, Any], view: Tensor) -> dict[str, Any]:
        """The views that are asked for."""
        images: Tensor = batch["pixel_values"]
        pairs = zip(batch["example_id"].tolist(), view.tolist(), strict=True)
        drawn = torch.tensor([xxhash.xxh3_64_intdigest(f"{self.seed} {i} {v}".encode()) >> 1 for i, v in pairs])
        drawn = drawn.to(images.device)
        if self.shift:
            places = 2 * self.shift + 1
            images = _shift(images, self.shift, drawn % places, drawn // places % places)
        if self.flip:
            images = _mirror(images, (drawn >> 62).bool())
        return {**batch, "pixel_values": images, "view_id": view}


def _mirror(images: Tensor, chosen: Tensor) -> Tensor:
    return torch.where(chosen[:, None, None, None], images.flip(-1), images)


def _shift(images: Tensor, pixels: int, down: Tensor, right: Tensor) -> Tensor:
    count, _, height, width = images.shape
    padded = torch.nn.functional.pad(images, (pixels,) * 4, mode="replicate")
    rows = (down[:, None] + torch.arange(height, device=images.device))[:, None, :, None]
    columns = (right[:, None] + torch.arange(width, device=images.device))[:, None, None, :]
    example = torch.arange(count, device=images.device)[:, None, None, None]
    channel = torch.arange(images.shape[1], device=images.device)[None, :, None, None]
    return padded[example, channel, rows, columns]

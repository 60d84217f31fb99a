"""Tiny images with a class for each pixel, as a folder of images beside a folder of masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

CLASSES = ["background", "bright", "dark"]
VALUES = [0, 7, 128]
"""The value of each class in a mask; 255 has no label."""


def scene(random: np.random.Generator, height: int = 8, width: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Return a grey image with a bright and a dark rectangle, and its mask, in which a corner has no label."""
    image, mask = random.integers(100, 140, (height, width)), np.zeros((height, width), np.uint8)
    for value, grey in ((VALUES[1], 230), (VALUES[2], 20)):
        top, left = random.integers(0, height - 3), random.integers(0, width - 4)
        image[top : top + 3, left : left + 4] = grey
        mask[top : top + 3, left : left + 4] = value
    mask[0, 0] = 255
    return image.astype(np.uint8), mask


def save_scenes(folder: Path, counts: dict[str, int], unlabelled: int = 0) -> None:
    """Write ``images/SPLIT/N.png`` and ``masks/SPLIT/N.png``; the last training images have no mask."""
    random = np.random.default_rng(0)
    for split, count in counts.items():
        for kind in ("images", "masks"):
            (folder / kind / split).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            image, mask = scene(random)
            Image.fromarray(image).save(folder / "images" / split / f"{i}.png")
            if split != "train" or i < count - unlabelled:
                Image.fromarray(mask).save(folder / "masks" / split / f"{i}.png")


class Mapped(nn.Module):
    """A network that returns a mapping with "out", as those of torchvision do, at half the height and width."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, classes, 3, padding=1, stride=2)

    def forward(self, pixel_values: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"out": self.body(pixel_values)}


def trained(classes: int) -> nn.Module:
    """Return a network whose weights are the same each time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Mapped(classes)

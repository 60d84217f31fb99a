"""Masks: images whose pixel values say the class of each pixel, in a folder of their own or in a column of a data set."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from limbeck.atomic_files import atomic_write
from limbeck.data.examples import IGNORE_INDEX, LoadRows
from limbeck.data.image_columns import cells_of, open_cell, shortened, size_of_cell
from limbeck.errors import DataError

MASK_MODES = ("1", "L", "P", "I", "I;16", "I;16L", "I;16B")
"""Pillow's modes of images with one whole number for each pixel."""
UNKNOWN = IGNORE_INDEX - 1
"""What stands for a value that is no class, until it is refused."""
IMAGE, MASK = "image", "mask"
"""The columns of a data set that is read from two folders."""


@dataclass(frozen=True)
class MaskFormat:
    """Which value of a mask stands for which class."""

    values: Sequence[int]
    """The value of each class, in the order of the classes."""
    ignored: int | None
    """The value of pixels without a label; None if each pixel has one."""
    size: tuple[int, int] | None = None
    """The height and width that masks are resized to, by the nearest pixel; None leaves them as they are."""

    def __call__(self, mask: Any) -> Tensor:
        """Return the class of each pixel of a mask.

        Args:
            mask: a PIL image.

        Returns:
            (H, W) int64, ``IGNORE_INDEX`` at a pixel without a label.

        Raises:
            DataError: the mask has colours, or a value that is no class.
        """
        from PIL import Image

        values = values_of(mask)
        classes = np.full(int(values.max(initial=0)) + 1, UNKNOWN)
        known = {value: number for number, value in enumerate(self.values)}
        if self.ignored is not None:
            known.setdefault(self.ignored, IGNORE_INDEX)
        for value, number in known.items():
            if value < len(classes):
                classes[value] = number
        found = classes[values]
        if (found == UNKNOWN).any():
            unknown = sorted(set(values[found == UNKNOWN].tolist()))
            raise DataError(
                f"has the value {', '.join(map(str, unknown[:8]))}, which is no class: the values of the classes are "
                f"{', '.join(map(str, self.values[:8]))}{' and others' if len(self.values) > 8 else ''}. Name each class in "
                "data.classes, or the value of pixels that do not count in data.ignore_index."
            )
        if self.size is not None and found.shape != self.size:
            picture, (height, width) = Image.fromarray(found.astype(np.int32)), self.size
            found = np.asarray(picture.resize((width, height), Image.Resampling.NEAREST))
        return torch.from_numpy(found.astype(np.int64))


def values_of(mask: Any) -> np.ndarray:
    """Return the values of the pixels of a mask: (H, W) int64.

    Args:
        mask: a PIL image.

    Raises:
        DataError: it has colours, or was compressed by a method that changes values.
    """
    if mask.format in ("JPEG", "MPO"):
        raise DataError("is a JPEG, which changes values. Save masks as PNG.")
    if mask.mode not in MASK_MODES:
        raise DataError(
            f"has the mode {mask.mode} of Pillow. Expected one whole number for each pixel, the number of its class: save it "
            "as PNG of the mode L or P."
        )
    return np.array(mask).astype(np.int64)


class MaskedImages:
    """A loader of images with the masks of those that have one.

    Args:
        images: the loader of the images.
        masks: the ``datasets.Dataset`` with the masks. Rows after its end have none.
        column: the column of the masks; without such a column no image has one.
        mask: which value stands for which class, and the size of the images.
    """

    def __init__(self, images: LoadRows, masks: Any, column: str, mask: MaskFormat) -> None:
        has_masks = column in masks.features
        self.masks: Any = masks.select_columns([column]) if has_masks else []
        self.images, self.column, self.mask = images, column, mask

    def __call__(self, rows: list[int]) -> dict[str, Any]:
        batch = self.images(rows)
        assert self.mask.size is not None
        labels = torch.full((len(rows), *self.mask.size), IGNORE_INDEX)
        there = [(place, row) for place, row in enumerate(rows) if row < len(self.masks)]
        cells = self.masks[[row for _, row in there]][self.column] if there else []
        for (place, _), cell in zip(there, cells, strict=True):
            if cell is not None:
                labels[place] = self.mask(cell)
        return {**batch, "labels": labels, "mask": torch.ones_like(labels, dtype=torch.bool)}


def read_folders(images: Path, masks: Path, splits: Mapping[str, str]) -> dict[str, Any]:
    """Return a data set of the images in one folder, each with the mask of the same name in another folder.

    Args:
        images: the folder of the images, at any depth. Its folders that are named like splits are the splits.
        masks: the folder of the masks; each has the place and the name of its image, up to the suffix.
        splits: how splits are called in folders, and here.

    Returns:
        A ``datasets.Dataset`` for each split, with an image and, where there is one, a mask in each row.

    Raises:
        DataError: there are no images, no image has a mask, two files have one name, or a mask has no image.
    """
    import datasets

    found, named = _files_by_name(images, "data.name"), _files_by_name(masks, "data.masks")
    if not set(found) & set(named):
        raise DataError(
            f"data.masks: no image in {images} has a mask of its name in {masks}. Expected such as "
            f"{masks / next(iter(found))}.png for {images / next(iter(found))}{next(iter(found.values())).suffix}."
        )
    if lost := sorted(set(named) - set(found)):
        raise DataError(
            f"data.masks: {len(lost)} masks have no image of their name in {images}, such as {named[lost[0]]}."
        )
    split_of = {
        name: splits.get(Path(name).parts[0], "train") if len(Path(name).parts) > 1 else "train" for name in found
    }
    features = datasets.Features({IMAGE: datasets.Image(), MASK: datasets.Image()})
    tables = {}
    for split in dict.fromkeys(sorted(split_of.values())):
        names = [name for name in found if split_of[name] == split]
        rows = {
            IMAGE: [str(found[name]) for name in names],
            MASK: [str(named[name]) if name in named else None for name in names],
        }
        tables[split] = datasets.Dataset.from_dict(rows, features=features)
    return tables


def _files_by_name(folder: Path, key: str) -> dict[str, Path]:
    """Return the images in a folder, at any depth, by their place and name without the suffix, in the order of the names."""
    from limbeck.data.new_inputs import IMAGE_SUFFIXES

    if not folder.is_dir():
        raise DataError(f"{key}: {folder} is no folder.")
    found: dict[str, Path] = {}
    for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()):
        name = str(path.relative_to(folder).with_suffix(""))
        if name in found:
            raise DataError(f"{key}: {found[name]} and {path} have the same name. Keep one of them.")
        found[name] = path
    if not found:
        raise DataError(f"{key}: {folder} has no images.")
    return found


def encode_masks(
    tables: dict[str, Any],
    images: str,
    column: str,
    classes: Sequence[str] | Mapping[int, str] | None,
    ignored: int | None,
) -> tuple[dict[str, Tensor], list[str], MaskFormat]:
    """Look at every mask, and say which of its values are classes.

    Args:
        tables: a ``datasets.Dataset`` for each split, one of which is "train".
        images: the column of the images.
        column: the column of the masks.
        classes: the names of the classes, from the value 0 on, or by their values. By default each value of the training masks
            is a class, whose name is its value.
        ignored: the value of pixels without a label, unless it is a class; None if each pixel has one.

    Returns:
        (N,) int64 for each split, 0 for an image with a mask and ``IGNORE_INDEX`` for one without; the names of the classes;
        and the format of the masks.

    Raises:
        DataError: a mask cannot be read, has another size than its image, or has a value that is no class; or there are fewer
            than two classes.
    """
    labels, seen, faults = dict[str, Tensor](), dict[str, dict[int, str]](), list[str]()
    for split, table in tables.items():
        if column not in table.features:
            labels[split], seen[split] = torch.full((len(table),), IGNORE_INDEX), {}
            continue
        has_mask, seen[split] = [], {}
        cells = zip(cells_of(table, images), cells_of(table, column), strict=True)
        for row, (image, mask) in enumerate(
            tqdm(cells, total=len(table), desc="Looking at masks", delay=1.0, leave=False)
        ):
            has_mask.append(mask is not None)
            if mask is None:
                continue
            name = mask["path"] or f"the mask of row {row}"
            try:
                for value in _values_of_cell(table, column, row, mask, size_of_cell(table, images, row, image)):
                    seen[split].setdefault(value, name)
            except Exception as error:  # every decoder raises its own
                faults.append(f"data.name: {split}: {name}: {error}")
        labels[split] = torch.where(torch.tensor(has_mask, dtype=torch.bool), 0, IGNORE_INDEX)
    if faults:
        raise DataError(*shortened(faults))
    mask, names = _format_of(classes, seen["train"], ignored)
    known = {*mask.values, *([] if mask.ignored is None else [mask.ignored])}
    for split, values in seen.items():
        if unknown := sorted(set(values) - known):
            raise DataError(
                f"data.classes: {values[unknown[0]]} of {split} has the value {unknown[0]}, which is no class. Name each class "
                "in data.classes, or the value of pixels that do not count in data.ignore_index."
            )
    return labels, names, mask


def _values_of_cell(table: Any, column: str, row: int, cell: Any, size: tuple[int, int]) -> list[int]:
    """Return the different values in a mask, after checking that it has the size of its image."""
    with open_cell(table, column, row, cell) as mask:
        if (mask.height, mask.width) != size:
            raise DataError(
                f"is {mask.height} x {mask.width}, and its image {size[0]} x {size[1]}. Expected a class for each pixel."
            )
        return np.unique(values_of(mask)).tolist()


def _format_of(
    classes: Sequence[str] | Mapping[int, str] | None, seen: Mapping[int, str], ignored: int | None
) -> tuple[MaskFormat, list[str]]:
    """Return which value stands for which class, and the names of the classes."""
    if classes is None:
        by_value = {value: str(value) for value in sorted(seen) if value != ignored}
    else:
        by_value = dict(classes) if isinstance(classes, Mapping) else dict(enumerate(classes))
    if ignored in by_value:
        ignored = None
    if len(by_value) < 2:
        told = ", ".join(map(str, sorted(seen))) or "nothing"
        raise DataError(
            f"data.classes: the training masks hold {told}, of which {ignored} does not count. Two classes or more are needed. "
            f"If {ignored} is a class, name it: data.classes: {{0: background, {ignored}: object}}."
        )
    return MaskFormat(list(by_value), ignored), list(by_value.values())


class MaskWriter:
    """Writes masks as PNGs, whose pixel values are those of the classes in the training masks.

    Args:
        folder: where to write; it is made if it does not exist.
        values: the value of each class.
    """

    def __init__(self, folder: Path, values: Sequence[int]) -> None:
        self.folder, self.values, self._names = folder, np.array(values), set[str]()

    def write(self, name: str, classes: Tensor) -> Path:
        """Write the mask of one image.

        Args:
            name: the image's file, or what else it is called. The mask has the same name; a number is added where it is taken.
            classes: (H, W), the class of each pixel.

        Returns:
            The file. With values up to 255 it has colours, as PASCAL VOC has them; a program still reads the values.
        """
        from PIL import Image

        stem = re.sub(r"[^\w.-]+", "-", Path(name).stem)
        taken = next(i for i in itertools.count() if (f"{stem}-{i}" if i else stem) not in self._names)
        stem = f"{stem}-{taken}" if taken else stem
        self._names.add(stem)
        values, path = self.values[classes.numpy()], self.folder / f"{stem}.png"
        self.folder.mkdir(parents=True, exist_ok=True)
        if values.max(initial=0) > 255:
            mask = Image.fromarray(values.astype(np.uint16))
        else:
            mask = Image.fromarray(values.astype(np.uint8))
            mask.putpalette(_palette())
        with atomic_write(path) as aside:
            mask.save(aside, format="PNG")
        return path


def _palette() -> list[int]:
    """Return the red, green and blue of 256 values, far from each other for the first ones: black, dark red, dark green and on.

    The bits of a value are dealt to the three colours in turn, the highest bit of each colour first, as PASCAL VOC does.
    """
    return [
        sum((value >> (3 * bit + colour) & 1) << (7 - bit) for bit in range(8))
        for value in range(256)
        for colour in range(3)
    ]

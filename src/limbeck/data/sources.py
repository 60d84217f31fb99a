"""Read a data set by its name: the two that are kept as arrays here, any other one in ``hugging_face``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from limbeck.data.config import READ_BY_ARRAYS, DataConfig, check_all_are_read
from limbeck.data.examples import Examples, Source, TensorRows
from limbeck.data.hugging_face import image_format, read_with_datasets
from limbeck.data.images import read_idx
from limbeck.data.language import KINDS, read_language
from limbeck.data.preprocessing import Preprocessing
from limbeck.errors import DataError
from limbeck.models import DataShape

FASHION_CLASSES = [
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
]
FASHION_FOLDER = "/usr/share/datasets/fashion-mnist"
"""Where Debian's package dataset-fashion-mnist puts the IDX files."""
FASHION_HUB_ID = "zalando-datasets/fashion_mnist"


def read_source(config: DataConfig, task: str = "auto") -> Source:
    """Read the data set that a config names.

    Args:
        config: the name of the data set, and how to read it.
        task: what the examples are for: the name of one of ``limbeck.tasks.TASKS``, or "auto" to see it by the labels.

    Returns:
        Its splits, before what it lacks is drawn from the training examples.

    Raises:
        DataError: it cannot be found or read, and the message says what was tried; or a setting has no effect on it.
    """
    if task in KINDS:
        return read_language(config, task)
    if config.name == "digits":
        return _digits(config)
    if config.name == "fashion-mnist":
        return _fashion_mnist(config)
    return read_with_datasets(config, task)


def _digits(config: DataConfig) -> Source:
    from sklearn.datasets import load_digits

    _check_settings(config, 8)
    pixels, labels = load_digits(return_X_y=True)
    # scikit-learn's pixels go from 0 to 16
    images = torch.from_numpy(pixels).float().reshape(-1, 1, 8, 8) / 16
    return _from_tensors({"train": (images, torch.from_numpy(labels))}, [str(i) for i in range(10)], config)


def _fashion_mnist(config: DataConfig) -> Source:
    _check_settings(config, 28, "folder")
    folder = Path(config.folder or FASHION_FOLDER)
    if not folder.is_dir():
        if config.folder:
            raise DataError(
                f"data.folder: {config.folder} is no folder. Expected the IDX files of Fashion-MNIST there."
            )
        return _fashion_mnist_of_the_hub(config)
    splits = {}
    for split, prefix in (("train", "train"), ("test", "t10k")):
        images, labels = (read_idx(folder / f"{prefix}-{kind}-ubyte") for kind in ("images-idx3", "labels-idx1"))
        splits[split] = (images.unsqueeze(1).float() / 255, labels)
    return _from_tensors(splits, FASHION_CLASSES, config)


def _fashion_mnist_of_the_hub(config: DataConfig) -> Source:
    try:
        return read_with_datasets(replace(config, name=FASHION_HUB_ID))
    except DataError as error:
        raise DataError(
            f"data.name: fashion-mnist is neither in {FASHION_FOLDER} (Debian's package dataset-fashion-mnist) nor "
            f"to be had as {FASHION_HUB_ID} ({error}). Set data.folder to a folder with its IDX files."
        ) from None


def _check_settings(config: DataConfig, size: int, *read: str) -> None:
    """Refuse settings that have no effect on a set of grey images of one size."""
    harmless = [name for name, value in (("image_size", size), ("channels", 1)) if getattr(config, name) == value]
    what = f"{config.name}, whose images are grey and {size} x {size}"
    check_all_are_read(config, (*READ_BY_ARRAYS, *harmless, *read), what)


def _from_tensors(splits: dict[str, tuple[Tensor, Tensor]], names: list[str], config: DataConfig) -> Source:
    """Return the source of images (N, C, H, W) from 0 to 1 and their labels (N,)."""
    _, channels, height, width = splits["train"][0].shape
    image = image_format(config, (height, width), channels)
    return Source(
        {
            split: Examples(TensorRows("pixel_values", image.normalise(pixels)), labels)
            for split, (pixels, labels) in splits.items()
        },
        DataShape(len(names), (channels, height, width)),
        Preprocessing(names, image),
    )

"""Images with several labels: two of scikit-learn's digits side by side."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def save_two_digits(folder: Path, count: int = 120) -> None:
    """Write a data set of images of two digits, each labelled by the list of the digits that are in it.

    Args:
        folder: where ``datasets`` saves it.
        count: the number of training images; the test set has half as many. The last training image is not labelled.
    """
    import datasets
    from sklearn.datasets import load_digits

    pixels, digits = load_digits(n_class=4, return_X_y=True)
    pixels = (pixels.reshape(-1, 8, 8) * 255 / 16).astype(np.uint8)
    rng = np.random.default_rng(0)
    rows = {"image": [], "labels": []}
    for left, right in rng.integers(0, len(digits), (count + count // 2, 2)):
        rows["image"].append(np.concatenate([pixels[left], pixels[right]], 1))
        rows["labels"].append(sorted({int(digits[left]), int(digits[right])}))
    rows["labels"][count - 1] = None
    names = datasets.ClassLabel(names=["zero", "one", "two", "three"])
    features = datasets.Features({"image": datasets.Image(), "labels": datasets.List(names)})
    table = datasets.Dataset.from_dict(rows, features=features)
    splits = {"train": table.select(range(count)), "test": table.select(range(count, len(table)))}
    datasets.DatasetDict(splits).save_to_disk(str(folder))

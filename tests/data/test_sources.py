import struct

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from limbeck.data import DataConfig, load_splits
from limbeck.data.sources import read_source
from limbeck.errors import DataError


def write_fashion_mnist(folder, train=6000, test=50):
    """Write random images with the labels 0, 1, ..., 9, 0, ... in the files that Fashion-MNIST has; return the images."""
    generator = np.random.default_rng(0)
    written = {}
    for prefix, count in (("train", train), ("t10k", test)):
        images = generator.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = np.arange(count, dtype=np.uint8) % 10
        for kind, values in (("images-idx3", images), ("labels-idx1", labels)):
            header = struct.pack(">HBB", 0, 8, values.ndim) + struct.pack(f">{values.ndim}I", *values.shape)
            (folder / f"{prefix}-{kind}-ubyte").write_bytes(header + values.tobytes())
        written[prefix] = images
    return written


def test_digits_are_those_of_scikit_learn():
    source = read_source(DataConfig(mean=0.25, std=0.5))
    pixels, labels = load_digits(return_X_y=True)
    assert source.splits.keys() == {"train"}
    batch = source.splits["train"].as_one_batch()
    images = torch.from_numpy(pixels).reshape(-1, 1, 8, 8).float()
    torch.testing.assert_close(batch["pixel_values"], (images / 16 - 0.25) / 0.5)
    assert batch["labels"].tolist() == labels.tolist()
    assert source.shape.image == (1, 8, 8)
    assert source.preprocessing.label_names == list("0123456789")


def test_fashion_mnist_from_a_folder(tmp_path):
    write_fashion_mnist(tmp_path)
    splits = load_splits(DataConfig(name="fashion-mnist", folder=str(tmp_path)))
    assert [len(p) for p in (splits.train, splits.validation, splits.test)] == [1000, 5000, 50]
    assert splits.label_names[9] == "Ankle boot"
    assert splits.shape.image == (1, 28, 28)


def test_pixels_of_fashion_mnist_go_from_0_to_1(tmp_path):
    images = write_fashion_mnist(tmp_path, train=20, test=10)["t10k"]
    test = read_source(DataConfig(name="fashion-mnist", folder=str(tmp_path))).splits["test"]
    torch.testing.assert_close(test[3]["pixel_values"][0], torch.from_numpy(images[3] / 255).float())


def test_no_folder():
    with pytest.raises(DataError, match=r"data\.folder: /nowhere is no folder"):
        load_splits(DataConfig(name="fashion-mnist", folder="/nowhere"))


def test_a_mean_for_other_channels():
    with pytest.raises(DataError, match=r"data\.mean: expected one number, or one for each of 1 channels, got \[0\.5"):
        read_source(DataConfig(mean=(0.5, 0.4, 0.3)))

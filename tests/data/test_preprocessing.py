import json

import numpy as np
import pytest
import torch

from limbeck.data import DataConfig, ImageFormat, Preprocessing, load_splits
from limbeck.errors import DataError


def test_images_are_fed_as_in_training(tmp_path):
    splits = load_splits(DataConfig(mean=0.25, std=0.5))
    splits.preprocessing.save(tmp_path)
    loaded = Preprocessing.load(tmp_path)
    assert loaded == splits.preprocessing
    assert loaded.label_names == [str(digit) for digit in range(10)]
    pixels = np.full((8, 8), 51, dtype=np.uint8)  # 51 / 255 = 0.2
    assert torch.allclose(loaded([pixels])["pixel_values"], torch.full((1, 1, 8, 8), (0.2 - 0.25) / 0.5))


def test_a_mean_for_each_channel_is_kept(tmp_path):
    colour = Preprocessing(["a", "b"], ImageFormat((4, 6), 3, (0.5, 0.4, 0.3), (0.5, 0.2, 0.1)))
    colour.save(tmp_path)
    image = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    assert torch.equal(Preprocessing.load(tmp_path)([image])["pixel_values"], colour([image])["pixel_values"])


def test_texts_are_fed_as_in_training(tmp_path, tokenizer):
    from limbeck.data import load_tokenizer

    folder = tmp_path / "student"
    folder.mkdir()
    Preprocessing(["bad", "good"], tokenizer=load_tokenizer(tokenizer), max_length=2).save(folder)
    loaded = Preprocessing.load(folder)
    assert loaded.label_names == ["bad", "good"]
    assert loaded(["w5 w6 w7", "w7"])["input_ids"].tolist() == [[7, 8], [9, 0]]


def test_the_file_is_the_one_that_older_runs_have(tmp_path):
    old = {"labels": ["a"], "image": {"size": [2, 3], "channels": 1, "mean": 0.5, "std": 1.0}, "max_length": 128}
    (tmp_path / "inputs.json").write_text(json.dumps(old))
    assert Preprocessing.load(tmp_path) == Preprocessing(["a"], ImageFormat((2, 3), 1, 0.5))


@pytest.mark.parametrize("content", [None, "{", "[]", '{"labels": []}', '{"labels": [], "image": {}, "max_length": 1}'])
def test_a_broken_file(content, tmp_path):
    if content is not None:
        (tmp_path / "inputs.json").write_text(content)
    with pytest.raises(DataError, match=r"inputs\.json: cannot be read .*A run writes it beside its student"):
        Preprocessing.load(tmp_path)

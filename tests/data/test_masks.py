"""Masks: values by meaning, sizes, the examples that they make, and files of masks."""

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from limbeck.data import Augmentation, DataConfig, hide_labels, load_splits
from limbeck.data.masks import MaskFormat, MaskWriter, values_of
from limbeck.errors import DataError
from support.scenes import CLASSES, VALUES, save_scenes

COUNTS = {"train": 6, "validation": 2, "test": 2}
BY_VALUE = dict(zip(VALUES, CLASSES, strict=True))


def config(folder, **settings):
    known = {"name": str(folder / "images"), "masks": str(folder / "masks"), "classes": BY_VALUE}
    return DataConfig(**{**known, **settings})


def truth(folder, split, number):
    """Return the classes of a mask as a reader by hand finds them."""
    values = np.array(Image.open(folder / "masks" / split / f"{number}.png"))
    numbers = {**{value: i for i, value in enumerate(VALUES)}, 255: -100}
    return torch.tensor([[numbers[value] for value in row] for row in values.tolist()])


def faults(folder, **settings):
    with pytest.raises(DataError) as caught:
        load_splits(config(folder, **settings))
    return caught.value.faults


def test_images_meet_the_masks_of_their_names(tmp_path):
    save_scenes(tmp_path, COUNTS, unlabelled=1)
    splits = load_splits(config(tmp_path))
    assert (splits.task, splits.shape.classes, splits.shape.image) == ("dense_prediction", 3, (1, 8, 12))
    assert splits.label_names == CLASSES
    assert splits.preprocessing.values == VALUES
    assert "1 of 6 examples of train have no label (an empty cell, or -1)." in splits.notes
    batch = splits.train.as_one_batch()
    assert all(torch.equal(batch["labels"][i], truth(tmp_path, "train", i)) for i in range(5))
    assert torch.equal(batch["mask"][:5], batch["labels"][:5] != -100)
    assert (batch["labels"][5] == -100).all()
    assert batch["mask"][5].all()
    assert torch.equal(splits.test.as_one_batch()["labels"][1], truth(tmp_path, "test", 1))


def test_hidden_masks_and_decisions_in_their_place(tmp_path):
    save_scenes(tmp_path, COUNTS)
    splits = hide_labels(load_splits(config(tmp_path)), 2)
    batch, known = splits.train.as_one_batch(), splits.train.labelled
    assert known.sum() == 2
    assert (batch["labels"][~known] == -100).all()
    assert batch["mask"][~known].all()
    decisions = {i: torch.full((96,), 2, dtype=torch.int32) for i in range(6)}
    decided = splits.train.with_decisions(decisions).as_one_batch()
    assert torch.equal(decided["labels"][known], batch["labels"][known])
    assert (decided["labels"][~known] == 2).all()
    assert (
        splits.train.with_labels(splits.true_labels).as_one_batch()["labels"][0].tolist()
        == truth(tmp_path, "train", 0).tolist()
    )


def test_masks_move_with_their_images(tmp_path):
    save_scenes(tmp_path, COUNTS)
    batch = load_splits(config(tmp_path)).train.as_one_batch()
    both = {**batch, "pixel_values": batch["labels"][:, None].float()}  # an image that is its own mask
    torch.manual_seed(0)
    moved = Augmentation(shift=2, flip=True)(both)
    assert torch.equal(moved["pixel_values"][:, 0].long(), moved["labels"])
    assert torch.equal(moved["mask"], moved["labels"] != -100)
    assert not torch.equal(moved["labels"], batch["labels"])


def test_masks_are_resized_to_the_nearest_pixel_and_images_bilinear(tmp_path):
    save_scenes(tmp_path, COUNTS)
    splits = load_splits(config(tmp_path, image_size=(4, 6)))
    assert splits.shape.image == (1, 4, 6)
    assert set(splits.train.as_one_batch()["labels"].unique().tolist()) <= {-100, 0, 1, 2}
    mask = Image.fromarray(np.kron(np.array([[0, 7], [128, 255]], np.uint8), np.ones((3, 3), np.uint8)))
    assert MaskFormat(VALUES, 255, (2, 2))(mask).tolist() == [[0, 1], [2, -100]]


def test_a_column_of_masks(tmp_path):
    random = np.random.default_rng(0)
    features = datasets.Features({"pixel_values": datasets.Image(), "label": datasets.Image()})
    pictures = [Image.fromarray(random.integers(0, 255, (4, 6, 3), dtype=np.uint8)) for _ in range(20)]
    masks = [Image.fromarray(random.integers(0, 3, (4, 6), dtype=np.uint8)) for _ in range(20)]
    rows = {"pixel_values": pictures, "label": [*masks[:18], None, None]}
    datasets.DatasetDict({"train": datasets.Dataset.from_dict(rows, features)}).save_to_disk(str(tmp_path / "saved"))
    splits = load_splits(DataConfig(name=str(tmp_path / "saved")))
    assert splits.task == "dense_prediction"
    assert splits.label_names == ["0", "1", "2"]
    first = int(splits.train.ids[0])
    assert torch.equal(splits.train.as_one_batch()["labels"][0], torch.from_numpy(np.array(masks[first])).long())
    assert len(splits.train) == 16
    assert splits.train.labelled.sum() == 14


def test_a_folder_of_images_without_masks_is_a_transfer_set(tmp_path):
    save_scenes(tmp_path, COUNTS)
    save_scenes(tmp_path / "more", {"train": 3})
    splits = load_splits(config(tmp_path, unlabelled=str(tmp_path / "more" / "images")))
    assert splits.train.labelled.tolist() == [True] * 6 + [False] * 3
    batch = splits.train.as_one_batch()
    assert batch["mask"][6:].all()
    assert (batch["labels"][6:] == -100).all()
    assert torch.equal(batch["labels"][5], truth(tmp_path, "train", 5))


class TestWhatIsRefused:
    @pytest.fixture(autouse=True)
    def scenes(self, tmp_path):
        save_scenes(tmp_path, COUNTS)

    def test_a_value_that_is_no_class(self, tmp_path):
        assert "has the value 128, which is no class" in faults(tmp_path, classes={0: "a", 7: "b"})[0]
        assert "which is no class" in faults(tmp_path, classes=("a", "b"))[0]
        Image.fromarray(np.full((8, 12), 9, np.uint8)).save(tmp_path / "masks/test/0.png")
        assert "test/0.png of test has the value 9" in faults(tmp_path, classes=None)[0]

    def test_masks_of_black_and_white(self, tmp_path):
        for path in (tmp_path / "masks").rglob("*.png"):
            Image.fromarray(np.where(np.array(Image.open(path)) == 7, 255, 0).astype(np.uint8)).save(path)
        assert "If 255 is a class, name it" in faults(tmp_path, classes=None)[0]
        assert load_splits(config(tmp_path, classes={0: "a", 255: "b"})).label_names == ["a", "b"]

    def test_sizes_colours_and_names(self, tmp_path):
        Image.fromarray(np.zeros((8, 11), np.uint8)).save(tmp_path / "masks/train/0.png")
        Image.fromarray(np.zeros((8, 12, 3), np.uint8)).save(tmp_path / "masks/train/1.png")
        first, second = faults(tmp_path)
        assert "0.png: is 8 x 11, and its image 8 x 12" in first
        assert "1.png: has the mode RGB of Pillow. Expected one whole number for each pixel" in second
        (tmp_path / "masks/train/0.png").rename(tmp_path / "masks/train/none.png")
        assert "1 masks have no image of their name" in faults(tmp_path)[0]
        assert "no image in" in faults(tmp_path, masks=str(tmp_path / "masks/train"))[0]
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "a.jpg")
        with Image.open(tmp_path / "a.jpg") as mask, pytest.raises(DataError, match="is a JPEG, which changes values"):
            values_of(mask)

    def test_settings_without_effect(self, tmp_path):
        with pytest.raises(DataError, match=r"data.classes: has no effect on digits"):
            load_splits(DataConfig(classes=("a", "b")))


def test_written_masks_have_the_values_of_the_training_masks(tmp_path):
    writer, classes = MaskWriter(tmp_path / "out", VALUES), torch.tensor([[0, 1], [2, 2]])
    first, second = writer.write("a/x.jpg", classes), writer.write("b/x.jpg", classes)
    assert (first.name, second.name) == ("x.png", "x-1.png")
    with Image.open(first) as mask:
        assert mask.mode == "P"
        assert np.array(mask).tolist() == [[0, 7], [128, 128]]
        assert mask.getpalette()[:12] == [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0]  # as PASCAL VOC
    with Image.open(MaskWriter(tmp_path, [0, 300, 301]).write("y", classes)) as mask:
        assert np.array(mask).tolist() == [[0, 300], [301, 301]]

"""Columns of images: what is decided of a set is decided by all of its images, and said."""

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from limbeck.data import DataConfig, HasSourceBytes, ImageFormat, load_splits
from limbeck.data.image_columns import ColumnImages, survey_images
from limbeck.errors import DataError

RANDOM = np.random.default_rng(0)


def picture(mode="RGB", height=6, width=5):
    if mode == "I;16":
        return Image.fromarray(RANDOM.integers(0, 2**16, (height, width), dtype=np.uint16))
    return Image.fromarray(RANDOM.integers(0, 256, (height, width, 3), dtype=np.uint8)).convert(mode)


def write(folder, pictures, classes=2):
    """Write pictures into a folder for each class, in turn; return the paths."""
    paths = []
    for number, image in enumerate(pictures):
        paths.append(folder / f"class{number % classes}" / f"{number:03}.png")
        paths[-1].parent.mkdir(parents=True, exist_ok=True)
        image.save(paths[-1])
    return paths


def table(pictures):
    return datasets.Dataset.from_dict({"image": pictures}, datasets.Features({"image": datasets.Image()}))


@pytest.mark.parametrize("first", ["L", "RGB", "I;16", "P"])
def test_the_channels_are_those_of_the_set_not_of_the_first_image(tmp_path, first):
    others = {"L": "RGB", "RGB": "L", "I;16": "RGB", "P": "I;16"}[first]
    write(tmp_path, [picture(first), *[picture(others) for _ in range(29)]])
    splits = load_splits(DataConfig(name=str(tmp_path)))
    assert splits.shape.image == (3, 6, 5)
    grey = 1 if first in ("L", "I;16") else 29
    assert f"{grey} of 30 images are grey, the others have colour; all are read as colour." in splits.notes
    assert not any("grey" in note for note in load_splits(DataConfig(name=str(tmp_path), channels=3)).notes)


def test_grey_images_of_8_and_16_bits_stay_grey_and_keep_their_range(tmp_path):
    write(tmp_path, [picture("I;16" if i % 3 else "L") for i in range(30)])
    splits = load_splits(DataConfig(name=str(tmp_path)))
    assert splits.shape.image == (1, 6, 5)
    assert not any("grey" in note for note in splits.notes)
    pixels = splits.train.as_one_batch()["pixel_values"]
    assert pixels.min() < 0.1
    assert pixels.max() > 0.9
    assert 0.4 < pixels.mean() < 0.6  # Pillow's own conversion makes nearly all of them 1


def test_mixed_sizes_are_said(tmp_path):
    write(tmp_path, [picture(height=4 + i % 3, width=9) for i in range(30)])
    splits = load_splits(DataConfig(name=str(tmp_path)))
    height, width = splits.shape.image[1:]
    assert (
        f"Images have 3 sizes, from 4 x 9 to 6 x 9; all are resized to {height} x {width}, the first one's. data.image_size "
        "sets another."
    ) in splits.notes
    assert not any("sizes" in note for note in load_splits(DataConfig(name=str(tmp_path), image_size=8)).notes)


def test_images_of_one_size_need_no_word(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    paths = write(tmp_path, [picture() for _ in range(30)])
    picture(height=5, width=6).save(paths[3], "JPEG", exif=exif)  # 6 x 5 when it stands upright
    assert len(load_splits(DataConfig(name=str(tmp_path))).notes) == 2  # the validation and the test set


def test_unreadable_files_are_all_named_before_anything_is_trained(tmp_path):
    paths = write(tmp_path, [picture() for _ in range(30)])
    paths[4].write_text("hello")
    paths[7].write_bytes(b"")
    with pytest.raises(DataError) as caught:
        load_splits(DataConfig(name=str(tmp_path)))
    assert len(caught.value.faults) == 2
    for path, fault in zip(sorted([paths[4], paths[7]]), caught.value.faults, strict=True):
        assert f"{path}: not an image that can be read" in fault


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP"])
def test_an_image_cut_short_is_named_in_the_one_look(tmp_path, kind):
    for number in range(4):
        picture(height=64, width=64).save(tmp_path / f"{number}.{kind.lower()}")
    paths = sorted(tmp_path.iterdir())
    paths[1].write_bytes(paths[1].read_bytes()[: paths[1].stat().st_size // 2])
    with paths[2].open("ab") as file:
        file.write(b"more")  # which decoders do not read
    for cells in ([{"bytes": path.read_bytes(), "path": path.name} for path in paths], [str(path) for path in paths]):
        with pytest.raises(DataError, match=rf"1\.{kind.lower()}: not an image that can be read") as caught:
            survey_images({"train": table(cells)}, "image")
        assert len(caught.value.faults) == 1


def test_a_damaged_image_is_named_when_it_is_decoded(tmp_path):
    paths = write(tmp_path, [picture(height=64, width=64) for _ in range(9)])
    cells = [{"bytes": path.read_bytes(), "path": path.name} for path in paths]
    cells[4]["bytes"] = cells[4]["bytes"][:3000] + cells[4]["bytes"][-1000:]
    assert survey_images({"train": table(cells)}, "image").sizes.total() == 9  # its beginning and its end are whole
    load = ColumnImages(table(cells), "image", ImageFormat((6, 5), 3))
    with pytest.raises(DataError, match=r"^004\.png: not an image that can be read \(") as caught:
        load(list(range(9)))
    assert len(caught.value.faults) == 1


def test_rows_without_an_image_or_a_file_name():
    with pytest.raises(DataError) as caught:
        survey_images({"train": table([picture(), None])}, "image")
    assert caught.value.faults == ("data.name: train: row 1 has no image.",)
    load = ColumnImages(table([picture(), None, {"bytes": b"hello"}]), "image", ImageFormat((6, 5), 3))
    assert load([0])["pixel_values"].shape == (1, 3, 6, 5)
    with pytest.raises(DataError, match=r"row 1 has no image\.\nthe image of row 2: not an image that can be read"):
        load([0, 1, 2])


def test_source_bytes_are_those_of_the_files(tmp_path):
    paths = write(tmp_path, [picture() for _ in range(3)])
    of_files = ColumnImages(table([str(path) for path in paths]), "image", ImageFormat((6, 5), 3))
    assert isinstance(of_files, HasSourceBytes)
    assert list(of_files.source_bytes([0, 2])) == [paths[0].read_bytes(), paths[2].read_bytes()]
    in_memory = ColumnImages(table([{"bytes": path.read_bytes()} for path in paths]), "image", ImageFormat((6, 5), 3))
    assert list(in_memory.source_bytes([0, 2])) == list(of_files.source_bytes([0, 2]))
    assert torch.equal(in_memory([0, 1, 2])["pixel_values"], of_files([0, 1, 2])["pixel_values"])


def test_a_column_whose_images_are_not_decoded(tmp_path):
    pictures = table([picture() for _ in range(30)]).cast_column("image", datasets.Image(decode=False))
    labels = datasets.ClassLabel(names=["a", "b"])
    datasets.DatasetDict(
        {"train": pictures.add_column("label", [0, 1] * 15).cast_column("label", labels)}
    ).save_to_disk(tmp_path / "set")
    assert load_splits(DataConfig(name=str(tmp_path / "set"))).shape.image == (3, 6, 5)

"""Pixels keep their range, whatever holds an image."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from limbeck.data import ImageFormat
from limbeck.data.pixels import is_grey, open_image
from limbeck.errors import DataError

sides = st.integers(1, 6)
grey16 = st.tuples(sides, sides).flatmap(lambda shape: arrays(np.uint16, shape))


def pixels(image, channels=1):
    shape = np.asarray(image).shape if not isinstance(image, Image.Image) else (image.height, image.width)
    return ImageFormat(shape[:2], channels)([image])[0].numpy()


@given(array=grey16, channels=st.sampled_from([1, 3]))
def test_sixteen_bits(tmp_path_factory, array, channels):
    path = tmp_path_factory.mktemp("images")
    Image.fromarray(array).save(path / "a.png")
    Image.fromarray(array).save(path / "a.tiff")
    truth = np.repeat((array / np.float32(65_535))[None], channels, 0)
    images = [array, Image.fromarray(array), path / "a.png", path / "a.tiff", str(path / "a.png")]
    for pixels in ImageFormat(array.shape, channels)(images).numpy():
        np.testing.assert_allclose(pixels, truth, atol=1e-6)


@given(array=st.tuples(sides, sides, st.sampled_from([1, 3, 4])).flatmap(lambda shape: arrays(np.uint8, shape)))
def test_the_same_pixels_in_every_type(array):
    truth = pixels(array, 3)
    for other in (array.astype(np.int64), array.astype(np.uint16) * 257):
        np.testing.assert_allclose(pixels(other, 3), truth, atol=1e-6)
    if array.max() > 1:
        np.testing.assert_allclose(pixels(array.astype(np.float32), 3), truth, atol=1e-6)


def test_sixteen_bits_are_resized_as_eight_are():
    array = np.random.default_rng(0).integers(0, 256, (12, 9), dtype=np.uint8)
    eight, sixteen = ImageFormat((5, 7), 1)([array, array.astype(np.uint16) * 257])
    np.testing.assert_allclose(sixteen, eight, atol=1.5 / 255)


def test_bits():
    array = np.array([[True, False]])
    assert pixels(array).tolist() == pixels(Image.fromarray(array)).tolist() == [[[1.0, 0.0]]]


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.full((2, 2), 0.5), "expected pixels from 0 to 255, or uint16 .* got float64 from 0.5 to 0.5"),
        (np.full((2, 2), 1000), "got int64 from 1000 to 1000"),
        (np.full((2, 2), -1), "got int64 from -1 to -1"),
        (np.full((2, 2), np.nan), "got float64 from nan to nan"),
        (np.zeros((3, 4, 5)), r"expected an array \(H, W\), .* got shape \(3, 4, 5\)"),
        (np.zeros((0, 4)), r"got shape \(0, 4\)"),
        (np.array([["a"]]), "expected an array of numbers, got <U1"),
        (None, r"got shape \(\)"),
        (Image.fromarray(np.zeros((2, 2), np.int32)), "32-bit integers as pixels, whose range is not known"),
        (Image.fromarray(np.zeros((2, 2), np.float32)), "32-bit floats as pixels"),
    ],
)
def test_a_range_that_is_not_known_is_refused(image, message):
    with pytest.raises(DataError, match=message):
        ImageFormat((2, 2), 1)([image])


def test_files_that_cannot_be_read_are_named(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(tmp_path / "cut.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "cut.jpg").read_bytes()[:2000])
    (tmp_path / "text.png").write_text("hello")
    Image.fromarray(np.zeros((2, 2), np.float32)).save(tmp_path / "floats.tiff")
    for name in ("cut.jpg", "text.png", "floats.tiff", "missing.png"):
        with pytest.raises(DataError) as caught:
            open_image(tmp_path / name)
        assert str(caught.value).startswith(f"{tmp_path / name}: ")
        assert len(caught.value.faults) == 1


def test_a_picture_that_lies_on_its_side_is_turned_as_in_training(tmp_path):
    """Cameras write how they were held into EXIF, and the `datasets` library turns the pictures that are trained on."""
    array = np.arange(6, dtype=np.uint8).reshape(2, 3)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(array).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(np.array(open_image(tmp_path / "a.png")), np.rot90(array, -1))


@pytest.mark.parametrize(("mode", "grey"), [("L", True), ("I;16B", True), ("LA", True), ("P", False), ("RGBA", False)])
def test_is_grey(mode, grey):
    assert is_grey(mode) is grey

"""What an image processor does to images: compared with the processors of Transformers themselves."""

import json

import numpy as np
import pytest
from transformers import EfficientNetImageProcessorPil, ViTImageProcessorPil

from limbeck.errors import ModelError
from limbeck.models.input_format import input_format_of_processor


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]},
        {"do_normalize": False},
        {"rescale_factor": 1 / 127.5, "image_mean": [1.0, 0.9, 0.8]},
        {"rescale_factor": 1 / 127.5, "rescale_offset": True, "include_top": True},
        {"do_rescale": False, "image_mean": [100.0, 110.0, 120.0], "image_std": [50.0, 60.0, 70.0]},
    ],
    ids=str,
)
def test_it_is_what_the_processor_computes(settings, tmp_path):
    kind = EfficientNetImageProcessorPil if "include_top" in settings else ViTImageProcessorPil
    processor = kind(size={"height": 5, "width": 7}, **settings)
    processor.save_pretrained(tmp_path)
    found = input_format_of_processor(str(tmp_path))
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    expected = processor(image, return_tensors="np")["pixel_values"][0]
    assert found.size == (5, 7)
    got = (image / 255 - np.array(found.mean)) / np.array(found.std)
    np.testing.assert_allclose(got.transpose(2, 0, 1), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("saved", "size"),
    [
        ({"size": 32}, (32, 32)),
        (
            {"size": {"shortest_edge": 256}, "do_center_crop": True, "crop_size": {"height": 224, "width": 224}},
            (224, 224),
        ),
        ({"size": [8, 9]}, (8, 9)),
        ({"size": 32, "do_resize": False}, None),
    ],
    ids=str,
)
def test_sizes_of_all_ages(saved, size, tmp_path):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(saved))
    assert input_format_of_processor(str(tmp_path)).size == size


def test_a_folder_without_a_processor_and_one_that_is_broken(tmp_path):
    assert input_format_of_processor(str(tmp_path)) is None
    (tmp_path / "preprocessor_config.json").write_text('{"resample": 3}')
    found = input_format_of_processor(str(tmp_path))
    assert (found.mean, found.std, found.size, found.resample) == (None, None, None, "bicubic")
    for text in ("{", "[]", '{"rescale_factor": "x"}'):
        (tmp_path / "preprocessor_config.json").write_text(text)
        with pytest.raises(ModelError, match=r"preprocessor_config.json.* cannot be (read|understood)"):
            input_format_of_processor(str(tmp_path))

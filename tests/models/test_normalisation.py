"""How a model's images were normalised, against the image processors of Transformers."""

import json

import numpy as np
import pytest
import torch
from torch import nn
from transformers import EfficientNetImageProcessor, ViTImageProcessor

from limbeck.models.normalisation import saved_normalisation


class Saved(nn.Module):
    """A model that was loaded from a folder."""

    def __init__(self, folder) -> None:
        super().__init__()
        self.name_or_path = str(folder)


@pytest.mark.parametrize(
    ("processor", "settings"),
    [
        (ViTImageProcessor, {}),
        (ViTImageProcessor, {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]}),
        (ViTImageProcessor, {"do_normalize": False}),
        (ViTImageProcessor, {"do_rescale": False, "image_mean": [120.0] * 3, "image_std": [60.0] * 3}),
        (ViTImageProcessor, {"rescale_factor": 1 / 127.5}),
        (EfficientNetImageProcessor, {"rescale_factor": 1 / 127.5, "rescale_offset": True}),
    ],
)
def test_it_is_what_the_processor_does(processor, settings, tmp_path):
    made = processor(do_resize=False, do_center_crop=False, **settings)
    made.save_pretrained(tmp_path)
    image = np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    expected = made(image, return_tensors="pt")["pixel_values"][0]
    found = saved_normalisation(Saved(tmp_path))
    mean, std = (torch.tensor(numbers).reshape(-1, 1, 1) for numbers in (found.mean, found.std))
    x = torch.from_numpy(image).permute(2, 0, 1) / 255
    torch.testing.assert_close((x - mean) / std, expected.float(), rtol=1e-4, atol=1e-4)
    assert found.path == str(tmp_path / "preprocessor_config.json")


@pytest.mark.parametrize("text", ["{", "[]", json.dumps({"do_normalize": True}), json.dumps({"rescale_factor": "x"})])
def test_a_file_that_does_not_say(text, tmp_path):
    assert saved_normalisation(Saved(tmp_path)) is None
    (tmp_path / "preprocessor_config.json").write_text(text)
    assert saved_normalisation(Saved(tmp_path)) is None
    assert saved_normalisation(nn.Linear(1, 1)) is None

"""Examples are shown by their image or their text."""

import base64
import io

import torch
from PIL import Image

from limbeck.data import Examples, TensorRows
from limbeck.report import show_examples
from limbeck.report.shown import image_address


def test_an_image_has_its_true_label():
    examples = Examples(TensorRows("pixel_values", torch.rand(3, 3, 200, 100)), torch.tensor([2, -100, 0]))
    first, second = show_examples(examples, torch.tensor([0, 1]))
    assert (first.title, first.labels, second.labels, first.text) == ("Test example 0", (2,), None, None)
    assert Image.open(io.BytesIO(base64.b64decode(first.image.split(",")[1]))).size == (48, 96)


def test_an_example_has_its_several_labels():
    several = torch.tensor([[1.0, 0, 1], [0, 0, 0], [1, -100, 0]])
    shown = show_examples(Examples(TensorRows("pixel_values", torch.rand(3, 1, 4, 4)), several), torch.arange(3))
    assert [one.labels for one in shown] == [(0, 2), (), None]


def test_pixels_are_stretched_from_black_to_white():
    image = Image.open(
        io.BytesIO(base64.b64decode(image_address(torch.tensor([[[-3.0, 1.0], [-1.0, 1.0]]])).split(",")[1]))
    )
    assert list(image.convert("L").tobytes()) == [0, 255, 128, 255]


def test_a_long_text_is_cut():
    class Texts:
        class tokenizer:  # noqa: N801
            @staticmethod
            def decode(ids, skip_special_tokens):
                assert skip_special_tokens
                return " ".join(["word"] * len(ids))

        def __call__(self, rows):
            return {"input_ids": torch.zeros(len(rows), 100)}

    (one,) = show_examples(Examples(Texts(), torch.tensor([1])), torch.tensor([0]))
    assert one.image is None
    assert one.text.endswith("word [cut]")
    assert len(one.text) < 310

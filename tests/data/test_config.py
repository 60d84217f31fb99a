import dataclasses

import pytest

from limbeck.data import Augmentation, DataConfig
from limbeck.errors import ArgumentError


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("name", 3),
        ("labelled", -1),
        ("labelled", 0),
        ("labelled", 1.5),
        ("labelled", 1.0),
        ("labelled", True),
        ("transfer", "labeled"),  # would leave the transfer set out
        ("image_size", 0),
        ("channels", 2),
        ("mean", float("nan")),
        ("std", 0),
        ("std", (0.5, -0.5)),
        ("max_length", 0),
        ("max_length", "128"),
        ("augmentation", {"shift": 1}),
    ],
)
def test_what_would_go_wrong_later_is_refused_at_once(argument, value):
    with pytest.raises(ArgumentError) as caught:
        DataConfig(**{argument: value})
    assert caught.value.argument == argument
    assert repr(value) in caught.value.message


def test_every_field_can_be_given():
    given = {
        "labelled": 0.1, "transfer": "labelled", "image_size": 32, "channels": 3, "mean": (0.5, 0.4, 0.3), "std": 1,
        "augmentation": Augmentation(flip=True),
    }  # fmt: skip
    config = DataConfig(
        "a.csv", "folder", "b.csv", "c.csv", text_column="t", label_column="l", image_column="i", **given
    )
    assert dataclasses.replace(config, labelled=7).labelled == 7
    assert hash(config)

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from limbeck.data import Augmentation, DataConfig
from limbeck.data.config import check_all_are_read
from limbeck.data.sources import read_source
from limbeck.errors import ArgumentError, DataError
from support.texts import write_csv


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
        ("mean", (0.5, 0.5)),
        ("std", (0.5, 0.5, 0.5, 0.5)),
        ("mean", ()),
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


def test_as_many_numbers_as_channels():
    for channels, count in ((1, 3), (3, 2)):
        with pytest.raises(
            ArgumentError, match=f"^std: expected one number, or one for each of {channels} channels, got"
        ):
            DataConfig(channels=channels, std=(0.5,) * count)
    assert DataConfig(channels=3, std=(0.5,) * 3, mean=(0.1,)).mean == (0.1,)


SET = {
    "folder": "f", "validation": "v.csv", "test": "t.csv", "text_column": "t", "label_column": "l", "image_column": "i",
    "image_size": 32, "channels": 3, "mean": 0.5, "std": 0.5, "tokenizer": "t", "max_length": 5,
    "augmentation": Augmentation(flip=True), "subset": "s", "unlabelled": "u.csv", "group_column": "g", "columns": ("c",),
    "exclude": ("e",),
}  # fmt: skip


@given(read=st.sets(st.sampled_from(sorted(SET))), given_fields=st.sets(st.sampled_from(sorted(SET))))
def test_every_setting_without_effect_is_named(read, given_fields):
    config = DataConfig("set", labelled=0.5, transfer="labelled", **{name: SET[name] for name in given_fields})
    unread = given_fields - read
    if not unread:
        check_all_are_read(config, read, "this set")
        return
    with pytest.raises(DataError) as caught:
        check_all_are_read(config, read, "this set")
    assert {fault.partition(":")[0] for fault in caught.value.faults} == {f"data.{name}" for name in unread}


@pytest.mark.parametrize(
    ("settings", "keys"),
    [
        (dict(name="digits", image_size=32, channels=3, test="t.csv"), ["test", "image_size", "channels"]),
        (dict(name="digits", image_size=8, channels=1, mean=0.5), []),
        (dict(name="digits", tokenizer="t", max_length=9, folder="f"), ["folder", "tokenizer", "max_length"]),
        (dict(name="fashion-mnist", image_size=32), ["image_size"]),
        (
            dict(name="digits", subset="s", unlabelled="u", group_column="g", exclude=("e",)),
            ["subset", "unlabelled", "group_column", "exclude"],
        ),
        (dict(name="no/such-set", folder="f"), ["folder"]),
        (dict(name="no-such-file", validation="v.csv", test="t.csv", folder="f"), ["name"]),
    ],
)
def test_settings_that_a_data_set_does_not_read(settings, keys):
    if not keys:
        read_source(DataConfig(**settings))
        return
    with pytest.raises(DataError) as caught:
        read_source(DataConfig(**settings))
    assert [fault.partition(":")[0] for fault in caught.value.faults] == [f"data.{key}" for key in keys]


def test_settings_of_texts_and_of_images(tmp_path, tokenizer):
    write_csv(tmp_path / "a.csv", ["w1"] * 20, [0, 1] * 10)
    texts = DataConfig(name=str(tmp_path / "a.csv"), tokenizer=tokenizer, test=str(tmp_path / "a.csv"))
    assert len(read_source(texts).splits["test"]) == 20
    with pytest.raises(DataError) as caught:
        read_source(dataclasses.replace(texts, image_size=8, augmentation=Augmentation(flip=True)))
    assert caught.value.faults == (
        "data.image_size: has no effect on texts. Leave it out.",
        "data.augmentation: has no effect on texts. Leave it out.",
    )
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        Image.new("L", (4, 4)).save(tmp_path / "pets" / name / "0.png")
    with pytest.raises(DataError, match=r"^data\.tokenizer: has no effect on images\. Leave it out\.$"):
        read_source(DataConfig(name=str(tmp_path / "pets"), tokenizer=tokenizer))

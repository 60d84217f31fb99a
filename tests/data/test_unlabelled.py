"""A transfer set of the user's own, after the training examples of every kind."""

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from limbeck.data import IGNORE_INDEX, DataConfig, load_splits
from limbeck.errors import DataError
from support.tables import wine, write_wine


def check_transfer_set(splits, alone, count):
    """Check that ``count`` examples without a label come after the same training examples."""
    own = len(alone.train)
    assert len(splits.train) == own + count
    assert torch.equal(splits.train.labels[:own], alone.train.labels)
    assert bool((splits.train.labels[own:] == IGNORE_INDEX).all())
    assert torch.equal(splits.true_labels, splits.train.labels)
    assert len(splits.train.ids.unique()) == own + count
    assert len(splits.test) == len(alone.test)
    assert any(note.startswith(f"{count} training examples come from") for note in splits.notes)


def test_tables(tmp_path):
    config = {"name": str(write_wine(tmp_path / "wine.csv"))}
    more = wine()[:20].assign(alcohol=99.0, magnesium=0.5, target="of no class")
    more.drop(columns="ash").assign(ash=None).to_csv(tmp_path / "more.csv", index=False)
    alone, splits = (
        load_splits(DataConfig(**config, **given)) for given in ({}, {"unlabelled": str(tmp_path / "more.csv")})
    )
    check_transfer_set(splits, alone, 20)
    assert splits.preprocessing.table == alone.preprocessing.table
    expected = splits.preprocessing.table(more.assign(ash=np.nan))
    assert torch.equal(splits.train.as_one_batch()["inputs"][-20:], expected)
    only = load_splits(DataConfig(**config, unlabelled=str(tmp_path / "more.csv"), transfer="labelled"))
    assert len(only.train) == len(alone.train)
    few = load_splits(DataConfig(**config, unlabelled=str(tmp_path / "more.csv"), labelled=30))
    assert int(few.labelled.sum()) == 30


def test_texts(tmp_path, tokenizer):
    (tmp_path / "a.csv").write_text("text,label\n" + "w1 w2,good\nw3,bad\n" * 20)
    (tmp_path / "b.jsonl").write_text('{"text": "w5 w6 w7"}\n{"text": "w7"}\n')
    config = {"name": str(tmp_path / "a.csv"), "tokenizer": tokenizer}
    splits = load_splits(DataConfig(**config, unlabelled=str(tmp_path / "b.jsonl")))
    check_transfer_set(splits, load_splits(DataConfig(**config)), 2)
    assert splits.train.as_one_batch()["input_ids"][-2:].tolist() == [[7, 8, 9], [9, 0, 0]]


def test_images(tmp_path):
    for i in range(30):
        for folder in ("a", "b"):
            (tmp_path / "data" / folder).mkdir(parents=True, exist_ok=True)
            Image.new("L", (4, 4), i).save(tmp_path / "data" / folder / f"{i}.png")
    (tmp_path / "more").mkdir()
    for i in (51, 102):
        Image.new("L", (4, 4), i).save(tmp_path / "more" / f"{i}.png")
    config = {"name": str(tmp_path / "data")}
    splits = load_splits(DataConfig(**config, unlabelled=str(tmp_path / "more")))
    check_transfer_set(splits, load_splits(DataConfig(**config)), 2)
    pixels = splits.train.as_one_batch()["pixel_values"][-2:, 0, 0, 0]
    assert sorted(pixels.tolist()) == pytest.approx([0.4, 0.2][::-1])


def test_several_labels(tmp_path):
    rows = {"x": np.arange(40.0), "labels": [["a"], ["a", "b"]] * 20}
    datasets.Dataset.from_dict(rows).to_parquet(tmp_path / "a.parquet")
    datasets.Dataset.from_dict({"x": [1, 2, 3]}).to_parquet(tmp_path / "b.parquet")
    splits = load_splits(DataConfig(str(tmp_path / "a.parquet"), unlabelled=str(tmp_path / "b.parquet")))
    assert splits.train.labels[-3:].tolist() == [[IGNORE_INDEX] * 2] * 3


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"x": ["one"]}, "data.unlabelled: column 'x' holds texts, and that of the training examples numbers."),
        ({"y": [1.0]}, "data.unlabelled: no column 'x'; there are y."),
        ({"x": [[1.0]]}, "data.unlabelled: column 'x' holds List"),
    ],
)
def test_what_does_not_fit(columns, message, tmp_path):
    datasets.Dataset.from_dict({"x": np.arange(40.0), "label": ["a", "b"] * 20}).to_parquet(tmp_path / "a.parquet")
    datasets.Dataset.from_dict(columns).to_parquet(tmp_path / "b.parquet")
    with pytest.raises(DataError) as error:
        load_splits(DataConfig(str(tmp_path / "a.parquet"), unlabelled=str(tmp_path / "b.parquet")))
    assert message in str(error.value)


def test_a_name_of_nothing_and_data_that_take_none(tmp_path):
    (tmp_path / "a.csv").write_text("x,label\n" + "1,a\n2,b\n" * 20)
    with pytest.raises(DataError, match=r"^data\.unlabelled: '.*absent' cannot be read"):
        load_splits(DataConfig(str(tmp_path / "a.csv"), unlabelled=str(tmp_path / "absent")))
    with pytest.raises(DataError, match=r"data\.unlabelled: has no effect on digits"):
        load_splits(DataConfig(unlabelled=str(tmp_path / "a.csv")))

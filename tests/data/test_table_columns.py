"""Tables as data sets: which columns are read, and that nothing but training examples decides the format."""

import json

import datasets
import numpy as np
import pandas
import pytest
import torch

from limbeck.data import DataConfig, Preprocessing, TableFormat, load_splits
from limbeck.errors import DataError
from support.tables import wine, write_wine


@pytest.fixture
def file(tmp_path):
    return write_wine(tmp_path / "wine.csv")


def test_training_examples_alone_decide_the_format(file):
    splits = load_splits(DataConfig(str(file), labelled=30))
    frame = wine()
    train = frame.iloc[splits.train.ids.numpy()].drop(columns="target")
    assert splits.preprocessing.table == TableFormat.fit(train)
    assert splits.shape.features == 12 + 4
    assert splits.label_names == ["Barbera", "Barolo", "Grignolino"]
    for part in (splits.train, splits.validation, splits.test):
        inputs = part.as_one_batch()["inputs"]
        expected = splits.preprocessing.table(frame.iloc[part.ids.numpy()])
        assert inputs.dtype == torch.float32
        assert torch.equal(inputs, expected)
    assert splits.train.as_one_batch()["inputs"][:, :12].mean(0).abs().max() < 1e-5
    assert splits.validation.as_one_batch()["inputs"][:, :12].mean(0).abs().max() > 1e-3


def test_a_test_file_of_another_spread_and_unlabelled_rows_change_nothing(file, tmp_path):
    frame = wine()
    alone = load_splits(DataConfig(str(file), test=str(file))).preprocessing.table
    frame.assign(alcohol=frame["alcohol"] + 100).to_csv(tmp_path / "test.csv", index=False)
    more = pandas.concat([frame, frame.assign(target=None, alcohol=0.0, shade="grey")])
    more.to_csv(tmp_path / "more.csv", index=False)
    assert load_splits(DataConfig(str(file), test=str(tmp_path / "test.csv"))).preprocessing.table == alone
    assert load_splits(DataConfig(str(tmp_path / "more.csv"), test=str(file))).preprocessing.table == alone


def test_new_rows_are_fed_as_in_training(file, tmp_path):
    splits = load_splits(DataConfig(str(file)))
    splits.preprocessing.save(tmp_path)
    loaded = Preprocessing.load(tmp_path)
    assert loaded == splits.preprocessing
    rows = wine().iloc[splits.test.ids.numpy()].to_dict("records")
    assert torch.equal(loaded(rows)["inputs"], splits.test.as_one_batch()["inputs"])
    assert torch.equal(loaded(rows[:1])["inputs"], splits.test[0]["inputs"][None])


def test_chosen_columns(file):
    chosen = load_splits(DataConfig(str(file), columns=("shade", "ash"))).preprocessing.table
    assert chosen.columns == ["ash", "shade"]
    left = load_splits(DataConfig(str(file), exclude=("shade",))).preprocessing.table
    assert left.columns == list(wine().drop(columns=["target", "shade"]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"columns": ("ash", "hue")}, "data.columns: no column 'hue'; there are alcohol, "),
        ({"exclude": ("hue",)}, "data.exclude: no column 'hue'"),
        ({"columns": ("target",)}, "data.columns: 'target' holds the labels"),
        ({"columns": ("ash",), "exclude": ("ash",)}, "data.columns: no column is left"),
        ({"max_length": 7}, "data.max_length: has no effect on a table"),
        ({"mean": 0.5}, "data.mean: has no effect on a table"),
    ],
)
def test_columns_that_cannot_be_read(file, settings, message):
    with pytest.raises(DataError) as error:
        load_splits(DataConfig(str(file), **settings))
    assert message in str(error.value)


def test_another_split_that_has_something_else(file, tmp_path):
    wine().assign(ash="much").to_csv(tmp_path / "test.csv", index=False)
    with pytest.raises(DataError, match=r"data\.columns: test: column 'ash' holds 'much'"):
        load_splits(DataConfig(str(file), test=str(tmp_path / "test.csv")))
    wine().drop(columns="ash").to_csv(tmp_path / "test.csv", index=False)
    with pytest.raises(DataError, match=r"data\.columns: test has no column 'ash'"):
        load_splits(DataConfig(str(file), test=str(tmp_path / "test.csv")))


def test_text_columns_are_not_taken_for_a_table(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\n" + "good film,1\nbad film,0\n" * 10)
    with pytest.raises(DataError, match=r"data\.tokenizer: needed for texts"):
        load_splits(DataConfig(str(tmp_path / "a.csv")))
    assert load_splits(DataConfig(str(tmp_path / "a.csv"), columns=("text",))).shape.features == 2


def test_a_class_label_among_the_inputs_is_a_category(tmp_path):
    features = datasets.Features({
        "size": datasets.Value("int32"), "colour": datasets.ClassLabel(names=["red", "blue"]),
        "label": datasets.ClassLabel(names=["no", "yes"]),
    })  # fmt: skip
    rows = {"size": list(range(40)), "colour": [-1, *[1, 0] * 19, 1], "label": [0, 1] * 20}
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "saved")
    table = load_splits(DataConfig(str(tmp_path / "saved"), columns=("size", "colour"))).preprocessing.table
    assert list(table.numbers) == ["size"]
    assert set(table.categories["colour"]) - {""} == {"red", "blue"}


def test_several_labels_for_each_row(tmp_path):
    rng = np.random.default_rng(0)
    rows = [{"x": float(x), "labels": [name for name in "ab" if rng.random() < 0.5]} for x in rng.normal(size=60)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    splits = load_splits(DataConfig(str(tmp_path / "a.jsonl")))
    assert splits.task == "multi_label"
    assert splits.train.as_one_batch()["inputs"].shape == (48, 1)

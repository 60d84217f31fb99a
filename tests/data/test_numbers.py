"""Labels that are numbers: read from columns, standardised by the training examples, and hidden."""

import math

import datasets
import numpy as np
import pytest
import torch

from limbeck.data import DataConfig, NumberFormat, Preprocessing, hide_labels, load_splits
from limbeck.data.numbers import encode_numbers, hold_numbers
from limbeck.errors import DataError
from support.without_classes import write_diabetes

NAN = math.nan


def table(*values, **others):
    return {"train": datasets.Dataset.from_dict({"y": list(values), **others})}


def test_which_columns_hold_numbers():
    assert hold_numbers(table(1.5, None, 2.0), "y")
    assert hold_numbers(table([1.0, 2.0], [3.0, 4.0]), "y")
    for classes in ((1.0, None, 2.0), (1, 2, 3), ("1.5", "2", "a"), ([1, 2], [3], [])):
        assert not hold_numbers(table(*classes), "y")


def test_numbers_and_empty_cells():
    tables = table(1.5, None, NAN, -100.0) | {"test": datasets.Dataset.from_dict({"x": [1, 2]})}
    labels, names = encode_numbers(tables, "y")
    assert names == ["y"]
    assert np.array_equal(labels["train"].numpy(), np.float32([[1.5], [NAN], [NAN], [-100]]), equal_nan=True)
    assert labels["test"].isnan().tolist() == [[True], [True]]
    labels, names = encode_numbers(table([1, 2], [3, 4]), "y")
    assert names == ["y[0]", "y[1]"]
    assert labels["train"].tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (("1.5", "2"), "holds '1.5'. Finite numbers are expected"),
        (("1.5", "high"), "holds 'high'. Finite numbers are expected"),
        ((1.5, math.inf), "holds inf"),
        ((True, False), "holds True"),
        (([1.0], [1.0, 2.0]), "holds 2 numbers in one row, and 1 in others"),
        ((None, None), "empty cells alone"),
    ],
)
def test_what_is_no_number_is_refused(values, message):
    with pytest.raises(DataError, match=f"data.label_column: .*{message}"):
        encode_numbers(table(*values), "y")


def test_a_table_of_numbers(tmp_path):
    config = DataConfig(str(write_diabetes(tmp_path / "data.csv")), labelled=30)
    splits = load_splits(config, task="regression")
    assert splits.task == "regression"
    assert splits.label_names == ["target"]
    assert splits.shape.classes == 1
    assert splits.true_labels.mean().item() == pytest.approx(0, abs=1e-6)
    assert splits.true_labels.std(correction=0).item() == pytest.approx(1)
    assert int(splits.labelled.sum()) == 30
    assert torch.equal(splits.train.labels[splits.labelled], splits.true_labels[splits.labelled])
    assert int(hide_labels(splits, 7, transfer=False).labelled.sum()) == 7
    target = splits.preprocessing.target
    raw = target.undo(torch.cat([splits.true_labels, splits.validation.labels, splits.test.labels]))
    from sklearn.datasets import load_diabetes

    assert raw.squeeze(-1).sort().values.numpy() == pytest.approx(np.sort(load_diabetes().target), rel=1e-5)
    assert target(raw)[: len(splits.train)].numpy() == pytest.approx(splits.true_labels.numpy(), abs=1e-5)
    splits.preprocessing.save(tmp_path)
    assert Preprocessing.load(tmp_path).target == target
    with pytest.raises(DataError, match="and no classes, set task: regression"):
        load_splits(config)


def test_numbers_that_are_all_the_same_are_refused(tmp_path):
    (tmp_path / "data.csv").write_text("x,y\n" + "".join(f"{i},2.5\n" for i in range(20)))
    with pytest.raises(DataError, match="'y' is the same number in all training examples"):
        load_splits(DataConfig(str(tmp_path / "data.csv"), label_column="y"))


def test_embeddings_have_no_labels(tmp_path):
    config = DataConfig(str(write_diabetes(tmp_path / "data.csv")))
    splits = load_splits(config, task="embeddings")
    assert splits.labelled.all()
    assert splits.train.labels.shape == (354, 0)
    assert "target" in splits.preprocessing.table.columns
    with pytest.raises(DataError, match=r"data\.label_column: embeddings have no labels"):
        load_splits(DataConfig(config.name, label_column="target"), task="embeddings")


def test_the_format_is_its_own_inverse():
    numbers, target = torch.tensor([[1.0, 20.0], [3.0, -5.0]]), NumberFormat([2.0, 5.0], [0.5, 10.0])
    assert target(numbers).tolist() == [[-2.0, 1.5], [2.0, -1.0]]
    assert torch.equal(target.undo(target(numbers)), numbers)

import dataclasses

import numpy as np
import pandas
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from limbeck.data import IGNORE_INDEX, DataConfig, hide_labels, load_splits
from limbeck.errors import ArgumentError, DataError


def ids_of(splits):
    return [set(part.ids.tolist()) for part in (splits.train, splits.validation, splits.test)]


def test_digits_are_kept_apart_and_stratified():
    splits = load_splits(DataConfig())
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [1097, 300, 400]
    train, validation, test = ids_of(splits)
    assert len(train | validation | test) == 1797
    for part in (splits.train, splits.validation, splits.test):
        shares = torch.bincount(part.labels, minlength=10) / len(part)
        assert shares.min() > 0.08
        assert shares.max() < 0.12
    again = load_splits(DataConfig(), seed=5)
    assert ids_of(again) == ids_of(splits)  # the seed draws labels, not the split
    pixels = splits.train.as_one_batch()["pixel_values"]
    assert pixels.shape == (1097, 1, 8, 8)
    assert (pixels.min(), pixels.max()) == (0, 1)


def test_hidden_labels():
    splits = load_splits(DataConfig(labelled=100), seed=1)
    assert splits.labelled.sum() == 100
    assert torch.bincount(splits.train.labels[splits.labelled]).tolist() == [10] * 10
    assert torch.equal(splits.true_labels[splits.labelled], splits.train.labels[splits.labelled])
    other = hide_labels(splits, 100, seed=2)
    assert not torch.equal(other.labelled, splits.labelled)
    assert torch.equal(hide_labels(other, None).train.labels, splits.true_labels)
    assert hide_labels(splits, 0.1).labelled.sum() == 110


def test_transfer_left_out():
    splits = load_splits(DataConfig(labelled=100, transfer="labelled"))
    assert len(splits.train) == 100
    assert splits.labelled.all()
    assert set(splits.train.ids.tolist()) < ids_of(load_splits(DataConfig()))[0]


@pytest.mark.parametrize(
    ("labelled", "message"), [(5000, "data.labelled: cannot draw 5000"), (3, "data.labelled: cannot draw 3")]
)
def test_too_many_or_too_few_labels(labelled, message):
    with pytest.raises(DataError, match=message):
        load_splits(DataConfig(labelled=labelled))


@pytest.mark.parametrize("labelled", [0, -5, 2.5, -0.1, float("nan")])
def test_a_number_of_labels_that_is_none(labelled):
    with pytest.raises(
        ArgumentError, match=r"^labelled: expected a positive whole number, or a fraction below 1, got "
    ):
        hide_labels(load_splits(DataConfig()), labelled)


def test_what_a_fraction_and_a_number_keep_is_the_same():
    splits = load_splits(DataConfig())
    assert torch.equal(hide_labels(splits, 0.5).train.labels, hide_labels(splits, round(0.5 * 1097)).train.labels)


class TestUnlabelled:
    """Examples that have no label in the data set itself."""

    @pytest.fixture
    def splits(self):
        splits = load_splits(DataConfig())
        labels = splits.true_labels.clone()
        labels[::2] = IGNORE_INDEX
        return dataclasses.replace(splits, train=splits.train.with_labels(labels), true_labels=labels)

    def test_labels_are_drawn_among_those_that_there_are(self, splits):
        drawn = hide_labels(splits, 100)
        assert drawn.labelled.sum() == 100
        assert not drawn.labelled[::2].any()
        assert hide_labels(splits, 0.5).labelled.sum() == round(0.5 * 548)
        assert torch.equal(hide_labels(splits, None).train.labels, splits.true_labels)

    def test_without_a_transfer_set_only_labelled_ones_stay(self, splits):
        assert len(hide_labels(splits, None, transfer=False).train) == 548
        assert hide_labels(splits, 100, transfer=False).labelled.all()

    def test_no_labels_at_all(self, splits):
        none = dataclasses.replace(splits, true_labels=torch.full_like(splits.true_labels, IGNORE_INDEX))
        assert not hide_labels(none, None).labelled.any()
        with pytest.raises(DataError, match=r"data\.transfer: none of the training examples has a label"):
            hide_labels(none, None, transfer=False)
        with pytest.raises(DataError, match=r"data\.labelled: cannot draw 10 of 0 labelled examples"):
            hide_labels(none, 10)


class TestGroups:
    """Validation and test sets that take whole groups of a column."""

    def splits(self, folder, groups, labels, x=None, **given):
        frame = pandas.DataFrame({"x": range(len(labels)) if x is None else x, "who": groups, "label": labels})
        frame.to_csv(folder / "a.csv", index=False)
        return load_splits(DataConfig(str(folder / "a.csv"), group_column="who", **given))

    @given(groups=st.integers(8, 40), size=st.integers(2, 9), seed=st.integers(0, 99))
    @settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
    def test_no_group_is_on_both_sides(self, groups, size, seed, tmp_path):
        numbers = np.random.default_rng(seed).permutation(np.repeat(np.arange(groups), size))
        labels = np.where(np.random.default_rng(seed + 1).random(len(numbers)) < 0.4, "a", "b")
        splits = self.splits(tmp_path, numbers, labels)
        parts = [set(numbers[part.ids]) for part in (splits.train, splits.validation, splits.test)]
        assert sum(map(len, parts)) == len(set.union(*parts)) == groups
        assert sum(map(len, ids_of(splits))) == len(numbers)
        assert splits.preprocessing.table.columns == ["x"]
        assert any("all labelled ones of some groups, are the test set" in note for note in splits.notes)

    def test_classes_keep_their_shares(self, tmp_path):
        labels = np.array(["a", "b", "b", "c"] * 100)
        splits = self.splits(tmp_path, np.arange(400) // 4, labels)
        for part in (splits.test, splits.validation):
            assert 30 <= len(part) <= 50
            assert torch.bincount(part.labels).tolist() == [len(part) // 4, len(part) // 2, len(part) // 4]

    def test_unlabelled_examples_of_the_groups_are_on_no_side(self, tmp_path):
        numbers = np.arange(300) // 3
        labels = np.where(np.arange(300) % 3 == 0, None, np.where(np.arange(300) % 3 == 1, "a", "b"))
        (tmp_path / "more.csv").write_text("x,who\n" + "".join(f"{i},{i}\n" for i in range(100)))
        splits = self.splits(tmp_path, numbers, labels, unlabelled=str(tmp_path / "more.csv"))
        held_out = set(numbers[splits.test.ids]) | set(numbers[splits.validation.ids])
        whose = np.concatenate([numbers, np.arange(100)])[splits.train.ids]
        assert not held_out & set(whose)
        assert len(splits.train) == 4 * (100 - len(held_out))
        assert any(
            note.endswith("without a label belong to the same groups and are left out.") for note in splits.notes
        )

    def test_groups_that_cannot_be_parted(self, tmp_path):
        for groups, labels in ((["one"] * 20, ["a", "b"] * 10), (["a", "b"] * 10, ["a", "b"] * 10)):
            with pytest.raises(DataError, match=r"data\.group_column: no choice among the \d groups"):
                self.splits(tmp_path, groups, labels)
        (tmp_path / "b.csv").write_text("x,label\n1,a\n2,b\n")
        with pytest.raises(DataError, match=r"data\.group_column: no column 'who'; there are x, label"):
            load_splits(DataConfig(str(tmp_path / "b.csv"), group_column="who"))

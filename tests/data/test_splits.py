import dataclasses

import pytest
import torch

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

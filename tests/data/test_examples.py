import pytest
import torch
from torch.utils.data import DataLoader

from limbeck.data import DataConfig, Examples, TensorRows, identity_collate, load_splits
from limbeck.errors import DataError

INPUTS = torch.arange(12.0).reshape(6, 2)


def examples():
    return Examples(TensorRows("x", INPUTS), torch.tensor([5, 4, 3, 2, 1, 0]))


def test_batches_come_whole_from_a_loader():
    splits = load_splits(DataConfig(labelled=50))
    batch = next(iter(DataLoader(splits.train, batch_size=7, collate_fn=identity_collate)))
    assert batch["pixel_values"].shape == (7, 1, 8, 8)
    assert batch["example_id"].tolist() == splits.train.ids[:7].tolist()
    one = splits.train[3]
    assert torch.equal(one["pixel_values"], batch["pixel_values"][3])
    with pytest.raises(IndexError):
        splits.train[len(splits.train)]


def test_a_subset_of_a_subset_keeps_the_ids():
    some = examples().subset(torch.tensor([4, 1, 3])).subset(torch.tensor([2, 0]))
    batch = some.as_one_batch()
    assert batch["example_id"].tolist() == some.ids.tolist() == [3, 4]
    assert batch["labels"].tolist() == [2, 1]
    assert torch.equal(batch["x"], INPUTS[[3, 4]])
    assert some[-1]["example_id"] == 4


def test_other_labels():
    some = examples().subset(torch.tensor([2, 5])).with_labels(torch.tensor([7, 8], dtype=torch.int32))
    assert some.labels.dtype == torch.int64
    assert some.as_one_batch()["labels"].tolist() == [7, 8]
    assert some.ids.tolist() == [2, 5]
    with pytest.raises(ValueError, match=r"^labels: expected one for each of 6 examples, got 5"):
        examples().with_labels(torch.zeros(5))


def test_a_loader_that_joins_rows_is_told_what_to_do():
    examples = Examples(TensorRows("x", torch.zeros(6, 2)), torch.zeros(6))
    with pytest.raises(
        DataError, match=r"^collate_fn: Examples return whole batches, .*limbeck\.data\.identity_collate"
    ):
        next(iter(DataLoader(examples, batch_size=2)))
    with pytest.raises(KeyError, match="pixels"):
        examples.as_one_batch()["pixels"]
    assert examples.tokenizer is None

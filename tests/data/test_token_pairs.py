"""Sources and targets: how they are padded and cut."""

import pytest
import torch

from limbeck.data import TokenPairs
from limbeck.errors import DataError
from support.language import ended_tokenizer, tokenizer

PAIRS = [("w0 w1 w2", "w3"), ("w4", "w5 w6 w7 w8 w9")]


def test_both_texts_are_padded_to_the_longest_of_the_batch():
    load = TokenPairs(PAIRS, ended_tokenizer(), 8, 8)
    batch = load([0, 1])
    assert batch["input_ids"].tolist() == [[2, 3, 4, 28], [6, 28, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert batch["labels"].tolist() == [[5, 28, -100, -100, -100, -100], [7, 8, 9, 10, 11, 28]]
    assert torch.equal(batch["mask"], batch["labels"] != -100)
    assert (load.lengths, load.counted.tolist(), load.highest_id) == ([4, 6], [2, 6], 28)
    assert load.bytes_per_token == 16 / 8


def test_a_text_that_is_cut_keeps_its_end():
    load = TokenPairs(PAIRS, ended_tokenizer(), 3, 4)
    batch = load([0, 1])
    assert batch["input_ids"].tolist() == [[2, 3, 28], [6, 28, 0]]
    assert batch["labels"][1].tolist() == [7, 8, 9, 28]
    assert (load.cut_sources, load.cut_targets) == (1, 1)
    assert load.bytes_per_token == 16 / 8  # of whole texts


def test_a_target_without_a_token_is_refused():
    with pytest.raises(DataError, match=r"data.text_column: the target of pair 0 has no tokens"):
        TokenPairs([("w0", "")], tokenizer(), 8, 8)

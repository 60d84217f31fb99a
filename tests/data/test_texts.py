import pytest
import torch

from limbeck.data import Texts, load_tokenizer
from limbeck.errors import DataError


def test_each_batch_is_padded_to_its_longest_text(tokenizer):
    texts = Texts(["w1 w2 w3", "w4", "w5 other"], load_tokenizer(tokenizer), max_length=8)
    batch = texts([1, 2])
    assert batch["input_ids"].tolist() == [[6, 0], [7, 1]]
    assert batch["attention_mask"].tolist() == [[1, 0], [1, 1]]
    assert texts([0])["input_ids"].tolist() == [[3, 4, 5]]


def test_long_texts_are_cut_and_many_are_kept_in_order(tokenizer):
    words = [f"w{i % 20} w0 w0" for i in range(2003)]  # more than are tokenised in one call
    ids = Texts(words, load_tokenizer(tokenizer), max_length=2)(list(range(2003)))["input_ids"]
    assert ids.shape == (2003, 2)
    assert torch.equal(ids[:, 0], torch.arange(2003) % 20 + 2)


def test_what_is_not_a_text(tokenizer):
    with pytest.raises(DataError, match=r"data\.text_column: row 1 is no text but None"):
        Texts(["w1", None], load_tokenizer(tokenizer), max_length=8)


def test_a_tokenizer_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match=r"data\.tokenizer: .* cannot be loaded"):
        load_tokenizer(str(tmp_path / "absent"))
    with pytest.raises(DataError, match=r"data\.tokenizer: needed for texts"):
        load_tokenizer(None)

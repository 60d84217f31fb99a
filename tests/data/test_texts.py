import dataclasses

import pytest
import torch

from limbeck.data import DataConfig, Preprocessing, Texts, load_splits, load_tokenizer
from limbeck.errors import DataError
from support.texts import pair_tokenizer


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


class TestPairs:
    """Two texts that are read together."""

    def test_each_pair_is_tokenised_as_the_tokenizer_does_it_alone(self):
        tokenizer = pair_tokenizer()
        pairs = [("w1 w2 w3", "w4"), ("w5", "w6 w7"), ("", "w1 w2 w3 w4 w5 w6")]
        batch = Texts(pairs, tokenizer, max_length=7)([0, 1, 2])
        for i, (first, second) in enumerate(pairs):
            alone = tokenizer(first, second, truncation=True, max_length=7)
            length = len(alone["input_ids"])
            assert batch["input_ids"][i, :length].tolist() == alone["input_ids"]
            assert batch["token_type_ids"][i, :length].tolist() == alone["token_type_ids"]
            assert batch["attention_mask"][i].tolist() == [1] * length + [0] * (7 - length)
        assert batch["token_type_ids"][0].tolist() == [0, 0, 0, 0, 0, 1, 1]

    def test_a_pair_with_an_empty_cell(self):
        with pytest.raises(DataError, match=r"data\.text_column: row 1 is no text but \('w2', None\)"):
            Texts([("w1", "w2"), ("w2", None)], pair_tokenizer(), max_length=8)  # pyright: ignore[reportArgumentType]

    def test_a_tokenizer_that_runs_both_texts_together(self, tokenizer):
        with pytest.raises(DataError, match="puts nothing between the two texts of a pair"):
            Texts([("w1", "w2")], load_tokenizer(tokenizer), max_length=8)

    def test_a_data_set_of_pairs(self, tmp_path):
        pair_tokenizer().save_pretrained(tmp_path / "t")
        (tmp_path / "a.csv").write_text("premise,hypothesis,label\n" + "w1,w2 w3,yes\nw4 w5,w6,no\n" * 20)
        (tmp_path / "b.jsonl").write_text('{"hypothesis": "w8", "premise": "w7"}\n')
        config = DataConfig(
            str(tmp_path / "a.csv"), text_column=("premise", "hypothesis"), tokenizer=str(tmp_path / "t")
        )
        splits = load_splits(dataclasses.replace(config, unlabelled=str(tmp_path / "b.jsonl")))
        rows = splits.train.as_one_batch()
        assert rows["input_ids"][-1].tolist()[:5] == [22, 9, 23, 10, 23]
        splits.preprocessing.save(tmp_path)
        again = Preprocessing.load(tmp_path)([{"hypothesis": "w8", "premise": "w7", "id": 3}])
        assert again["input_ids"].tolist() == [[22, 9, 23, 10, 23]]
        for given, name in ((("premise", "answer"), "answer"), (("question", "premise"), "question")):
            with pytest.raises(
                DataError, match=rf"data\.text_column: no column '{name}'; there are premise, hypothesis"
            ):
                load_splits(dataclasses.replace(config, text_column=given))

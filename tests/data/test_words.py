"""Words: the first token of each stands for it, whatever the tokenizer does; tags by name."""

import pytest
import torch

from limbeck.data import DataConfig, load_splits
from limbeck.data.words import Words
from limbeck.errors import DataError
from support.tagged import pieces_tokenizer, rows, write_rows, write_tagger


def test_the_first_token_of_a_word_stands_for_it():
    words = Words([["ada", "saw", "rome"], ["the"]], pieces_tokenizer(), 64).with_tags([[2, 0, 1], None])
    batch = words([0, 1])
    # [CLS] a d a s a w r o m e [SEP]
    assert batch["labels"][0].tolist() == [-100, 2, -100, -100, 0, -100, -100, 1, -100, -100, -100, -100]
    assert batch["mask"][0].nonzero().flatten().tolist() == [1, 4, 7]
    assert batch["mask"][1].nonzero().flatten().tolist() == [1]
    assert (batch["labels"][1] == -100).all()


def test_padding_on_the_left_and_words_without_a_token():
    tokenizer = pieces_tokenizer()
    tokenizer.padding_side = "left"
    words = Words([["ada"], ["saw", " ", "rome", "the"]], tokenizer, 9).with_tags([[2], [0, 3, 1, 5]])
    batch = words([0, 1])
    assert batch["attention_mask"][0].tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 1]
    assert batch["labels"][0].tolist() == [-100] * 5 + [2] + [-100] * 3
    assert batch["labels"][1].tolist() == [-100, 0, -100, -100, 1, -100, -100, -100, -100]
    assert words.without_token([1, 4]) == 2


def test_a_file_of_tagged_words(tmp_path):
    write_tagger(tmp_path / "tok", 8)
    write_rows(tmp_path / "a.jsonl", [*rows(20), {"tokens": ["ada", "saw"], "tags": None}])
    splits = load_splits(DataConfig(name=str(tmp_path / "a.jsonl"), tokenizer=str(tmp_path / "tok")))
    assert (splits.task, splits.label_names) == ("token_classification", ["B-CITY", "B-NAME", "O"])
    batch, known = splits.train.as_one_batch(), splits.train.labelled
    assert known.sum() == len(known) - 1
    assert torch.equal(batch["mask"], batch["attention_mask"].bool())
    assert torch.equal(batch["labels"][known] != -100, batch["mask"][known])


def test_what_is_refused(tmp_path):
    write_tagger(tmp_path / "tok", 8)

    def fault(*given):
        write_rows(tmp_path / "a.jsonl", [*rows(20), *given])
        with pytest.raises(DataError) as caught:
            load_splits(DataConfig(name=str(tmp_path / "a.jsonl"), tokenizer=str(tmp_path / "tok")))
        return str(caught.value)

    assert "row 20 of train has not one tag for each of its words" in fault({"tokens": ["a", "b"], "tags": ["O"]})
    write_rows(tmp_path / "a.jsonl", rows(20))
    write_rows(tmp_path / "t.jsonl", [{"tokens": ["a"], "tags": ["B-ROAD"]}])
    with pytest.raises(DataError, match="test has the tag 'B-ROAD', which train lacks"):
        load_splits(
            DataConfig(name=str(tmp_path / "a.jsonl"), test=str(tmp_path / "t.jsonl"), tokenizer=str(tmp_path / "tok"))
        )
    write_rows(tmp_path / "a.jsonl", [{"tokens": ["a"], "label": "x"}, {"tokens": ["a"], "label": "y"}])
    with pytest.raises(DataError, match="Expected a list with a tag for each word"):
        load_splits(DataConfig(name=str(tmp_path / "a.jsonl"), tokenizer=str(tmp_path / "tok")))


def test_words_that_are_one_text_are_refused(tmp_path):
    write_rows(tmp_path / "a.jsonl", [{**row, "tokens": " ".join(row["tokens"])} for row in rows(5)])
    with pytest.raises(
        DataError, match=r"^data\.text_column: tokens holds texts, and tags a list of tags\. Expected a list"
    ):
        load_splits(DataConfig(name=str(tmp_path / "a.jsonl"), tokenizer="none"))

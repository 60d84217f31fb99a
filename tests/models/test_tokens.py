"""Tokens of a model: found beside its weights, never made up, and never asked of a hub."""

import pytest
import torch
from torch import nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertModel,
    PreTrainedTokenizerFast,
)

from limbeck.errors import ArgumentError
from limbeck.models import saved_tokens, token_columns, tokens_of
from limbeck.models.tokens import TOKENIZER_FILES
from limbeck.outputs import Vocabulary, align_vocabularies
from support.texts import word_tokenizer


def bert(cls=BertForSequenceClassification):
    size = dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    return cls(BertConfig(vocab_size=24, **size))


def test_tokens_are_those_of_the_folder_with_added_ones(tmp_path):
    tokenizer = word_tokenizer()
    tokenizer.add_tokens(["<think>"])
    bert().save_pretrained(tmp_path)
    model = BertForSequenceClassification.from_pretrained(tmp_path)
    assert saved_tokens(model) is None  # Transformers would make an empty tokenizer for BERT here
    tokenizer.save_pretrained(tmp_path)
    assert saved_tokens(model) == tokens_of(tokenizer) == tokenizer.get_vocab()
    assert saved_tokens(model)["<think>"] == 22
    assert saved_tokens(torch.compile(model, backend="eager")) == tokenizer.get_vocab()
    (tmp_path / "tokenizer_config.json").write_text("{")
    (tmp_path / "tokenizer.json").unlink()
    assert saved_tokens(model) is None


@pytest.mark.parametrize("name", ["", "someone/a-model-that-nobody-has", "runs/gone/student", "/no/such folder/x"])
def test_nothing_is_known_of_a_model_from_elsewhere(name, monkeypatch):
    import socket

    def refuse(*_args, **_kwargs):
        raise AssertionError("a hub was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    model = bert()
    model.name_or_path = name
    assert saved_tokens(model) is None
    assert saved_tokens(nn.Linear(2, 2)) is None


def test_a_model_that_was_downloaded_finds_its_tokenizer(tmp_path, monkeypatch):
    """The hub's cache is a folder too: it is read without asking the hub."""
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    folder = tmp_path / "models--someone--model"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("abc")
    word_tokenizer().save_pretrained(folder / "snapshots" / "abc")
    assert any((folder / "snapshots" / "abc" / name).is_file() for name in TOKENIZER_FILES)
    model = bert()
    model.name_or_path = "someone/model"
    assert saved_tokens(model) == word_tokenizer().get_vocab()


def test_whose_columns_are_tokens():
    assert token_columns(bert(BertForMaskedLM)) == 24
    assert token_columns(nn.Sequential(bert(BertForMaskedLM))) == 24
    for model in (bert(), bert(BertModel), nn.Linear(2, 24)):
        assert token_columns(model) is None


def test_a_processor_has_a_tokenizer_and_an_image_processor_has_none():
    processor = type("Processor", (), {"tokenizer": word_tokenizer()})()
    assert tokens_of(processor) == word_tokenizer().get_vocab()
    assert tokens_of(object()) is None
    assert tokens_of(None) is None


def byte_level_bpe():
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(["the film was sad"] * 9, trainers.BpeTrainer(vocab_size=280, initial_alphabet=alphabet))
    return made


def sentencepiece():
    from tokenizers import Tokenizer, models, pre_tokenizers

    made = Tokenizer(
        models.Unigram([("<unk>", 0.0), ("▁the", -1.0), ("▁film", -2.0), ("▁", -3.0), ("s", -4.0)], unk_id=0)
    )
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    return made


@pytest.mark.parametrize("make", [byte_level_bpe, sentencepiece])
def test_every_kind_of_tokenizer_equals_itself_and_no_other(make, tmp_path):
    """Spaces are Ġ for one kind and ▁ for the other; tokens that are added stand after ``vocab_size``."""
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=make())
    tokenizer.add_special_tokens({"additional_special_tokens": ["<think>"]})
    assert tokenizer.vocab_size < len(tokenizer)
    bert().save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    found = saved_tokens(BertForSequenceClassification.from_pretrained(tmp_path))
    assert found == tokens_of(tokenizer)
    assert len(found) == len(tokenizer)
    assert align_vocabularies(Vocabulary(found, 400), Vocabulary(tokens_of(tokenizer), 300)) == 300
    with pytest.raises(ArgumentError, match="do not stand for the same token"):
        align_vocabularies(Vocabulary(found, 300), Vocabulary(word_tokenizer().get_vocab(), 300))

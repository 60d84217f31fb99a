"""Whether a language model can read the documents of the data."""

import dataclasses

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from limbeck.data import DataConfig, load_splits
from limbeck.errors import ConfigError
from limbeck.run.language import check_language_model
from support.language import llama, tokenizer, write_corpus


class ReadsNoPositions(torch.nn.Module):
    """A language model of the user's own, whose attention is over the whole block."""

    def __init__(self):
        super().__init__()
        self.inside = llama()

    def forward(self, input_ids):
        return self.inside(input_ids).logits


def gpt2(n_positions=64):
    return GPT2LMHeadModel(GPT2Config(vocab_size=29, n_embd=16, n_layer=2, n_head=2, n_positions=n_positions))


@pytest.fixture(scope="module")
def splits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    tokenizer().save_pretrained(folder / "tokenizer")
    config = DataConfig(str(write_corpus(folder / "texts")), tokenizer=str(folder / "tokenizer"), max_length=32)
    return {
        packing: load_splits(dataclasses.replace(config, packing=packing), task="causal_lm")
        for packing in (True, False)
    }


def test_models_that_keep_documents_apart(splits):
    model = gpt2().train()
    check_language_model(model, splits[True], "student.model")
    assert model.training
    check_language_model(llama(), splits[True], "student.model")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (ReadsNoPositions(), r"data.packing: student.model \(ReadsNoPositions\) lets a document of a block see"),
        (llama(vocabulary=20), "data.tokenizer: the data have ids up to 28, and student.model knows 20 tokens"),
        (gpt2(n_positions=16), "data.max_length: the longest sequence has 32 tokens, and student.model was made for 16"),
    ],
)  # fmt: skip
def test_models_that_cannot_read_the_documents(splits, model, message):
    with pytest.raises(ConfigError, match=message) as caught:
        check_language_model(model, splits[True], "student.model")
    assert len(caught.value.faults) == 1


def test_documents_one_by_one_need_no_positions(splits):
    check_language_model(ReadsNoPositions(), splits[False], "student.model")

"""A teacher with another tokenizer reads the text of a batch, and its logits stand at the tokens of the student."""

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from limbeck.models import Retokenised
from support.language import WORDS, llama, tokenizer
from support.texts import word_tokenizer

OURS = tokenizer()
REVERSED = word_tokenizer(["[EOS]", *WORDS[::-1]], eos_token="[EOS]")
TEXTS = "w3 w1 w4 w1 w5", "w9 w2 w6"


def by_bytes():
    """Return a tokenizer whose tokens are single characters."""
    from tokenizers import Tokenizer, decoders
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel

    made = Tokenizer(BPE({letter: i for i, letter in enumerate(["[PAD]", *sorted(ByteLevel.alphabet())])}, []))
    made.pre_tokenizer, made.decoder = ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=made, pad_token="[PAD]")


def alone(model, own, text):
    """Return the model's logits for one text."""
    with torch.no_grad():
        return model(input_ids=torch.tensor([own(text)["input_ids"]])).logits[0]


def ids(text):
    return OURS(text)["input_ids"]


def test_tokens_are_paired_by_their_number():
    model = llama(vocabulary=29, seed=1)
    teacher = Retokenised(model, REVERSED, OURS).eval()
    rows = [ids(text) for text in TEXTS]
    there = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    with torch.no_grad():
        logits = teacher(torch.tensor([rows[0], [*rows[1], 0, 0]]), there)
    torch.testing.assert_close(logits[0], alone(model, REVERSED, TEXTS[0]))
    torch.testing.assert_close(logits[1, :3], alone(model, REVERSED, TEXTS[1]))
    assert logits[1, 3:].isneginf().all()


@pytest.mark.parametrize("side", ["blocks", "left"])
def test_each_document_is_read_by_itself(side):
    model = llama(vocabulary=29, seed=1)
    teacher = Retokenised(model, REVERSED, OURS).eval()
    first, second = map(ids, TEXTS)
    end = OURS.eos_token_id
    with torch.no_grad():
        if side == "blocks":
            positions = torch.tensor([[*range(6), *range(4)]])
            logits = teacher(torch.tensor([[*first, end, *second, end]]), position_ids=positions)[0]
            assert logits[[5, 9]].isneginf().all()  # a special token is no text
            logits = logits[[*range(5), *range(6, 9)]]
        else:
            there = torch.tensor([[0, 0, 1, 1, 1]])
            positions = (there.cumsum(-1) - 1).clamp(min=0)
            logits = teacher(torch.tensor([[0, 0, *second]]), there, positions)[0, 2:]
            torch.testing.assert_close(logits, alone(model, REVERSED, TEXTS[1]))
            return
    torch.testing.assert_close(logits[:5], alone(model, REVERSED, TEXTS[0]))
    torch.testing.assert_close(logits[5:], alone(model, REVERSED, TEXTS[1]))


def test_both_are_cut_to_the_shorter_one():
    own = by_bytes()
    model = llama(vocabulary=len(own), seed=1)
    with torch.no_grad():
        longer = Retokenised(model, own, OURS).eval()(torch.tensor([ids(TEXTS[0])]))[0]
    assert len(longer) == 5
    assert len(own(TEXTS[0])["input_ids"]) > 5
    torch.testing.assert_close(longer, alone(model, own, TEXTS[0])[:5])
    words = llama(vocabulary=29, seed=1)
    letters = torch.tensor([own(TEXTS[0])["input_ids"]])
    with torch.no_grad():
        shorter = Retokenised(words, OURS, own).eval()(letters)[0]
    torch.testing.assert_close(shorter[:5], alone(words, OURS, TEXTS[0]))
    assert shorter[5:].isneginf().all()


def test_a_batch_without_text():
    with pytest.raises(ValueError, match="no text"):
        Retokenised(llama(), REVERSED, OURS)(torch.full((1, 3), OURS.eos_token_id))

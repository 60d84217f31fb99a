"""Documents with masked tokens: which are masked, when they are masked anew, and how documents are joined."""

import pytest
import torch
from transformers import DataCollatorForLanguageModeling

from limbeck.data import MaskedTokens
from limbeck.data.documents import Document, Encoded
from limbeck.data.masked_tokens import join, without_special_tokens
from support.language import masked_tokenizer

TOKENIZER = masked_tokenizer()


@pytest.fixture(scope="module")
def documents():
    texts = [" ".join(f"w{(3 * i + j) % 24}" for j in range(20 + 7 * i)) for i in range(12)]
    rows = [TOKENIZER(text)["input_ids"] for text in texts]
    return without_special_tokens(Encoded([Document(row, [True] * len(row)) for row in rows]), TOKENIZER)


def test_masks_of_a_document_are_always_the_same(documents):
    load = MaskedTokens(documents, TOKENIZER)
    alone, among = load([3]), load([11, 3, 0])
    length = load.lengths[3]
    for name in ("input_ids", "labels", "mask"):
        assert torch.equal(alone[name][0], among[name][1, :length])
    assert among["attention_mask"].sum(-1).tolist() == [load.lengths[row] for row in (11, 3, 0)]
    assert not among["mask"][among["attention_mask"] == 0].any()


def test_training_masks_as_the_collator_of_transformers_does(documents):
    load = MaskedTokens(documents, TOKENIZER).drawn_anew()
    torch.manual_seed(5)
    ours = load([3]), load([3])
    torch.manual_seed(5)
    theirs = DataCollatorForLanguageModeling(TOKENIZER)
    for batch in ours:
        expected = theirs([documents[3].tokens])
        assert all(torch.equal(batch[name], expected[name]) for name in ("input_ids", "labels"))
    assert not torch.equal(ours[0]["labels"], ours[1]["labels"])


def test_what_does_not_count_and_special_tokens_are_never_masked(documents):
    counted = [c and i % 2 == 0 for i, c in enumerate(documents[11].counted)]
    load = MaskedTokens([Document(documents[11].tokens, counted)], TOKENIZER).drawn_anew()
    torch.manual_seed(0)
    masked = torch.stack([load([0])["mask"][0] for _ in range(200)])
    assert not masked[:, ~torch.tensor(counted)].any()
    assert not masked[:, [0, -1]].any()
    share = masked[:, torch.tensor(counted)].double().mean().item()
    assert share == pytest.approx(0.15, abs=0.01)  # 4 standard errors
    assert load.counted.tolist() == [sum(counted)]


def test_every_document_has_a_mask(documents):
    short = [Document(d.tokens[:3], d.counted[:3]) for d in documents]  # the first token is special
    for load in (MaskedTokens(short, TOKENIZER), MaskedTokens(short, TOKENIZER).drawn_anew()):
        assert load(list(range(12)))["mask"].any(-1).all()
    nothing = MaskedTokens([Document([5, 6], [False, False])], TOKENIZER)
    assert not nothing([0])["mask"].any()


def test_any_token_may_stand_for_a_masked_one(documents):
    assert MaskedTokens(documents, TOKENIZER).highest_id == len(TOKENIZER) - 1 == 28


def test_blocks_hold_every_token_once(documents):
    blocks = join(documents, 16)
    for part in ("tokens", "counted"):
        assert [x for d in documents for x in getattr(d, part)] == [x for d in blocks for x in getattr(d, part)]
    assert {len(block.tokens) for block in blocks[:-1]} == {16}

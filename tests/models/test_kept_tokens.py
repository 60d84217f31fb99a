"""Language models that know some of a tokenizer's tokens."""

import random
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    PhiConfig,
    PreTrainedTokenizerFast,
)

from limbeck.errors import ArgumentError, ModelError
from limbeck.models.kept_tokens import TEACHER_IDS, KeptTokens, TeacherOfKept, choose_tokens, cut_vocabulary

SYLLABLES = ["re", "lo", "mi", "ta", "sun", "ver", "é", "ing", "der"]
SMALL = dict(vocab_size=420, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, bos_token_id=None)
OF_LAYERS = dict(intermediate_size=32, num_key_value_heads=2, head_dim=8, max_position_embeddings=64)
CONFIGS = {
    "tied": LlamaConfig(**SMALL, **OF_LAYERS, pad_token_id=1, eos_token_id=[2, 0], tie_word_embeddings=True),
    "untied": LlamaConfig(**SMALL, **OF_LAYERS, pad_token_id=1, eos_token_id=2, tie_word_embeddings=False),
    "gpt2": GPT2Config(
        vocab_size=420, n_embd=16, n_layer=2, n_head=2, n_positions=64, bos_token_id=None, eos_token_id=2
    ),
    "phi": PhiConfig(**SMALL, intermediate_size=32, max_position_embeddings=64, pad_token_id=1, eos_token_id=2),
    "gemma3": Gemma3TextConfig(**SMALL, **OF_LAYERS, pad_token_id=1, eos_token_id=2, sliding_window=8),
}


def write_text(words, seed):
    rng = random.Random(seed)
    return " ".join("".join(rng.choices(SYLLABLES, k=rng.randint(1, 4))) for _ in range(words))


@pytest.fixture(scope="module")
def whole():
    """A byte-level BPE that ends each text with a special token, trained on words of some syllables."""
    fast = Tokenizer(models.BPE())
    fast.pre_tokenizer, fast.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420, special_tokens=["<unk>", "<pad>", "<end>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    fast.train_from_iterator([write_text(3000, 0)], trainer)
    fast.post_processor = processors.Sequence(
        [processors.ByteLevel(), processors.TemplateProcessing("$A <end>", special_tokens=[("<end>", 2)])]
    )
    return PreTrainedTokenizerFast(tokenizer_object=fast, unk_token="<unk>", pad_token="<pad>", eos_token="<end>")


@pytest.fixture(scope="module")
def kept(whole):
    ids = torch.tensor(whole(write_text(300, 1))["input_ids"])
    return choose_tokens(torch.bincount(ids, minlength=len(whole)), whole, 320)


@pytest.fixture(scope="module")
def nets():
    torch.manual_seed(0)
    made = {name: AutoModelForCausalLM.from_config(config).double().eval() for name, config in CONFIGS.items()}
    for net in made.values():
        for parameter in net.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return made


def test_choice(whole, kept):
    tokens, ids = whole.get_vocab(), kept.kept.tolist()
    assert len(ids) == 320 == len(kept.tokenizer)
    assert ids == sorted(ids)
    assert {0, 1, 2} | {tokens[c] for c in pre_tokenizers.ByteLevel.alphabet()} <= set(ids)
    counts = torch.zeros(len(whole))
    counts[[300, 410]] = torch.tensor([1.0, 2.0])
    few = choose_tokens(counts, whole, 300)
    assert {300, 410} <= set(few.kept.tolist())
    others = [i for i in few.kept.tolist() if 259 <= i < 300]  # the first merges, and what both are merged of
    assert others[:20] == list(range(259, 279))
    for id_ in (300, 410):
        token = whole.convert_ids_to_tokens(id_)
        text = whole.decode([id_])
        assert few.tokenizer.tokenize(text) == [token]


def test_words_of_kept_tokens_are_written_as_by_the_whole_tokenizer(whole, kept):
    same = 0
    for word in write_text(400, 2).split():
        ids = torch.tensor(whole(" " + word)["input_ids"])
        ours = kept.tokenizer(" " + word)["input_ids"]
        if (kept.ids(ids) >= 0).all():
            assert ours == kept.ids(ids).tolist()
            same += 1
        assert kept.tokenizer.decode(ours, skip_special_tokens=True) == " " + word
        assert ours[-1] == kept.tokenizer.eos_token_id
    assert 50 < same < 400


def test_the_tokenizer_is_saved_as_itself(kept, tmp_path):
    kept.tokenizer.save_pretrained(tmp_path)
    again, text = AutoTokenizer.from_pretrained(tmp_path), write_text(50, 3) + " Ω ?"
    assert again.get_vocab() == kept.tokenizer.get_vocab()
    assert again(text)["input_ids"] == kept.tokenizer(text)["input_ids"]
    assert again.decode(again(text)["input_ids"], skip_special_tokens=True) == text
    assert (again.unk_token_id, again.pad_token_id, again.eos_token_id) == (0, 1, 2)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_cut_model_gives_the_logits_of_its_tokens(name, nets, kept, tmp_path):
    new = torch.randint(len(kept.kept), (2, 9), generator=torch.Generator().manual_seed(0))
    old = kept.kept[new]
    net = nets[name]
    with torch.no_grad():
        expected = net(old, use_cache=False).logits[..., kept.kept]
        net.save_pretrained(tmp_path / "whole")
        cut = cut_vocabulary(AutoModelForCausalLM.from_pretrained(tmp_path / "whole"), kept)
        torch.testing.assert_close(cut(new, use_cache=False).logits, expected)
        cut.save_pretrained(tmp_path / "cut")
        again = AutoModelForCausalLM.from_pretrained(tmp_path / "cut")
        torch.testing.assert_close(again(new, use_cache=False).logits, expected)
    assert again.config.vocab_size == len(kept.kept)
    assert again.config.eos_token_id in (2, [2, 0])  # special tokens stand first in this tokenizer
    cut(new, use_cache=False).logits.sum().backward()
    gradient = cut.get_input_embeddings().weight.grad
    assert bool((gradient[new.flatten()].abs().sum(-1) > 0).all())  # none is taken for padding
    teacher = TeacherOfKept(AutoModelForCausalLM.from_pretrained(tmp_path / "whole").eval(), kept)
    anything = torch.randint(420, (2, 9))
    with torch.no_grad():
        logits = teacher(new, **{TEACHER_IDS: anything}).logits
        torch.testing.assert_close(teacher(new).logits, expected)
        torch.testing.assert_close(logits, net(anything, use_cache=False).logits[..., kept.kept])


def test_special_tokens_get_their_new_ids(whole):
    ids = [*range(3, 259), 0, 1, 2]  # in a tokenizer where they stand in other places
    kept = KeptTokens(torch.tensor(sorted(set(ids) | {400})), whole)
    net = AutoModelForCausalLM.from_config(LlamaConfig(**SMALL, **OF_LAYERS, pad_token_id=400, eos_token_id=[2, 300]))
    written: Any = net.generation_config
    written.forced_eos_token_id, written.suppress_tokens, written.max_new_tokens = 400, [400, 300], 9
    written.bad_words_ids = [[400, 2], [2, 300]]
    cut_vocabulary(net, kept)
    assert (net.config.pad_token_id, net.config.eos_token_id) == (len(kept.kept) - 1, [2])
    assert written.pad_token_id == written.forced_eos_token_id == len(kept.kept) - 1
    assert written.suppress_tokens == [len(kept.kept) - 1]
    assert written.bad_words_ids == [[len(kept.kept) - 1, 2]]
    assert written.max_new_tokens == 9


def test_a_batch(whole, kept):
    ids = torch.arange(420)[None]
    mask = torch.ones_like(ids, dtype=torch.bool)
    mask[0, 0] = False
    batch = kept({"input_ids": ids, "labels": ids, "mask": mask})
    position = {old: new for new, old in enumerate(kept.kept.tolist())}
    assert batch["input_ids"][0].tolist() == [position.get(i, kept.unknown) for i in range(420)]
    assert batch["labels"][0].tolist() == [position.get(i, -100) if i else -100 for i in range(420)]
    assert (batch["mask"] == (batch["labels"] >= 0)).all()
    assert batch[TEACHER_IDS] is ids
    assert kept.tokenizer.convert_ids_to_tokens(kept.unknown) == "<unk>"


def test_what_cannot_be_cut(whole, kept):
    with pytest.raises(ArgumentError, match="expected at least 259, the special tokens and the single bytes, got 100"):
        choose_tokens(torch.zeros(420), whole, 100)
    unigram = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.Unigram([("a", 0.0), ("b", -1.0)], unk_id=0)))
    with pytest.raises(ArgumentError, match=r"of the kind Unigram\. Expected BPE or WordLevel"):
        choose_tokens(torch.zeros(2), unigram, 2)
    small = AutoModelForCausalLM.from_config(LlamaConfig(**{**SMALL, "vocab_size": 300}, **OF_LAYERS))
    for make in (TeacherOfKept, cut_vocabulary):
        with pytest.raises(ModelError, match="knows 300 tokens, and the data's tokenizer has ids up to"):
            make(small, kept)
    with pytest.raises(ModelError, match="its head is not found"):
        TeacherOfKept(torch.nn.Linear(2, 2), kept)

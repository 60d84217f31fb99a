"""Tiny language models of Transformers with their tokenizer, and a corpus of documents, as a user would have them."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from support.texts import word_tokenizer

WORDS = [f"w{i}" for i in range(24)]
TEMPLATE = (
    "{% for m in messages %}{{ m.role + ' ' + m.content + ' [EOS] ' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant ' }}{% endif %}"
)


def tokenizer(**options: Any) -> Any:
    """Return a tokenizer of some words, with a token for the end of a text and a chat template."""
    made = word_tokenizer([*WORDS, "user", "assistant", "[EOS]"], eos_token="[EOS]", **options)
    made.chat_template = TEMPLATE
    return made


def llama(size: int = 16, layers: int = 1, vocabulary: int = 29, seed: int = 0) -> Any:
    """Return an untrained Llama, the same for the same seed."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary, hidden_size=size, intermediate_size=2 * size, num_hidden_layers=layers,
            num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=64, bos_token_id=None, eos_token_id=28,
            pad_token_id=0, initializer_range=0.3,
        )
    ).eval()  # fmt: skip


def write_models(folder: Path) -> None:
    """Write ``teacher/`` and ``student/`` into a folder, each with the tokenizer."""
    for name, size, layers, vocabulary in (("teacher", 32, 2, 32), ("student", 16, 1, 29)):
        llama(size, layers, vocabulary).save_pretrained(folder / name)
        tokenizer().save_pretrained(folder / name)


def write_corpus(folder: Path, documents: int = 30) -> Path:
    """Write a folder of text files, whose next word depends on the last one, and return it."""
    rng = random.Random(0)
    folder.mkdir()
    for number in range(documents):
        word, words = rng.randrange(24), []
        for _ in range(rng.randrange(8, 40)):
            word = (3 * word + rng.randrange(3)) % 24
            words.append(WORDS[word])
        (folder / f"{number:02}.txt").write_text(" ".join(words))
    return folder


def masked_tokenizer(**options: Any) -> Any:
    """Return a tokenizer of the same words with BERT's special tokens, which stand around each text."""
    from tokenizers.processors import TemplateProcessing

    special = {"cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"} | options
    made = word_tokenizer([*WORDS, "[CLS]", "[SEP]", "[MASK]"], **special)
    ends = [(name, made.convert_tokens_to_ids(name)) for name in ("[CLS]", "[SEP]")]
    made.backend_tokenizer.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return made


def masked_bert(size: int = 16, layers: int = 1, vocabulary: int = 29, seed: int = 0) -> Any:
    """Return an untrained BERT for masked tokens, the same for the same seed."""
    import torch
    from transformers import BertConfig, BertForMaskedLM

    torch.manual_seed(seed)
    return BertForMaskedLM(
        BertConfig(
            vocab_size=vocabulary, hidden_size=size, intermediate_size=2 * size, num_hidden_layers=layers,
            num_attention_heads=2, max_position_embeddings=64, pad_token_id=0, initializer_range=0.3,
            hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        )
    ).eval()  # fmt: skip


def write_masked_models(folder: Path) -> None:
    """Write ``teacher/`` and ``student/``, masked language models, each with the tokenizer."""
    for name, size, layers, vocabulary in (("teacher", 32, 2, 32), ("student", 16, 1, 29)):
        masked_bert(size, layers, vocabulary).save_pretrained(folder / name)
        masked_tokenizer().save_pretrained(folder / name)


def encoder_decoder(kind: str = "t5", size: int = 16, layers: int = 1, seed: int = 0, **options: Any) -> Any:
    """Return an untrained T5, BART or Marian for the tokens of ``ended_tokenizer``, the same for the same seed."""
    import torch
    from transformers import (
        BartConfig,
        BartForConditionalGeneration,
        MarianConfig,
        MarianMTModel,
        T5Config,
        T5ForConditionalGeneration,
    )

    torch.manual_seed(seed)
    ids: dict[str, Any] = {
        "vocab_size": 29,
        "pad_token_id": 0,
        "eos_token_id": 28,
        "decoder_start_token_id": 0,
    } | options
    if kind == "t5":
        return T5ForConditionalGeneration(
            T5Config(
                d_model=size, d_ff=2 * size, d_kv=8, num_heads=2, num_layers=layers, dropout_rate=0.0, **ids
            )
        ).eval()  # fmt: skip
    config, model = {
        "bart": (BartConfig, BartForConditionalGeneration),
        "marian": (MarianConfig, MarianMTModel),
    }[kind]
    return model(
        config(
            d_model=size, encoder_layers=layers, decoder_layers=layers, encoder_attention_heads=2,
            decoder_attention_heads=2, encoder_ffn_dim=2 * size, decoder_ffn_dim=2 * size, max_position_embeddings=64,
            bos_token_id=None, forced_eos_token_id=None, init_std=0.3, dropout=0.0, **ids,
        )
    ).eval()  # fmt: skip


def ended_tokenizer(**options: Any) -> Any:
    """Return ``tokenizer``, which puts the token for the end after each text, as that of T5 does."""
    from tokenizers.processors import TemplateProcessing

    made = tokenizer(**options)
    end = [("[EOS]", made.eos_token_id)]
    made.backend_tokenizer.post_processor = TemplateProcessing(single="$A [EOS]", special_tokens=end)
    return made


def write_encoder_decoders(folder: Path, kind: str = "t5") -> None:
    """Write ``teacher/`` and ``student/``, models with an encoder and a decoder, each with the tokenizer."""
    for name, size, layers, vocabulary in (("teacher", 32, 2, 32), ("student", 16, 1, 29)):
        encoder_decoder(kind, size, layers, vocab_size=vocabulary).save_pretrained(folder / name)
        ended_tokenizer().save_pretrained(folder / name)


def write_pairs(path: Path, pairs: int = 40) -> Path:
    """Write a JSONL file of texts, ``source``, and the next words of each of their words, ``target``; return the file."""
    rng = random.Random(0)
    rows = []
    for _ in range(pairs):
        words = [rng.randrange(24) for _ in range(rng.randrange(3, 9))]
        target = " ".join(WORDS[(word + 1) % 24] for word in words[:-1])
        rows.append({"source": " ".join(WORDS[word] for word in words), "target": target})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path

"""Tiny language models of Transformers with their tokenizer, and a corpus of documents, as a user would have them."""

from __future__ import annotations

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

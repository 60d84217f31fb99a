"""Tiny texts whose words have tags, as data sets of named entities have them."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from support.texts import word_tokenizer

TAGS = {"O": ["the", "and", "of", "saw"], "B-CITY": ["paris", "rome"], "B-NAME": ["ada", "alan"]}
WORDS = [word for words in TAGS.values() for word in words]


def pieces_tokenizer() -> Any:
    """Return a tokenizer of characters in words, with ids from 4 on and [CLS] and [SEP] around each text."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    letters = sorted(set("".join(WORDS)))
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters, *(f"##{letter}" for letter in letters)]
    fast = Tokenizer(models.WordPiece({token: i for i, token in enumerate(tokens)}, unk_token="[UNK]"))
    fast.pre_tokenizer = pre_tokenizers.Whitespace()
    fast.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    return PreTrainedTokenizerFast(tokenizer_object=fast, pad_token="[PAD]", unk_token="[UNK]")


def rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Return rows with words and their tags."""
    source = random.Random(seed)
    by_word = {word: tag for tag, words in TAGS.items() for word in words}
    texts = [source.choices(WORDS, k=source.randint(2, 5)) for _ in range(count)]
    return [{"tokens": words, "tags": [by_word[word] for word in words]} for words in texts]


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows as JSONL."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_tagger(folder: Path, hidden: int, tokenizer: Any = None) -> None:
    """Write the config of a small BERT with a tokenizer of whole words."""
    from transformers import BertConfig

    tokenizer = tokenizer or word_tokenizer(WORDS)
    BertConfig(
        vocab_size=len(tokenizer), hidden_size=hidden, num_hidden_layers=1, num_attention_heads=2, intermediate_size=2 * hidden,
        max_position_embeddings=64, pad_token_id=0,
    ).save_pretrained(folder)  # fmt: skip
    tokenizer.save_pretrained(folder)

"""Tiny tokenizers, Hugging Face text classifiers and files of texts, as a user would have them."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

GOOD, BAD, FILLER = ["fine", "lovely", "great"], ["poor", "awful", "sad"], ["the", "film", "was", "and", "so"]


def word_tokenizer(words: Sequence[str] = tuple(f"w{i}" for i in range(20)), **options: Any) -> Any:
    """Return a tokenizer that knows some words, with ids from 2 on; 0 pads and 1 is any other word."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    ids = {word: i for i, word in enumerate(["[PAD]", "[UNK]", *words])}
    fast = Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))
    fast.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=fast, pad_token="[PAD]", unk_token="[UNK]", **options)


def pair_tokenizer(words: Sequence[str] = tuple(f"w{i}" for i in range(20)), **options: Any) -> Any:
    """Return ``word_tokenizer`` with BERT's special tokens; [SEP] stands after each text of a pair."""
    from tokenizers.processors import TemplateProcessing

    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    tokenizer = word_tokenizer([*words, "[CLS]", "[SEP]"], model_input_names=inputs, **options)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, tokenizer.convert_tokens_to_ids(name)) for name in ("[CLS]", "[SEP]")],
    )
    return tokenizer


def write_models(folder: Path, tokenizer: Any = None, **hidden: int) -> None:
    """Write an untrained BERT classifier with its tokenizer into ``folder/NAME`` for each name and hidden size."""
    from transformers import BertConfig, BertForSequenceClassification

    tokenizer = tokenizer or word_tokenizer([*GOOD, *BAD, *FILLER], model_max_length=16)
    for name, size in hidden.items():
        config = BertConfig(
            vocab_size=len(tokenizer), hidden_size=size, num_hidden_layers=1, num_attention_heads=2,
            intermediate_size=2 * size, max_position_embeddings=16, pad_token_id=0,
        )  # fmt: skip
        BertForSequenceClassification(config).save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)


def write_csv(path: Path, texts: Sequence[str], labels: Sequence[Any], header: str = "text,label") -> None:
    """Write a CSV file with one text and one label in each row."""
    path.write_text("\n".join([header, *(f"{t},{y}" for t, y in zip(texts, labels, strict=True))]) + "\n")


def write_reviews(path: Path, rows: int = 40) -> None:
    """Write a CSV file with the columns ``text`` and ``label`` (0 or 1)."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for i in range(rows):
            mood = (BAD, GOOD)[i % 2]
            writer.writerow([" ".join([FILLER[i % 5], FILLER[i % 3], mood[i % 3]]), i % 2])

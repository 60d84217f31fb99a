"""A tiny tokenizer and files of texts, for tests that read texts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def word_tokenizer() -> Any:
    """Return a tokenizer that knows the words w0 to w19, which get the ids 2 to 21; 0 pads and 1 is any other word."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {"[PAD]": 0, "[UNK]": 1} | {f"w{i}": i + 2 for i in range(20)}
    fast = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    fast.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=fast, pad_token="[PAD]", unk_token="[UNK]")


def write_csv(path: Path, texts: Sequence[str], labels: Sequence[Any], header: str = "text,label") -> None:
    """Write a CSV file with one text and one label in each row."""
    path.write_text("\n".join([header, *(f"{t},{y}" for t, y in zip(texts, labels, strict=True))]) + "\n")

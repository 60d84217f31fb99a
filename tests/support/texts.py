"""Tiny Hugging Face text classifiers and reviews on the disk, as a user would have them."""

import csv
from pathlib import Path

GOOD, BAD, FILLER = ["fine", "lovely", "great"], ["poor", "awful", "sad"], ["the", "film", "was", "and", "so"]


def write_models(folder: Path, **hidden: int) -> None:
    """Write an untrained BERT classifier with its tokenizer into ``folder/NAME`` for each name and hidden size."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    words = {word: i for i, word in enumerate(["[PAD]", "[UNK]", *GOOD, *BAD, *FILLER])}
    fast = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    fast.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=fast, pad_token="[PAD]", unk_token="[UNK]", model_max_length=16
    )
    for name, size in hidden.items():
        config = BertConfig(
            vocab_size=len(words), hidden_size=size, num_hidden_layers=1, num_attention_heads=2,
            intermediate_size=2 * size, max_position_embeddings=16, pad_token_id=0,
        )  # fmt: skip
        BertForSequenceClassification(config).save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)


def write_reviews(path: Path, rows: int = 40) -> None:
    """Write a CSV file with the columns ``text`` and ``label`` (0 or 1)."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for i in range(rows):
            mood = (BAD, GOOD)[i % 2]
            writer.writerow([" ".join([FILLER[i % 5], FILLER[i % 3], mood[i % 3]]), i % 2])

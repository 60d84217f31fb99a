"""Tables of numbers to predict, and a tiny model of sentence-transformers, as a user would have them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from limbeck.atomic_files import write_json
from support.texts import BAD, FILLER, GOOD, word_tokenizer


def write_diabetes(path: Path) -> Path:
    """Write scikit-learn's patients as a CSV file, shuffled, and return its name. Their progression is ``target``."""
    from sklearn.datasets import load_diabetes

    frame: Any = load_diabetes(as_frame=True, scaled=False).frame
    frame.sample(frac=1, random_state=0).to_csv(path, index=False)
    return path


def write_sentence_model(folder: Path, width: int) -> None:
    """Write an untrained model of sentence-transformers whose embeddings have some width, as its files are."""
    from transformers import BertConfig, BertModel

    tokenizer = word_tokenizer([*GOOD, *BAD, *FILLER], model_max_length=16)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=width, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=16, pad_token_id=0,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    kinds = {"": "Transformer", "1_Pooling": "Pooling"}
    parts = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(kinds.items())
    ]
    write_json(folder / "modules.json", parts)
    (folder / "1_Pooling").mkdir()
    write_json(
        folder / "1_Pooling" / "config.json", {"word_embedding_dimension": width, "pooling_mode_mean_tokens": True}
    )

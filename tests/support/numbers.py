"""Tables of numbers to predict, and a tiny model of sentence-transformers, as a user would have them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from support.texts import BAD, FILLER, GOOD, word_tokenizer


def write_diabetes(path: Path) -> Path:
    """Write scikit-learn's patients as a CSV file, shuffled, and return its name. Their progression is ``target``."""
    from sklearn.datasets import load_diabetes

    frame: Any = load_diabetes(as_frame=True, scaled=False).frame
    frame.sample(frac=1, random_state=0).to_csv(path, index=False)
    return path


def write_sentence_model(folder: Path, width: int) -> Any:
    """Write an untrained model of sentence-transformers whose embeddings have some width, and return it."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import BertConfig, BertModel

    tokenizer = word_tokenizer([*GOOD, *BAD, *FILLER], model_max_length=16)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=width, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=16, pad_token_id=0,
    )  # fmt: skip
    parts = folder / "parts"
    BertModel(config).save_pretrained(parts)
    tokenizer.save_pretrained(parts)
    model = SentenceTransformer(modules=[Transformer(str(parts)), Pooling(width)], device="cpu")
    model.save_pretrained(str(folder))
    return model

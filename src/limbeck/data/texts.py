"""Texts: tokenised once, padded batch by batch."""

from __future__ import annotations

from typing import Any

from tqdm import tqdm

from limbeck.errors import DataError


class Texts:
    """Loads tokenised texts, each batch padded to its longest.

    Args:
        texts: the texts.
        tokenizer: a fast tokenizer of Transformers, shared by teacher and student.
        max_length: tokens kept of each text.
    """

    def __init__(self, texts: list[str], tokenizer: Any, max_length: int) -> None:
        self.tokenizer = tokenizer
        strange = next((i for i, text in enumerate(texts) if not isinstance(text, str)), None)
        if strange is not None:
            raise DataError(f"data.text_column: row {strange} is no text but {texts[strange]!r}.")
        self.encoded: dict[str, list[Any]] = {}
        for start in tqdm(range(0, len(texts), 1000), desc="Tokenising", delay=1.0, leave=False):
            encoded = tokenizer(texts[start : start + 1000], truncation=True, max_length=max_length)
            for name, values in encoded.items():
                self.encoded.setdefault(name, []).extend(values)

    def __call__(self, rows: list[int]) -> dict[str, Any]:
        chosen = {name: [values[row] for row in rows] for name, values in self.encoded.items()}
        return dict(self.tokenizer.pad(chosen, return_tensors="pt"))


def load_tokenizer(name: str | None) -> Any:
    """The tokenizer of a Hugging Face id or folder."""
    from transformers import AutoTokenizer

    if name is None:
        raise DataError(
            "data.tokenizer: needed for texts: the Hugging Face id or folder of the tokenizer that teacher and student share."
        )
    try:
        return AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise DataError(f"data.tokenizer: {name!r} cannot be loaded: {reason}") from None

"""Texts, which are tokenised once and padded batch by batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

from limbeck.errors import DataError

CHUNK = 1000
"""How many texts are tokenised in one call."""


class Texts:
    """A loader of tokenised texts, for ``Examples``. Each batch is padded to its longest text.

    Args:
        texts: the texts; or pairs of texts, which the tokenizer puts its separator between.
        tokenizer: a fast tokenizer of Transformers, shared by teacher and student.
        max_length: the number of tokens after which a text is cut off.

    Raises:
        DataError: one of the texts is not a string, or the tokenizer has no separator for pairs.
    """

    def __init__(self, texts: Sequence[str] | Sequence[tuple[str, str]], tokenizer: Any, max_length: int) -> None:
        self.tokenizer = tokenizer
        rows = [text if isinstance(text, tuple) else (text,) for text in texts]
        wrong = next((i for i, row in enumerate(rows) if not all(isinstance(text, str) for text in row)), None)
        if wrong is not None:
            raise DataError(
                f"data.text_column: row {wrong} is no text but {texts[wrong]!r}. Leave the row out, or write a text there."
            )
        if rows and len(rows[0]) == 2:
            _check_separator(tokenizer)
        self.encoded: dict[str, list[Any]] = {}
        for start in tqdm(range(0, len(rows), CHUNK), desc="Tokenising", delay=1.0, leave=False):
            columns = map(list, zip(*rows[start : start + CHUNK], strict=True))
            encoded = tokenizer(*columns, truncation=True, max_length=max_length)
            for name, values in encoded.items():
                self.encoded.setdefault(name, []).extend(values)

    @property
    def lengths(self) -> list[int]:
        """Return the number of tokens of each text."""
        return [len(tokens) for tokens in next(iter(self.encoded.values()))]

    def __call__(self, rows: list[int]) -> dict[str, Any]:
        chosen = {name: [values[row] for row in rows] for name, values in self.encoded.items()}
        return dict(self.tokenizer.pad(chosen, return_tensors="pt"))


def _check_separator(tokenizer: Any) -> None:
    """Check that a pair of texts is more than one text after the other."""
    if tokenizer.num_special_tokens_to_add(pair=True) <= tokenizer.num_special_tokens_to_add(pair=False):
        raise DataError(
            "data.text_column: the tokenizer puts nothing between the two texts of a pair, so nothing tells where the second "
            "begins. Name a tokenizer for pairs, such as BERT's, or join the texts in one column."
        )


def load_tokenizer(name: str | None) -> Any:
    """Load a tokenizer.

    Args:
        name: its Hugging Face id or folder.

    Returns:
        A tokenizer of Transformers.

    Raises:
        DataError: there is no name, or no tokenizer of that name.
    """
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

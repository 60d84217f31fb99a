"""Words with a tag each: split into tokens, of which the first one of a word stands for the word."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from limbeck.data.texts import Texts
from limbeck.errors import DataError
from limbeck.losses import IGNORE_INDEX

Tags = list[list[int] | None]
"""The number of the class of each word of each example, ``IGNORE_INDEX`` for none; None for an example without tags."""


class Words(Texts):
    """A loader of texts whose words are given, for ``Examples``.

    A batch also has ``mask``, True at the first token of each word, and ``labels``, the tags there.

    Args:
        words: the words of each text.
        tokenizer: a fast tokenizer of Transformers, shared by teacher and student.
        max_length: the number of tokens after which a text is cut off. Words after that have no token.

    Raises:
        DataError: a row is no list of words, or the tokenizer does not say which word a token is of.
    """

    def __init__(self, words: Sequence[Sequence[str]], tokenizer: Any, max_length: int) -> None:
        wrong = next((i for i, row in enumerate(words) if not _are_words(row)), None)
        if wrong is not None:
            raise DataError(f"data.text_column: row {wrong} is no list of words but {words[wrong]!r}.")
        if not getattr(tokenizer, "is_fast", False):
            raise DataError("data.tokenizer: does not say which word a token is of. Name a fast tokenizer.")
        self.tokenizer, self.encoded, self.tags = tokenizer, {}, Tags()
        self.starts: list[dict[int, int]] = []
        """For each text, the place of the first token of each word, by the number of the word. Some words have no token."""
        for row in words:
            encoded = tokenizer(list(row), is_split_into_words=True, truncation=True, max_length=max_length)
            places = reversed(list(enumerate(encoded.word_ids())))  # so that the first token of a word is put last
            starts = {word: place for place, word in places if word is not None}
            self.starts.append(dict(sorted(starts.items())))
            for name, values in encoded.items():
                self.encoded.setdefault(name, []).append(values)

    def with_tags(self, tags: Tags) -> Words:
        """Return the loader after it was given the tags.

        Args:
            tags: of the first rows; later ones have none.
        """
        self.tags = tags
        return self

    def __call__(self, rows: list[int]) -> dict[str, Any]:
        batch = super().__call__(rows)
        shape = batch["input_ids"].shape
        labels, mask = torch.full(shape, IGNORE_INDEX), torch.zeros(shape, dtype=torch.bool)
        for place, row in enumerate(rows):
            starts = torch.tensor(list(self.starts[row].values()), dtype=torch.long)
            if self.tokenizer.padding_side == "left":
                starts += shape[1] - len(self.encoded["input_ids"][row])
            mask[place, starts] = True
            tags = self.tags[row] if row < len(self.tags) else None
            if tags is not None:
                labels[place, starts] = torch.tensor([tags[word] for word in self.starts[row]], dtype=torch.long)
        return {**batch, "labels": labels, "mask": mask}

    def without_token(self, lengths: Sequence[int]) -> int:
        """Return how many words have no token, such as those at the end of a text that is too long.

        Args:
            lengths: the number of words of each text.
        """
        return sum(length - len(starts) for length, starts in zip(lengths, self.starts, strict=True))


def _are_words(row: Any) -> bool:
    return isinstance(row, list | tuple) and all(isinstance(word, str) for word in row)

"""Loaders of documents for a language model: packed into blocks of one length, or each padded to the longest of its batch.

A batch has ``input_ids``, ``labels`` (the ids, -100 where they do not count) and ``mask``, True where they count, all (N, L).
Where some tokens alone are kept, these are their new ids, and the ids of all are ``teacher_input_ids``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from copy import copy
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from limbeck.data.documents import Encoded
from limbeck.losses import IGNORE_INDEX
from limbeck.models.kept_tokens import KeptTokens


class TokenRows(ABC):
    """What both loaders have in common: they can tell how often a token is used, and keep some tokens alone."""

    kept: KeptTokens | None = None
    """The tokens that are kept; None for all."""
    outside = 0.0
    """The part of the tokens that count in the whole vocabulary which are not kept."""
    tokenizer: Any
    bytes_per_token: float | None

    def keep(self, kept: KeptTokens) -> Self:
        """Return the same loader with some tokens alone.

        Args:
            kept: the tokens.
        """
        other = copy(self)
        other.kept, other.tokenizer, other.bytes_per_token = kept, kept.tokenizer, None
        other.outside = 1 - float(other.counted.sum() / self.counted.sum())
        return other

    def __call__(self, rows: list[int]) -> dict[str, Any]:
        batch = self._load(rows)
        return batch if self.kept is None else self.kept(batch)

    @property
    @abstractmethod
    def counted(self) -> Tensor:
        """Return how many tokens of each row count: (rows,)."""

    @abstractmethod
    def token_counts(self, size: int) -> Tensor:
        """Return how often each token of the whole vocabulary stands in the rows: (size,)."""

    @abstractmethod
    def _load(self, rows: list[int]) -> dict[str, Any]: ...


class TokenBlocks(TokenRows):
    """A loader of documents joined into blocks, for ``Examples``.

    ``position_ids`` count from 0 in each document, by which the attention of a model of Transformers keeps documents apart. The
    first token of a document, or of its part in a block, is not predicted. What is left of the last block is a document of
    padding, which does not count.

    Args:
        encoded: the documents.
        length: the tokens in a block.
        padding: the id of the token for padding.
        tokenizer: the tokenizer, for whoever asks; None if it is not known.
    """

    def __init__(self, encoded: Encoded, length: int, padding: int, tokenizer: Any = None) -> None:
        self.tokenizer, self.bytes_per_token = tokenizer, encoded.bytes_per_token
        sizes = [len(document.tokens) for document in encoded.documents]
        total = sum(sizes)
        blocks = -(-total // length)
        tokens, counted = np.full(blocks * length, padding), np.zeros(blocks * length, dtype=bool)
        tokens[:total] = np.concatenate([document.tokens for document in encoded.documents])
        counted[:total] = np.concatenate([document.counted for document in encoded.documents])
        begins = np.zeros(blocks * length, dtype=bool)
        begins[[0, *np.cumsum(sizes)[: None if total < len(tokens) else -1]]] = True
        begins[::length] = True
        place = np.arange(len(tokens))
        positions = place - np.maximum.accumulate(np.where(begins, place, 0))
        self._tokens, self._positions, self._counted = (
            torch.from_numpy(values).view(blocks, length) for values in (tokens, positions, counted & ~begins)
        )

    @property
    def counted(self) -> Tensor:
        """Return how many tokens of each block count: (blocks,)."""
        if self.kept is None:
            return self._counted.sum(-1)
        return (self._counted & (self.kept.ids(self._tokens) >= 0)).sum(-1)

    def token_counts(self, size: int) -> Tensor:
        """Return how often each token of the whole vocabulary stands in the blocks: (size,)."""
        return torch.bincount(self._tokens.flatten(), minlength=size)

    @property
    def highest_id(self) -> int:
        """Return the highest id of a token."""
        return int(self._tokens.max()) if self.kept is None else len(self.kept.kept) - 1

    @property
    def lengths(self) -> list[int]:
        """Return the number of tokens of each block."""
        return [self._tokens.shape[1]] * len(self._tokens)

    def _load(self, rows: list[int]) -> dict[str, Any]:
        tokens, counted = self._tokens[rows], self._counted[rows]
        labels = torch.where(counted, tokens, IGNORE_INDEX)
        return {"input_ids": tokens, "position_ids": self._positions[rows], "labels": labels, "mask": counted}


class PaddedTokens(TokenRows):
    """A loader of documents one by one, for ``Examples``. Each batch is padded to its longest document.

    Args:
        encoded: the documents.
        padding: the id of the token for padding.
        side: "left" or "right", where the padding is.
        tokenizer: the tokenizer, for whoever asks; None if it is not known.
    """

    def __init__(self, encoded: Encoded, padding: int, side: str = "right", tokenizer: Any = None) -> None:
        self.tokenizer, self.bytes_per_token = tokenizer, encoded.bytes_per_token
        self._documents, self._padding, self._side = encoded.documents, padding, side

    @property
    def counted(self) -> Tensor:
        """Return how many tokens of each document count: (documents,)."""
        if self.kept is None:
            return torch.tensor([sum(document.counted[1:]) for document in self._documents])
        return torch.stack(
            [
                (self.kept.ids(torch.tensor(document.tokens[1:])) >= 0)[torch.tensor(document.counted[1:])].sum()
                for document in self._documents
            ]
        )

    def token_counts(self, size: int) -> Tensor:
        """Return how often each token of the whole vocabulary stands in the documents: (size,)."""
        tokens = np.concatenate([document.tokens for document in self._documents])
        return torch.from_numpy(np.bincount(tokens, minlength=size))

    @property
    def highest_id(self) -> int:
        """Return the highest id of a token."""
        if self.kept is not None:
            return len(self.kept.kept) - 1
        return max(max(document.tokens) for document in self._documents)

    @property
    def lengths(self) -> list[int]:
        """Return the number of tokens of each document."""
        return [len(document.tokens) for document in self._documents]

    def _load(self, rows: list[int]) -> dict[str, Any]:
        documents = [self._documents[row] for row in rows]
        there = pad_rows([[1] * len(document.tokens) for document in documents], 0, self._side)
        tokens = pad_rows([document.tokens for document in documents], self._padding, self._side)
        counted = pad_rows([[False, *document.counted[1:]] for document in documents], 0, self._side).bool()
        labels = torch.where(counted, tokens, IGNORE_INDEX)
        batch = {"input_ids": tokens, "attention_mask": there, "labels": labels, "mask": counted}
        if self._side == "left":
            batch["position_ids"] = (there.cumsum(-1) - 1).clamp(min=0)
        return batch


def pad_rows(rows: Sequence[Sequence[int]], value: int, side: str = "right") -> Tensor:
    """Return rows of one length, (rows, longest).

    Args:
        rows: numbers.
        value: what fills the rest of a row.
        side: "left" or "right", where that is.
    """
    longest = max(map(len, rows))
    padded = torch.full((len(rows), longest), value)
    for i, row in enumerate(rows):
        start = longest - len(row) if side == "left" else 0
        padded[i, start : start + len(row)] = torch.tensor(row)
    return padded

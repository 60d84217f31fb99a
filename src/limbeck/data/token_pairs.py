"""Loaders of pairs of texts, of which the second follows from the first, for models with an encoder and a decoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from limbeck.data.documents import tokenise
from limbeck.data.token_rows import pad_rows
from limbeck.errors import DataError
from limbeck.losses import IGNORE_INDEX


class TokenPairs:
    """A loader of sources and targets, for ``Examples``. Each batch is padded to its longest source and longest target.

    A batch has ``input_ids`` and ``attention_mask`` of the sources, (N, L), and ``labels`` (-100 at padding) and ``mask`` of
    the targets, (N, M). A task makes the inputs of the decoder from the labels.

    Args:
        pairs: a source and a target each.
        tokenizer: a tokenizer of Transformers with a token for padding.
        max_length: the number of tokens after which a source is cut off.
        max_target_length: the number of tokens after which a target is cut off.

    Raises:
        DataError: a text has no token, as one that is empty may have.
    """

    def __init__(
        self, pairs: Sequence[tuple[str, str]], tokenizer: Any, max_length: int, max_target_length: int
    ) -> None:
        self.tokenizer = tokenizer
        sources, targets = [source for source, _ in pairs], [target for _, target in pairs]
        self._sources, self.cut_sources, _ = tokenise(sources, tokenizer, max_length)
        self._targets, self.cut_targets, count = tokenise(targets, tokenizer, max_target_length, role="text_target")
        self.bytes_per_token = sum(len(target.encode()) for target in targets) / max(1, count)
        for what, rows in (("source", self._sources), ("target", self._targets)):
            empty = next((i for i, row in enumerate(rows) if not row), None)
            if empty is not None:
                raise DataError(f"data.text_column: the {what} of pair {empty} has no tokens. Leave the pair out.")

    @property
    def counted(self) -> Tensor:
        """Return how many tokens each target has: (pairs,)."""
        return torch.tensor([len(target) for target in self._targets])

    @property
    def highest_id(self) -> int:
        """Return the highest id of a token."""
        return max(max(row) for row in (*self._sources, *self._targets))

    @property
    def lengths(self) -> list[int]:
        """Return the number of tokens of the longer text of each pair."""
        return [max(len(s), len(t)) for s, t in zip(self._sources, self._targets, strict=True)]

    def __call__(self, rows: list[int]) -> dict[str, Any]:
        sources, targets = ([texts[row] for row in rows] for texts in (self._sources, self._targets))
        tokens, labels = pad_rows(sources, self.tokenizer.pad_token_id), pad_rows(targets, IGNORE_INDEX)
        there = pad_rows([[1] * len(source) for source in sources], 0)
        return {"input_ids": tokens, "attention_mask": there, "labels": labels, "mask": labels != IGNORE_INDEX}

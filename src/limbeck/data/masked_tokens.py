"""Loaders of tokens of which some are masked, for masked language models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from limbeck.data.documents import Document, Encoded
from limbeck.data.token_rows import pad_rows
from limbeck.losses import IGNORE_INDEX

SHARE = 0.15
"""The share of the tokens that are masked."""


class MaskedTokens:
    """A loader of documents with masked tokens, for ``Examples``. Each batch is padded to its longest document.

    ``DataCollatorForLanguageModeling`` of Transformers masks 15 % of the tokens that count and are not special: 80 % of these
    become the mask token, 10 % another token, and 10 % stay. It is asked again where it masked no token of a document. A batch
    has ``input_ids``, ``attention_mask``, ``labels`` (the token that was there, -100 where none is masked) and ``mask``, True
    where one is, all (N, L).

    The masks of a document are always the same, drawn by its row, so that all models are measured on the same tokens.
    ``drawn_anew`` is for training: its masks are drawn by the row, and by the epoch and the seed that ``begin_epoch`` is given,
    so that a run that is resumed has the masks of one that was not interrupted.

    Args:
        documents: the tokens of each; one that does not count is never masked.
        tokenizer: a tokenizer of Transformers with tokens for masks and for padding.
        is_fixed: whether a row always has the same masks; if not, the global random numbers of torch draw them each time
            until ``begin_epoch`` is called.
    """

    bytes_per_token = None

    def __init__(self, documents: Sequence[Document], tokenizer: Any, *, is_fixed: bool = True) -> None:
        from transformers import DataCollatorForLanguageModeling

        self.tokenizer, self._documents, self._is_fixed = tokenizer, documents, is_fixed
        self._collator = DataCollatorForLanguageModeling(tokenizer, mlm_probability=SHARE)
        self._epoch = torch.full((2,), -1).share_memory_()  # seed and epoch; workers that stay see another epoch too

    def drawn_anew(self) -> MaskedTokens:
        """Return a loader of the same documents that masks other tokens each time."""
        return MaskedTokens(self._documents, self.tokenizer, is_fixed=False)

    def begin_epoch(self, seed: int, epoch: int) -> None:
        """Draw the masks of an epoch by its number and the seed of the run.

        A loader of batches reads ahead, so the global random numbers of a checkpoint are not those of its next batch.

        Args:
            seed: the seed of the run.
            epoch: the number of the epoch, from 0 on.
        """
        self._epoch.copy_(torch.tensor([seed, epoch]))

    @property
    def counted(self) -> Tensor:
        """Return how many tokens of each document may be masked: (documents,)."""
        return torch.tensor([sum(document.counted) for document in self._documents])

    @property
    def highest_id(self) -> int:
        """Return the highest id of a token, which may stand in the place of a masked one."""
        return max(len(self.tokenizer) - 1, *(max(document.tokens) for document in self._documents))

    @property
    def lengths(self) -> list[int]:
        """Return the number of tokens of each document."""
        return [len(document.tokens) for document in self._documents]

    def __call__(self, rows: list[int]) -> dict[str, Any]:
        masked = [self._mask(row) for row in rows]
        tokens = pad_rows([tokens for tokens, _ in masked], self.tokenizer.pad_token_id)
        there = pad_rows([[1] * len(tokens) for tokens, _ in masked], 0)
        labels = pad_rows([labels for _, labels in masked], IGNORE_INDEX)
        return {"input_ids": tokens, "attention_mask": there, "labels": labels, "mask": labels != IGNORE_INDEX}

    def _mask(self, row: int) -> tuple[list[int], list[int]]:
        """Return the tokens of a document as the model reads them, and the labels; at least one, if any token counts."""
        document = self._documents[row]
        self._collator.generator = self._generator(row)
        kept = torch.tensor([[not counts for counts in document.counted]])
        while True:
            tokens, labels = self._collator.torch_mask_tokens(torch.tensor([document.tokens]), special_tokens_mask=kept)
            if bool((labels != IGNORE_INDEX).any()) or bool(kept.all()):
                return tokens[0].tolist(), labels[0].tolist()

    def _generator(self, row: int) -> torch.Generator | None:
        """Return what draws the masks of a row; None for the global random numbers of torch."""
        seed, epoch = self._epoch.tolist()
        if not self._is_fixed and epoch < 0:
            return None
        number = row if self._is_fixed else int(np.random.SeedSequence((seed, epoch, row)).generate_state(1)[0])
        return torch.Generator().manual_seed(number)


def without_special_tokens(encoded: Encoded, tokenizer: Any) -> list[Document]:
    """Return the same documents, in which special tokens do not count.

    Args:
        encoded: the documents.
        tokenizer: says which tokens are special.
    """
    special = set(tokenizer.all_special_ids)
    return [
        Document(d.tokens, [c and t not in special for t, c in zip(d.tokens, d.counted, strict=True)])
        for d in encoded.documents
    ]


def join(documents: Sequence[Document], length: int) -> list[Document]:
    """Return documents joined and cut into blocks.

    Args:
        documents: the documents.
        length: the tokens in a block; the last one may have fewer.
    """
    tokens = [token for document in documents for token in document.tokens]
    counted = [counts for document in documents for counts in document.counted]
    starts = range(0, len(tokens), length)
    return [Document(tokens[start : start + length], counted[start : start + length]) for start in starts]

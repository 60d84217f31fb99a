"""A language model that reads the text of a batch with its own tokenizer, beside a student that has another one."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from limbeck.models.forward import call_model, logits_of


class Retokenised(nn.Module):
    """A language model whose logits stand at the tokens of another tokenizer.

    Each document of a batch is written as text and tokenised for the model. The n-th token of the document is paired with the
    n-th token that the model reads, as far as both go (Boizard et al., 2024). The logits at a token without a partner are -inf.

    Pairing by number is right where both tokenizers cut the text alike. Where they do not, partners stand at different places
    of the text, the further apart the longer the document is: short documents are better. Special tokens, such as those of a
    chat template, are not part of the text: the model does not read them, and they have no partner.

    Args:
        model: a causal language model.
        tokenizer: its tokenizer.
        of_batch: the tokenizer of the batch, which is the student's.
    """

    def __init__(self, model: nn.Module, tokenizer: Any, of_batch: Any) -> None:
        super().__init__()
        self.model, self.tokenizer, self.of_batch = model, tokenizer, of_batch
        self.special = torch.tensor(sorted(of_batch.all_special_ids), dtype=torch.long)
        self.train(model.training)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, position_ids: Tensor | None = None
    ) -> Tensor:
        is_text = ~torch.isin(input_ids.cpu(), self.special)
        if attention_mask is not None:
            is_text &= attention_mask.cpu().bool()
        documents = [
            (row, places)
            for row, document in enumerate(_documents(input_ids, position_ids))
            for span in document
            if len(places := is_text[row, span[0] : span[1]].nonzero().squeeze(-1) + span[0])
        ]
        if not documents:
            raise ValueError("the batch has no text")
        texts = [self.of_batch.decode(input_ids[row, places.to(input_ids.device)]) for row, places in documents]
        most = getattr(getattr(self.model, "config", None), "max_position_embeddings", None)
        rows = [self.tokenizer(text, return_special_tokens_mask=True) for text in texts]
        read = [torch.tensor(row["input_ids"][:most], dtype=torch.long) for row in rows]
        is_own = [torch.tensor(row["special_tokens_mask"][:most]) == 0 for row in rows]
        given = {
            "input_ids": pad_sequence(read, batch_first=True).to(input_ids.device),
            "attention_mask": pad_sequence([torch.ones_like(row) for row in read], batch_first=True).to(
                input_ids.device
            ),
        }
        found = logits_of(call_model(self.model, given), self.model)
        logits = found.new_full((*input_ids.shape, found.shape[-1]), -torch.inf)
        for i, (row, places) in enumerate(documents):
            partners = is_own[i].nonzero().squeeze(-1)
            count = min(len(places), len(partners))
            logits[row, places[:count].to(found.device)] = found[i, partners[:count].to(found.device)]
        return logits


def _documents(ids: Tensor, positions: Tensor | None) -> list[list[tuple[int, int]]]:
    """Return where each document of each row begins and ends. A document begins where the positions start anew."""
    rows, length = ids.shape
    if positions is None:
        return [[(0, length)] for _ in range(rows)]
    found = []
    for row in positions.expand(rows, length).cpu():
        begins = [0, *((row[1:] <= row[:-1]).nonzero().squeeze(-1) + 1).tolist(), length]
        found.append(list(pairwise(begins)))
    return found

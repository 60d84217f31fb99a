"""Whether a language model can read the documents of the data: their length, their tokens, and several of them in one block."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

from limbeck.data import MaskedTokens, PaddedTokens, Splits, TokenBlocks, TokenPairs
from limbeck.errors import ArgumentError, ConfigError
from limbeck.models import forward_logits, token_columns
from limbeck.models.forward import underlying
from limbeck.store import StoredTeacher
from limbeck.teachers import as_teacher

ALIKE = 1e-3
"""How much the logits of a document may differ between a block and the document alone, of their largest size."""


def check_language_model(model: nn.Module, splits: Splits, key: str) -> None:
    """Check that a language model has room for the documents and keeps those of a block apart.

    Args:
        model: the model; its mode is left as it is.
        splits: the examples.
        key: the config's key of the model, for messages.

    Raises:
        ConfigError: it does not; one line for each fault.
    """
    config, faults = getattr(underlying(model), "config", None), []
    parts = (splits.train, splits.validation, splits.test)
    loaders = [cast(TokenBlocks | PaddedTokens | MaskedTokens | TokenPairs, part.load) for part in parts]
    longest, highest = max(max(load.lengths) for load in loaders), max(load.highest_id for load in loaders)
    positions, known = (getattr(config, name, None) for name in ("max_position_embeddings", "vocab_size"))
    if positions and longest > positions:
        faults.append(
            f"data.max_length: the longest sequence has {longest} tokens, and {key} was made for {positions} at most. Set "
            f"data.max_length: {positions}"
        )
    if known and highest >= known:
        faults.append(
            f"data.tokenizer: the data have ids up to {highest}, and {key} knows {known} tokens. Name the tokenizer that the "
            "model was trained with."
        )
    if not faults and isinstance(splits.train.load, TokenBlocks) and not _keeps_apart(model, splits.train.load):
        faults.append(
            f"data.packing: {key} ({type(underlying(model)).__name__}) lets a document of a block see those before it: it does "
            "not read position_ids as the models of Transformers do. Set data.packing: false."
        )
    if faults:
        raise ConfigError(*faults)


def check_vocabularies(student: nn.Module, teacher: nn.Module | StoredTeacher, splits: Splits) -> None:
    """Check that each output column of student and teacher stands for the same token, as the trainer does.

    Args:
        student: the model that is trained.
        teacher: its teacher, which is frozen.
        splits: the examples, whose tokenizer both share.

    Raises:
        ConfigError: an id stands for another token, or the widths differ and a tokenizer is not known.
    """
    from limbeck.training.vocabularies import SharedVocabulary

    try:
        shared = SharedVocabulary(student, as_teacher(teacher), splits.train.tokenizer)
        widths = token_columns(student), _columns_of(teacher)
        if None not in widths and widths[0] != widths[1]:
            shared.columns(cast(int, widths[1]), cast(int, widths[0]))
    except ArgumentError as error:
        raise ConfigError(
            f"teacher.{'cache' if isinstance(teacher, StoredTeacher) else 'model'}: {error.message}"
        ) from None


def _columns_of(teacher: nn.Module | StoredTeacher) -> int | None:
    return teacher.store.description.classes if isinstance(teacher, StoredTeacher) else token_columns(teacher)


@torch.no_grad()
def _keeps_apart(model: nn.Module, load: TokenBlocks) -> bool:
    """Return True if the second document of a block has the logits that it has alone."""
    tokens = load([0])["input_ids"]
    length = tokens.shape[1] // 2
    tokens, positions = tokens[:, : 2 * length], torch.arange(length).repeat(2)[None]
    training = model.training
    both = forward_logits(model.eval(), {"input_ids": tokens, "position_ids": positions})[:, length:]
    second = {"input_ids": tokens[:, length:], "position_ids": positions[:, length:]}
    alone = forward_logits(model, second)
    model.train(training)
    return bool((both - alone).abs().max() <= ALIKE * alone.abs().max())

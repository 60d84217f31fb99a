"""Whether a language model can read the documents of the data: their length, their tokens, and several of them in one block.

And documents of which some tokens alone are kept.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import torch
from torch import nn

from limbeck.config import Config
from limbeck.data import Examples, MaskedTokens, PaddedTokens, Splits, TokenBlocks, TokenPairs
from limbeck.data.token_rows import TokenRows
from limbeck.errors import ArgumentError, ConfigError
from limbeck.models import Retokenised, forward_logits, saved_tokenizer, token_columns
from limbeck.models.forward import underlying
from limbeck.models.kept_tokens import TEACHER_IDS, choose_tokens
from limbeck.store import StoredTeacher
from limbeck.tasks import CausalLM
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


def keep_tokens(config: Config, splits: Splits) -> Splits:
    """Return the examples with the tokens alone that the student of a config knows.

    Args:
        config: the run; ``student.from_teacher.vocabulary`` says how many tokens to keep of those in the training examples.
        splits: the examples with all tokens.

    Returns:
        The examples, with a note on what is left out; the same ones where the student knows all tokens.

    Raises:
        ConfigError: the tokens of the data cannot be cut, or the teacher would have to be trained on them.
    """
    wanted = config.student.from_teacher
    if wanted is None or wanted.vocabulary is None:
        return splits
    key, load, tokenizer = "student.from_teacher.vocabulary", splits.train.load, splits.train.tokenizer
    if not isinstance(load, TokenRows):
        raise ConfigError(f"{key}: is for causal language models, and the data are not theirs. Leave it out.")
    if tokenizer is None:
        raise ConfigError(f"{key}: needs the tokenizer of the data. Name it as data.tokenizer.")
    if config.teacher.training is not None:
        raise ConfigError(f"{key}: needs a teacher that is trained already. Leave out teacher.training.")
    total = max(tokenizer.get_vocab().values()) + 1
    try:
        kept = choose_tokens(load.token_counts(total), tokenizer, wanted.vocabulary)
    except ArgumentError as error:
        raise ConfigError(f"{key}: {error.message}") from None
    parts = [splits.train, splits.validation, splits.test]
    loads = [cast(TokenRows, part.load).keep(kept) for part in parts]
    cut = [Examples(load, part.labels, part.ids, task=part.task) for load, part in zip(loads, parts, strict=True)]
    outside = ", ".join(f"{100 * load.outside:.1f} %" for load in loads)
    splits.notes.append(
        f"The student knows {len(kept.kept):,} of {total:,} tokens. Of training, validation and test {outside} are others: it "
        "reads them as the unknown token, and they are not counted. Perplexities are over the tokens that it knows."
    )
    reading = replace(splits.preprocessing, tokenizer=kept.tokenizer)
    return replace(splits, train=cut[0], validation=cut[1], test=cut[2], preprocessing=reading)


def check_alignment(config: Config, splits: Splits) -> None:
    """Check that a run whose teacher has another tokenizer is one that can do with that.

    Args:
        config: the run; ``distillation.alignment`` says whether its teacher has.
        splits: the examples.

    Raises:
        ConfigError: it cannot; one line for each reason.
    """
    if config.distillation.alignment is None:
        return
    faults, teacher, shrunk = [], config.teacher, config.student.from_teacher
    if splits.task != CausalLM.name or splits.train.tokenizer is None:
        faults.append("needs texts for a causal language model, and their tokenizer as data.tokenizer")
    if teacher.cache is not None or not teacher.model or teacher.training is not None:
        faults.append(
            "needs one trained language model as teacher.model, since a store keeps answers about other tokens"
        )
    if shrunk is not None and shrunk.vocabulary is not None:
        faults.append("is for a teacher with other tokens, and student.from_teacher.vocabulary keeps the teacher's")
    if faults:
        raise ConfigError(*(f"distillation.alignment: uld {fault}. Change that, or leave it out." for fault in faults))


def reading_own_tokens(teacher: nn.Module, splits: Splits, key: str) -> Retokenised:
    """Return a trained language model that reads the text of the data with its own tokenizer.

    Args:
        teacher: the model, whose tokenizer is saved beside its weights.
        splits: the examples.
        key: the config's key of the model, for messages.

    Raises:
        ConfigError: there is no tokenizer beside its weights, or it returns no logits of tokens.
    """
    tokenizer = saved_tokenizer(underlying(teacher))
    if tokenizer is None:
        raise ConfigError(f"{key}: has no tokenizer beside its weights, which alignment: uld needs. Save it there.")
    if token_columns(teacher) is None:
        raise ConfigError(
            f"{key}: {type(underlying(teacher)).__name__} is no language model, which alignment: uld needs."
        )
    return Retokenised(teacher, tokenizer, splits.train.tokenizer).eval()


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
    tokens = {name: ids for name, ids in load([0]).items() if name in ("input_ids", TEACHER_IDS)}
    length = tokens["input_ids"].shape[1] // 2
    whole = {name: ids[:, : 2 * length] for name, ids in tokens.items()}
    whole["position_ids"] = torch.arange(length).repeat(2)[None]
    second = {name: values[:, length:] for name, values in whole.items()}
    training = model.training
    both = forward_logits(model.eval(), whole)[:, length:]
    alone = forward_logits(model, second)
    model.train(training)
    return bool((both - alone).abs().max() <= ALIKE * alone.abs().max())

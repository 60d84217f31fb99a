"""The tokens that a language model reads and predicts: its tokenizer, and the width of its output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from torch import nn

from limbeck.models.forward import underlying
from limbeck.models.sentences import is_sentence_model

TOKENIZER_FILES = (
    "tokenizer_config.json", "tokenizer.json", "tokenizer.model", "vocab.txt", "vocab.json", "spiece.model",
    "sentencepiece.bpe.model",
)  # fmt: skip
"""Files of which a folder has at least one if it holds a tokenizer. Of a folder without, Transformers makes an empty one."""


def tokens_of(tokenizer: Any) -> Mapping[str, int] | None:
    """Return the id of each token of a tokenizer, with the tokens that were added to it.

    Args:
        tokenizer: a tokenizer of Transformers; a processor that has one; or anything else.

    Returns:
        The ids by token, or None if it is not a tokenizer.
    """
    tokenizer = getattr(tokenizer, "tokenizer", tokenizer)
    return tokenizer.get_vocab() if hasattr(tokenizer, "get_vocab") else None


def saved_tokens(model: nn.Module) -> Mapping[str, int] | None:
    """Return the tokens of the tokenizer that lies beside the weights a model was loaded from. No hub is asked.

    Args:
        model: any module. One of Transformers knows its folder, or the id whose files Transformers has downloaded before.

    Returns:
        The ids by token, or None if there is no tokenizer.
    """
    return tokens_of(saved_tokenizer(model))


def saved_tokenizer(model: nn.Module) -> Any:
    """Return the tokenizer that lies beside the weights a model was loaded from, or None. No hub is asked.

    Args:
        model: as in ``saved_tokens``.
    """
    if is_sentence_model(underlying(model)):
        return cast(Any, underlying(model)).tokenizer  # it has loaded its own
    name = getattr(underlying(model), "name_or_path", None)
    folder = folder_with(TOKENIZER_FILES, name) if isinstance(name, str) and name else None
    if folder is None or not any((folder / file).is_file() for file in TOKENIZER_FILES):
        return None
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except (
        OSError,
        ValueError,
        ImportError,
        KeyError,
    ):  # a tokenizer of another program, or one that lacks its package
        return None


def folder_with(files: Sequence[str], name: str) -> Path | None:
    """Return the folder of a model's files: its path, or where the hub's cache has one of some files of its id.

    Args:
        files: the names of the files.
        name: a folder, or an id of the hub.
    """
    if Path(name).is_dir():
        return Path(name)
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = (try_to_load_from_cache(name, file) for file in files)
        return next((Path(path).parent for path in cached if isinstance(path, str)), None)
    except HFValidationError:  # a path that is not there
        return None


def token_columns(model: nn.Module) -> int | None:
    """Return how many output columns a model has, if each of them stands for a token.

    Args:
        model: any module, also one that holds a language model of Transformers.

    Returns:
        The number of rows of its output embeddings; None if it has none, as a classifier.
    """
    for part in underlying(model).modules():
        get_embeddings = getattr(part, "get_output_embeddings", None)
        weight = getattr(get_embeddings() if callable(get_embeddings) else None, "weight", None)
        if weight is not None:
            return len(weight)
    return None

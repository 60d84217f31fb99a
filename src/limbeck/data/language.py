"""Read the data of a language model: files of text, or the texts, pairs, chats or tokens of a data set."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from limbeck.data.columns import find_column
from limbeck.data.config import (
    READ_BY_FILES,
    READ_BY_HUB,
    READ_BY_LANGUAGE,
    DataConfig,
    check_all_are_read,
    check_files_are_there,
)
from limbeck.data.documents import Document, Encoded, encode_chats, encode_pairs, encode_texts, take_tokens, tokenise
from limbeck.data.examples import Examples, Source
from limbeck.data.hugging_face import TEXT_COLUMNS, load_tables
from limbeck.data.masked_tokens import MaskedTokens, join, without_special_tokens
from limbeck.data.preprocessing import Preprocessing
from limbeck.data.texts import load_tokenizer
from limbeck.data.token_pairs import TokenPairs
from limbeck.data.token_rows import PaddedTokens, TokenBlocks
from limbeck.errors import DataError
from limbeck.models import DataShape

TEXT_FILES = (".txt", ".md")
USUAL_PAIRS = (("prompt", "completion"), ("source", "target"))
USUAL_COLUMNS = ("messages", "input_ids", *TEXT_COLUMNS)
HELD_OUT = 0.1
"""The part of the documents that becomes a validation or test set which the data lack."""
LOSS_ON = {
    "texts": ("all",),
    "tokens": ("all",),
    "pairs": ("completion", "all"),
    "chats": ("assistant", "completion", "all"),
}
"""What the loss of each kind of documents can count, the default first."""
KINDS = {"causal_lm": tuple(LOSS_ON), "masked_lm": ("texts", "tokens"), "encoder_decoder": ("pairs",)}
"""The kinds of documents that each task learns."""
MASKED, PAIRS = "masked_lm", "encoder_decoder"
WANTED = {
    "causal_lm": "",
    MASKED: "Name one column, of texts or of token ids.",
    PAIRS: "Name the two columns of a data set, of a source and of its target, as in [source, target].",
}
"""What a user should name for each task."""


@dataclass(frozen=True)
class _Raw:
    """Documents before they are tokenised."""

    kind: str
    """A key of ``LOSS_ON``."""
    splits: dict[str, list[Any]]
    column: str | None = None
    """The column that a prompt stands in; None where the texts are files."""
    labels: dict[str, list[Any]] | None = None


def read_language(config: DataConfig, task: str = "causal_lm") -> Source:
    """Read documents for a language model, split them by document, and tokenise them; join, pad or mask them.

    Args:
        config: the name of the data set or of a file or folder of texts, and how it is read.
        task: what the documents are for, a key of ``KINDS``.

    Returns:
        Its splits, each with its own documents.

    Raises:
        DataError: the data cannot be read, a column is missing, there is too little text, nothing counts in the loss, the
            tokenizer lacks a token that is needed, or a setting has no effect.
    """
    path = Path(config.name)
    place = READ_BY_FILES if path.exists() else READ_BY_HUB
    check_files_are_there(config)
    check_all_are_read(config, (*READ_BY_LANGUAGE[task], *place), f"texts for {task}")
    if config.labelled is not None:
        raise DataError("data.labelled: the labels are the tokens of the texts themselves. Leave it out.")
    raw = _read_files(config) if _is_text(path) else _read_columns(config, task)
    if raw.kind not in KINDS[task]:
        raise DataError(
            f"data.{'name' if raw.column is None else 'text_column'}: {task} learns {' or '.join(KINDS[task])}, and these are "
            f"{raw.kind}. {WANTED[task]}"
        )
    raw, notes = _complete(raw)
    tokenizer = _tokenizer_for(task, raw.kind, config)
    load = {MASKED: _load_masked, PAIRS: _load_pairs}.get(task, _load_causal)
    splits, decided = {}, []
    for split in raw.splits:
        loader = load(raw, split, config, tokenizer, decided)
        splits[split] = Examples(loader, torch.zeros(len(loader.lengths)), task=task)
    preprocessing = Preprocessing(
        [], tokenizer=tokenizer, max_length=config.max_length, task=task, column=raw.column, chat=raw.kind == "chats"
    )
    return Source(splits, DataShape(0), preprocessing, [*notes, *decided])


def _tokenizer_for(task: str, kind: str, config: DataConfig) -> Any:
    """Return the tokenizer, after checking that it has the tokens that the task needs; None if tokens are given."""
    if task == "causal_lm" and kind == "tokens" and config.tokenizer is None:
        return None
    tokenizer, name = load_tokenizer(config.tokenizer), config.tokenizer
    if task == "causal_lm" and not tokenizer.is_fast:
        raise DataError(f"data.tokenizer: {name} is no fast tokenizer, which tells where each token stands.")
    if task == MASKED and tokenizer.mask_token_id is None:
        raise DataError(
            f"data.tokenizer: {name} has no mask token, which masked_lm puts in the place of others. Name the tokenizer of a "
            "masked language model."
        )
    if task != "causal_lm" and tokenizer.pad_token_id is None:
        raise DataError(f"data.tokenizer: {name} has no token for padding. Set its pad_token, and save it.")
    return tokenizer


def _load_causal(
    raw: _Raw, split: str, config: DataConfig, tokenizer: Any, notes: list[str]
) -> TokenBlocks | PaddedTokens:
    """Return a loader of documents whose tokens follow from those before."""
    loss_on = config.loss_on or LOSS_ON[raw.kind][0]
    if loss_on not in LOSS_ON[raw.kind]:
        raise DataError(f"data.loss_on: {loss_on} is not for {raw.kind}. Expected {' or '.join(LOSS_ON[raw.kind])}.")
    encoded = _without_empty(_encode(raw, split, tokenizer, loss_on), split, notes)
    if _is_packed(raw, config):
        return _load_packed(encoded, config, tokenizer, split)
    return _load_padded(encoded, config, tokenizer, split, notes)


def _load_masked(raw: _Raw, split: str, config: DataConfig, tokenizer: Any, notes: list[str]) -> MaskedTokens:
    """Return a loader of documents, or of blocks of them, with masked tokens."""
    length, is_packed, cut = config.max_length, _is_packed(raw, config), 0
    if is_packed or raw.kind == "tokens":
        encoded = _encode(raw, split, tokenizer, "all")
    else:
        rows, cut, _ = tokenise(raw.splits[split], tokenizer, length)
        encoded = Encoded([Document(row, [True] * len(row)) for row in rows])
    documents = without_special_tokens(encoded, tokenizer)
    if is_packed:
        documents = join(documents, length)
    elif raw.kind == "tokens":
        cut = sum(len(document.tokens) > length for document in documents)
        documents = [Document(d.tokens[:length], d.counted[:length]) for d in documents]
    _note_cut(notes, cut, split, length)
    some = _without_empty(Encoded(documents), split, notes, first=0).documents
    return MaskedTokens(some, tokenizer)


def _load_pairs(raw: _Raw, split: str, config: DataConfig, tokenizer: Any, notes: list[str]) -> TokenPairs:
    """Return a loader of sources and their targets."""
    target_length = config.max_target_length or config.max_length
    loader = TokenPairs(raw.splits[split], tokenizer, config.max_length, target_length)
    _note_cut(notes, loader.cut_sources, f"the sources of {split}", config.max_length)
    _note_cut(notes, loader.cut_targets, f"the targets of {split}", target_length)
    return loader


def _note_cut(notes: list[str], cut: int, what: str, length: int) -> None:
    if cut:
        notes.append(f"{cut} texts of {what} are longer than {length} tokens and are cut there.")


def _is_packed(raw: _Raw, config: DataConfig) -> bool:
    return raw.kind == "texts" if config.packing is None else config.packing


def _is_text(path: Path) -> bool:
    """Return True for a file of text, and for a folder that is no data set saved to disk."""
    if path.is_dir():
        return not any((path / name).exists() for name in ("dataset_dict.json", "state.json"))
    return path.suffix.lower() in TEXT_FILES


def _read_files(config: DataConfig) -> _Raw:
    """Return the texts of files. Each file is a document."""
    given = {
        "train": ("name", config.name),
        "validation": ("validation", config.validation),
        "test": ("test", config.test),
    }
    splits = {}
    for split, (key, name) in given.items():
        if name is None:
            continue
        path = Path(name)
        if not path.exists():
            raise DataError(f"data.{key}: no file or folder {name}.")
        files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.suffix.lower() in TEXT_FILES)
        if not files:
            raise DataError(
                f"data.{key}: {name} holds no text. Expected a file or a folder with {' or '.join(TEXT_FILES)}."
            )
        try:
            texts = [file.read_text(encoding="utf-8") for file in files]
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"data.{key}: {name} cannot be read as UTF-8 text ({error}).") from None
        splits[split] = [text for text in texts if text.strip()]
        if not splits[split]:
            raise DataError(
                f"data.{key}: {name} holds no text: {len(files)} empty files. Name files with text in them."
            )
    return _Raw("texts", splits)


def _read_columns(config: DataConfig, task: str) -> _Raw:
    """Return the documents in the columns of a data set."""
    tables = load_tables(config)
    columns, named = tables["train"].features, config.text_column
    pair = named if isinstance(named, tuple) else None
    if named is None and "pairs" in KINDS[task]:
        usual = USUAL_PAIRS[:1] if task == "causal_lm" else USUAL_PAIRS
        pair = next((names for names in usual if set(names) <= set(columns)), None)
    if task == PAIRS and pair is None:
        raise DataError(f"data.text_column: {WANTED[PAIRS]} There are {', '.join(columns)}.")
    if pair is not None:
        cells = {split: [_column(table, name, split) for name in pair] for split, table in tables.items()}
        return _Raw("pairs", {split: list(zip(*both, strict=True)) for split, both in cells.items()}, str(pair[0]))
    column = find_column(named if isinstance(named, str) else None, USUAL_COLUMNS, columns, "data.text_column")
    splits = {split: _column(table, column, split) for split, table in tables.items()}
    kind = _kind(splits["train"][0] if splits["train"] else "", column)
    labels = None
    if kind == "tokens" and "labels" in columns:
        labels = {split: _column(table, "labels", split) for split, table in tables.items()}
    return _Raw(kind, splits, column, labels)


def _column(table: Any, name: str, split: str) -> list[Any]:
    """Return the cells of a column."""
    if name not in table.features:
        raise DataError(f"data.text_column: {split} has no column {name!r}; there are {', '.join(table.features)}.")
    cells = list(table[name])
    if None in cells:
        raise DataError(
            f"data.text_column: row {cells.index(None)} of {split} has an empty cell in column {name!r}. Leave the row out."
        )
    return cells


def _kind(cell: Any, column: str) -> str:
    if isinstance(cell, str):
        return "texts"
    if isinstance(cell, list) and all(isinstance(part, int) for part in cell):
        return "tokens"
    if isinstance(cell, list) and all(isinstance(part, dict) for part in cell):
        return "chats"
    raise DataError(
        f"data.text_column: column {column!r} holds {type(cell).__name__}. Expected texts, lists of token ids, or chats: lists "
        "of messages with role and content."
    )


def _complete(raw: _Raw) -> tuple[_Raw, list[str]]:
    """Return the documents with validation and test documents of their own, and what was decided."""
    missing = [split for split in ("test", "validation") if split not in raw.splits]
    if not missing:
        return raw, []
    train = raw.splits["train"]
    if len(train) == 1 and raw.kind == "texts":
        parts = _cut(train[0], len(missing))
        splits = {
            **raw.splits,
            "train": [parts[0]],
            **{split: [part] for split, part in zip(reversed(missing), parts[1:], strict=True)},
        }
        return replace(raw, splits=splits), [
            f"The text is one document; its end is the {' and the '.join(reversed(missing))} set."
        ]
    size = max(1, round(HELD_OUT * len(train)))
    if len(train) < 1 + size * len(missing):
        raise DataError(
            f"data.name: {len(train)} documents are too few to hold some out. Name files for data.validation and data.test."
        )
    order = np.random.default_rng(0).permutation(len(train))
    drawn = {split: np.sort(order[i * size : (i + 1) * size]) for i, split in enumerate(missing)}
    drawn["train"] = np.sort(order[len(missing) * size :])
    splits = {**raw.splits, **{split: [train[i] for i in rows] for split, rows in drawn.items()}}
    labels = raw.labels
    if labels is not None:
        labels = {**labels, **{split: [labels["train"][i] for i in rows] for split, rows in drawn.items()}}
    notes = [f"{size} of the {len(train)} documents, drawn at random, are the {split} set." for split in missing]
    return replace(raw, splits=splits, labels=labels), notes


def _cut(text: str, held_out: int) -> list[str]:
    """Return the beginning of a text and its last tenths, cut where a paragraph or at least a line ends."""
    places = [0]
    for part in range(held_out, 0, -1):
        place = round(len(text) * (1 - HELD_OUT * part))
        found = [text.find(end, place) for end in ("\n\n", "\n")]
        places.append(next((f + 1 for f in found if f >= 0), place))
    return [text[a:b] for a, b in zip(places, [*places[1:], len(text)], strict=True)]


def _encode(raw: _Raw, split: str, tokenizer: Any, loss_on: str) -> Encoded:
    cells, place = raw.splits[split], f"data.text_column: {raw.column} of {split}"
    if raw.kind == "tokens":
        return take_tokens(cells, None if raw.labels is None else raw.labels[split], place)
    if raw.kind == "chats":
        return encode_chats(cells, tokenizer, loss_on, place)
    return encode_pairs(cells, tokenizer, loss_on) if raw.kind == "pairs" else encode_texts(cells, tokenizer)


def _without_empty(encoded: Encoded, split: str, notes: list[str], first: int = 1) -> Encoded:
    """Return the documents in which a token can be predicted, from the first one that can be."""
    some = [document for document in encoded.documents if any(document.counted[first:])]
    if not some:
        raise DataError(
            f"data.text_column: nothing in the {split} set counts in the loss: of {len(encoded.documents)} documents each is "
            "empty, or all of its tokens are masked. Check the texts, the labels and data.loss_on."
        )
    if len(some) < len(encoded.documents):
        notes.append(
            f"{len(encoded.documents) - len(some)} documents of {split} have nothing to predict and are left out."
        )
    return replace(encoded, documents=some)


def _load_packed(encoded: Encoded, config: DataConfig, tokenizer: Any, split: str) -> TokenBlocks:
    total = sum(len(document.tokens) for document in encoded.documents)
    if split == "train" and total < config.max_length:
        raise DataError(
            f"data.max_length: the training texts have {total} tokens in all, less than one block of {config.max_length}. Set "
            "data.max_length lower, set data.packing: false, or name more text."
        )
    return TokenBlocks(encoded, config.max_length, _padding(tokenizer), tokenizer)


def _load_padded(encoded: Encoded, config: DataConfig, tokenizer: Any, split: str, notes: list[str]) -> PaddedTokens:
    length, kept = config.max_length, []
    cut = [len(document.tokens) - length for document in encoded.documents if len(document.tokens) > length]
    for document in encoded.documents:
        short = Document(document.tokens[:length], document.counted[:length])
        kept += [short] if any(short.counted[1:]) else []
    if cut:
        lost = len(encoded.documents) - len(kept)
        left_out = f"; {lost} of them had nothing left to predict and are left out" if lost else ""
        notes.append(
            f"{len(cut)} of {len(encoded.documents)} documents of {split} are longer than {length} tokens and are cut there, "
            f"{sum(cut):,} tokens in all{left_out}."
        )
    if not kept:
        raise DataError(
            f"data.max_length: cut at {length} tokens, no document of {split} has anything left to predict. Set it higher."
        )
    side = getattr(tokenizer, "padding_side", "right")
    return PaddedTokens(replace(encoded, documents=kept), _padding(tokenizer), side, tokenizer)


def _padding(tokenizer: Any) -> int:
    """Return the id that fills the rest of a row. It is never attended to and never counts."""
    known = (getattr(tokenizer, "pad_token_id", None), getattr(tokenizer, "eos_token_id", None))
    return next((id_ for id_ in known if id_ is not None), 0)

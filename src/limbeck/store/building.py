"""Building a store: the teacher is run over the examples once, and its outputs are written to the disk."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xxhash
from torch import Tensor, nn

from limbeck.data import Examples, FixedViews
from limbeck.errors import StoreError
from limbeck.losses.inspection import are_probabilities
from limbeck.models import saved_tokens, token_columns, tokens_of
from limbeck.outputs import ClassNames, fingerprint_of_tokens
from limbeck.store.codec_base import Codec
from limbeck.store.codecs import CODECS, Hidden, codec_settings
from limbeck.store.description import VERSION, StoreDescription, Version
from limbeck.store.errors import StoreArgumentError, UnstorableError
from limbeck.store.fingerprints import LOADED_EXAMPLES, fingerprint_of_examples, fingerprint_of_model
from limbeck.store.output_layer import (
    check_output_layer,
    find_output_layer,
    has_output_layer,
    output_layer_checksum,
    record_inputs,
    write_output_layer,
)
from limbeck.store.shards import Shard, shards_with_manifest, split_into_shards
from limbeck.store.sparse_codecs import TopK
from limbeck.store.storage import open_storage
from limbeck.store.stored_teacher import token_mask
from limbeck.store.values import check_softmax
from limbeck.teachers import LiveTeacher

SHOWN_EXAMPLES = 10
"""The most example ids that a message shows."""
CHECKED = 8
"""The examples whose logits are looked at before a store is begun."""
SHARD_BYTES = 128 << 20
"""The size that a shard is given by default."""


@dataclass(frozen=True)
class BuildResult:
    """The work that one process did in ``build_store``."""

    description: StoreDescription
    """The description of the store."""
    written: int
    """How many shards this process wrote."""
    found: int
    """How many of this process's shards were whole already."""
    seconds: float
    """How long it took."""


def build_store(
    teacher: nn.Module,
    examples: Examples,
    folder: str | Path,
    codec: Codec,
    *,
    class_names: Sequence[str] | None = None,
    tokenizer: Any = None,
    views: FixedViews | None = None,
    batch_size: int = 256,
    shard_rows: int | None = None,
    seed: int = 0,
    rank: int = 0,
    world_size: int = 1,
    progress: str | None = None,
) -> BuildResult:
    """Run a teacher over examples and write its outputs; shards that are there already are left as they are.

    After an interruption, the same call goes on and ends with the same bytes. Shard k is written by process k mod
    ``world_size``, from its own rows alone, so several processes need not wait for each other.

    Args:
        teacher: any module; it is frozen and put in eval mode, as ``LiveTeacher`` does.
        examples: what to run the teacher on. Of a sequence, every token with an ``attention_mask`` of 1 is stored.
        folder: where to write; or a URL that fsspec knows, to which each shard is uploaded when it is whole.
        codec: the format.
        class_names: the name of each of the teacher's output columns, where they are known. They are kept in the store, so that
            a student whose classes stand in another order can be told.
        tokenizer: that of a teacher whose output columns are tokens; by default the one that is saved beside its weights. What
            each column stands for is kept in the store, so that a student with another tokenizer is refused.
        views: the augmented views of each image that are stored, for students with augmentation; by default the image as it
            is.
        batch_size: examples in a batch. A batch ends at the end of a shard.
        shard_rows: examples in a shard; by default as many as make 128 MB.
        seed: the seed of formats that draw.
        rank: the number of this process, from 0.
        world_size: the number of processes that build the store together.
        progress: the title of a progress bar; None for no bar.

    Returns:
        How many shards this process wrote and found.

    Raises:
        StoreArgumentError: an argument is not as described; there are no examples, or one occurs twice; ``class_names`` are
            not as many as the teacher's columns; ``views`` are given for sequences; the format cannot hold the teacher's
            logits, such as NaN, or needs another kind of teacher; or the teacher gives probabilities.
        StoreError: the folder holds another store, or one that an earlier version began; or the disk is full.
    """
    from tqdm import tqdm

    start = time.perf_counter()
    _check_arguments(teacher, examples, codec, views, batch_size, shard_rows, rank, world_size)
    storage = open_storage(folder)
    ids = _ascending_ids(examples)
    layer = find_output_layer(teacher) if isinstance(codec, Hidden) else None
    runner = _TeacherRunner(teacher, examples, views, layer)
    there = shards_with_manifest(storage) if storage.exists() else []
    version = there[0].manifest.description.version if there else VERSION
    vocabulary = _vocabulary(teacher, tokenizer) if version > 2 else None
    codec, description = _describe(runner, ids, codec, shard_rows, class_names, vocabulary, version)
    all_shards = split_into_shards(storage, len(ids), description.shard_rows)
    _check_what_is_there(there, all_shards, description)
    storage.create_folder()
    if layer is not None and rank == 0 and not has_output_layer(storage, description.head):
        write_output_layer(storage, layer)
    written = found = 0
    shards = all_shards[rank::world_size]
    for shard in tqdm(shards, desc=progress, delay=1.0, leave=False, disable=progress is None):
        if shard.is_whole(description):
            found += 1
            continue
        rows = ids[shard.start : shard.stop]
        columns, token_counts = _shard_columns(runner, rows.split(batch_size), codec, _generator(seed, shard))
        try:
            shard.write(rows.numpy(), columns, description, token_counts)
        except OSError as error:
            raise StoreError(
                f"{storage.location(shard.name)}: cannot be written ({error.strerror or error}); {found + written} of "
                f"{len(shards)} shards are whole. Make room and build again to go on."
            ) from None
        written += 1
    return BuildResult(description, written, found, time.perf_counter() - start)


def _check_arguments(
    teacher: Any, examples: Any, codec: Any, views: Any, batch_size: int, shard_rows: int | None, rank: int, world: int
) -> None:
    """Check what can be seen without running the teacher."""
    for name, given, kinds, expected in (
        ("teacher", teacher, nn.Module, "a module"),
        ("examples", examples, Examples, "limbeck.data.Examples, such as Examples(TensorRows('x', inputs), labels)"),
        ("codec", codec, tuple(CODECS.values()), f"one of {', '.join(c.__name__ for c in CODECS.values())}"),
        ("views", views, FixedViews | None, "limbeck.data.FixedViews"),
    ):
        if not isinstance(given, kinds):
            raise StoreArgumentError(name, f"expected {expected}, got {type(given).__name__}.")
    for name, number in (("batch_size", batch_size), ("shard_rows", 1 if shard_rows is None else shard_rows)):
        if number < 1:
            raise StoreArgumentError(name, f"expected at least 1, got {number}.")
    if not 0 <= rank < world:
        raise StoreArgumentError("rank", f"expected a number from 0 to {world - 1}, got {rank}.")


@dataclass(frozen=True)
class _Positions:
    """What is stored of some examples, at every position that is not padding."""

    values: Tensor
    """(P, V) logits or (P, d) hidden states, on the CPU."""
    token_counts: np.ndarray | None
    """(N,) the number of tokens of each example; None if the examples are not sequences."""

    def example_ids(self, ids: Tensor) -> Tensor:
        """Return (P,) the id of the example that each position belongs to, given the ids (N,) of the examples."""
        if self.token_counts is None:
            return ids.repeat_interleave(len(self.values) // len(ids))
        return ids.repeat_interleave(torch.from_numpy(self.token_counts))


class _TeacherRunner:
    """Runs the teacher on some of the examples.

    Args:
        teacher: the teacher.
        examples: the examples, from which batches are loaded.
        views: the views of each example that the teacher sees.
        layer: the layer whose inputs are stored in the place of logits; None to store logits.
    """

    def __init__(
        self, teacher: nn.Module, examples: Examples, views: FixedViews | None, layer: nn.Linear | None
    ) -> None:
        self.module, self.examples, self.views, self.layer = teacher, examples, views, layer
        self._teacher = LiveTeacher(teacher)
        self._device = next((parameter.device for parameter in teacher.parameters()), torch.device("cpu"))

    def stored_values(self, ids: Tensor) -> _Positions:
        """Return what is stored of some examples: all views of the first one, then those of the second one, and so on."""
        batch = self._load(ids, self.views)
        if self.layer is None:
            return _without_padding(self._logits(batch), batch)
        with record_inputs(self.layer) as inputs:
            self._teacher(batch)
        return _without_padding(inputs[-1], batch)

    def check_logits(self, ids: Tensor) -> None:
        """Raise a StoreArgumentError if the teacher gives probabilities for all of some examples."""
        batch = self._load(ids, None)
        logits = _without_padding(self._logits(batch), batch).values
        if len(logits) > 1 and logits.shape[-1] > 1 and are_probabilities(logits):
            raise StoreArgumentError(
                "teacher",
                "every row that it returned lies in [0, 1] and sums to 1: probabilities, and a store keeps logits. Set "
                "teacher.outputs: probabilities in a config, or pass limbeck.models.LogProbabilities(teacher).",
            )

    def logits_of_one(self, example_id: Tensor) -> _Positions:
        """Return the logits of one example as it is, after checking that the layer, if there is one, computes them."""
        batch = self._load(example_id, None)
        if self.views is not None and "pixel_values" not in batch:
            raise StoreArgumentError("views", f"are of images in pixel_values, and the batch has {', '.join(batch)}.")
        with record_inputs(self.layer) if self.layer else nullcontext([]) as inputs:
            positions = _without_padding(self._logits(batch), batch)
        with _naming_examples(positions, example_id):
            check_softmax(positions.values)
        if self.layer is not None:
            hidden = inputs[-1].reshape(-1, self.layer.in_features)[: len(positions.values)]
            check_output_layer(self.layer, hidden, positions.values.to(self._device))
        return positions

    def _logits(self, batch: dict[str, Any]) -> Tensor:
        logits = self._teacher(batch).logits
        assert logits is not None
        return logits

    def _load(self, ids: Tensor, views: FixedViews | None) -> dict[str, Any]:
        """Return the inputs of some examples, in all of their views, on the teacher's device."""
        batch = self.examples.load(ids.tolist())
        if views is not None:
            if "pixel_values" not in batch:
                raise StoreArgumentError(
                    "views", f"are of images in pixel_values, and the batch has {', '.join(batch)}."
                )
            images = batch["pixel_values"].repeat_interleave(views.count, 0)
            repeated = {"pixel_values": images, "example_id": ids.repeat_interleave(views.count)}
            view_numbers = torch.arange(views.count).repeat(len(ids))
            batch = {"pixel_values": views.select(repeated, view_numbers)["pixel_values"]}
        return {name: value.to(self._device) if isinstance(value, Tensor) else value for name, value in batch.items()}


@contextmanager
def _naming_examples(positions: _Positions, ids: Tensor) -> Iterator[None]:
    """Add to an ``UnstorableError`` the ids of the examples that it is about."""
    try:
        yield
    except UnstorableError as error:
        wrong = positions.example_ids(ids)[error.positions].unique().tolist()
        more = f" and {len(wrong) - SHOWN_EXAMPLES} more" if len(wrong) > SHOWN_EXAMPLES else ""
        shown = ", ".join(map(str, wrong[:SHOWN_EXAMPLES]))
        raise StoreArgumentError(error.argument, f"{error.message} Ids of the examples: {shown}{more}.") from None


def _without_padding(values: Tensor, batch: dict[str, Any]) -> _Positions:
    """Return (N, V) values as they are, and of (N, L, V) values those at tokens, (P, V)."""
    if values.dim() == 2:
        return _Positions(values.cpu(), None)
    if values.dim() == 4:
        raise StoreError(
            f"teacher: it gives {tuple(values.shape)}, a class for each pixel. A store keeps (N, V) or (N, L, V)."
        )
    mask = token_mask(batch)
    if mask is None:
        raise StoreError("attention_mask: missing in the batch; it tells which tokens of a sequence are padding.")
    return _Positions(values[mask].cpu(), mask.sum(-1).cpu().numpy())


def _ascending_ids(examples: Examples) -> Tensor:
    """Return the ids of all examples, ascending, after checking that each occurs once."""
    ids = examples.ids.sort().values
    if len(ids) == 0 or bool((ids[1:] == ids[:-1]).any()):
        raise StoreArgumentError("examples", f"expected at least one, each once, got {len(ids)}.")
    return ids


def _check_what_is_there(there: Sequence[Shard], expected: Sequence[Shard], description: StoreDescription) -> None:
    """Check that every shard in the folder is part of this store, and that none is missing if version 1 wrote them."""
    for shard in there:
        shard.is_whole(description)
    if description.version == 1 and not all(shard.is_whole(description) for shard in expected):
        raise StoreError(
            f"{expected[0].storage}: was begun by an earlier version of Limbeck, which looked at {LOADED_EXAMPLES} examples to "
            "know the data again. Whether the shards that are missing belong to the same data cannot be told. Remove the "
            "folder and build the store again."
        )


def _describe(
    runner: _TeacherRunner,
    ids: Tensor,
    codec: Codec,
    shard_rows: int | None,
    class_names: Sequence[str] | None,
    vocabulary: str | None,
    version: Version,
) -> tuple[Codec, StoreDescription]:
    """Return the codec with all of its settings, and the description of the store, after running the first example."""
    runner.check_logits(ids[:CHECKED])
    first = runner.logits_of_one(ids[:1])
    positions, classes = first.values.shape
    if runner.layer is not None and isinstance(codec, Hidden):
        codec = replace(codec, size=runner.layer.in_features)
    if version < 3 and isinstance(codec, TopK):
        codec = replace(codec, rests=False)
    if class_names is not None and len(class_names) != classes:
        raise StoreArgumentError(
            "class_names", f"the teacher has {classes} output columns, got {len(class_names)} names."
        )
    if class_names is not None:
        ClassNames(tuple(class_names), "class_names")  # each name is that of one class
    if runner.views is not None and first.token_counts is not None:
        raise StoreArgumentError("views", "these examples are sequences, and views are of images.")
    view_count = runner.views.count if runner.views else 1
    example_bytes = max(1.0, codec.payload_bytes(classes) * positions * view_count)
    description = StoreDescription(
        version=version,
        codec=codec_settings(codec),
        classes=classes,
        class_names=None if class_names is None or version == 1 else tuple(class_names),
        vocabulary=vocabulary,
        rows=len(ids),
        shard_rows=shard_rows or max(1, int(SHARD_BYTES // example_bytes)),
        tokens=first.token_counts is not None,
        views=runner.views,
        head="" if runner.layer is None else output_layer_checksum(runner.layer),
        teacher=fingerprint_of_model(runner.module),
        data=fingerprint_of_examples(runner.examples, version),
    )
    return codec, description


def _vocabulary(teacher: nn.Module, tokenizer: Any) -> str | None:
    """Return the fingerprint of the tokens that the teacher's columns stand for, if that is known."""
    if tokenizer is None and token_columns(teacher) is None:
        return None
    tokens = saved_tokens(teacher) if tokenizer is None else tokens_of(tokenizer)
    return None if tokens is None else fingerprint_of_tokens(tokens)


def _shard_columns(
    runner: _TeacherRunner, batches: Sequence[Tensor], codec: Codec, generator: torch.Generator
) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
    """Return the columns of the examples in some batches of ids, and the examples' token counts."""
    parts: list[dict[str, np.ndarray]] = []
    counts: list[np.ndarray] = []
    for ids in batches:
        positions = runner.stored_values(ids)
        with _naming_examples(positions, ids):
            parts.append(codec.encode(positions.values, generator))
        if positions.token_counts is not None:
            counts.append(positions.token_counts)
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return columns, np.concatenate(counts) if counts else None


def _generator(seed: int, shard: Shard) -> torch.Generator:
    """Return the source of random numbers of a shard, which does not depend on the shards that were written before."""
    return torch.Generator().manual_seed(xxhash.xxh3_64_intdigest(f"{seed} {shard.start}".encode()) >> 1)

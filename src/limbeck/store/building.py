"""Building a store: the teacher is run over the examples once, and its outputs are written to the disk."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xxhash
from torch import Tensor, nn

from limbeck.data import Examples, FixedViews
from limbeck.errors import StoreError
from limbeck.models import saved_tokens, token_columns, tokens_of
from limbeck.outputs import ClassNames, fingerprint_of_tokens
from limbeck.store.codec_base import Codec
from limbeck.store.codecs import CODECS, Hidden, codec_settings
from limbeck.store.description import VERSION, StoreDescription, Version
from limbeck.store.errors import StoreArgumentError
from limbeck.store.fingerprints import LOADED_EXAMPLES, fingerprint_of_examples, fingerprint_of_model
from limbeck.store.output_layer import (
    find_output_layer,
    has_output_layer,
    output_layer_checksum,
    write_output_layer,
)
from limbeck.store.running import TeacherRunner, naming_examples, size_line
from limbeck.store.shards import Shard, shards_with_manifest, split_into_shards
from limbeck.store.sparse_codecs import Sampled, TopK
from limbeck.store.storage import open_storage

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
        examples: what to run the teacher on. Of a sequence, every token with an ``attention_mask`` of 1 is stored. Of logits
            (N, V, H, W), every pixel is stored, at the teacher's own resolution.
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
        StoreError: the folder holds another store, or one that an earlier version began; the teacher gives logits of pixels
            in several sizes; or the disk is full.
    """
    from tqdm import tqdm

    start = time.perf_counter()
    _check_arguments(teacher, examples, codec, views, batch_size, shard_rows, rank, world_size)
    storage = open_storage(folder)
    ids = _ascending_ids(examples)
    layer = find_output_layer(teacher) if isinstance(codec, Hidden) else None
    runner = TeacherRunner(teacher, examples, views, layer)
    there = shards_with_manifest(storage) if storage.exists() else []
    version = there[0].manifest.description.version if there else VERSION
    vocabulary = _vocabulary(teacher, tokenizer) if version > 2 else None
    codec, description = _describe(runner, ids, codec, shard_rows, class_names, vocabulary, version)
    all_shards = split_into_shards(storage, len(ids), description.shard_rows)
    _check_what_is_there(there, all_shards, description)
    storage.create_folder()
    if runner.layer is not None and rank == 0 and not has_output_layer(storage, description.head):
        write_output_layer(storage, runner.layer)
    written = found = 0
    shards = all_shards[rank::world_size]
    for shard in tqdm(shards, desc=progress, delay=1.0, leave=False, disable=progress is None):
        if shard.is_whole(description):
            found += 1
            continue
        rows = ids[shard.start : shard.stop]
        columns, token_counts = _shard_columns(
            runner, rows.split(batch_size), codec, _generator(seed, shard), description
        )
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
    runner: TeacherRunner,
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
    positions, classes = len(first.values), first.width
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
    size = runner.image_size(ids[:1]) if first.pixels else None
    if first.pixels != size and isinstance(codec, TopK | Sampled):
        raise StoreArgumentError(
            "format",
            f"{codec.name} keeps a few classes of each pixel, and the teacher's {size_line(first.pixels)} logits are "
            f"interpolated to images of {size_line(size)} before their softmax. Store dense.",
        )
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
        pixels=first.pixels,
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
    runner: TeacherRunner,
    batches: Sequence[Tensor],
    codec: Codec,
    generator: torch.Generator,
    description: StoreDescription,
) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
    """Return the columns of the examples in some batches of ids, and the examples' token counts."""
    parts: list[dict[str, np.ndarray]] = []
    counts: list[np.ndarray] = []
    for ids in batches:
        positions = runner.stored_values(ids)
        if positions.pixels != description.pixels:
            raise StoreError(
                f"examples: the teacher gives {size_line(positions.pixels)} logits for example {int(ids[0])}, and "
                f"{size_line(description.pixels)} for the first. Resize all images to one size."
            )
        for part, values in positions.parts():
            with naming_examples(positions, ids, part):
                parts.append(codec.encode(values, generator))
        if positions.token_counts is not None:
            counts.append(positions.token_counts)
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return columns, np.concatenate(counts) if counts else None


def _generator(seed: int, shard: Shard) -> torch.Generator:
    """Return the source of random numbers of a shard, which does not depend on the shards that were written before."""
    return torch.Generator().manual_seed(xxhash.xxh3_64_intdigest(f"{seed} {shard.start}".encode()) >> 1)

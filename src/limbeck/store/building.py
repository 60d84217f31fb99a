"""Run the teacher over the examples once, and keep what it says."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xxhash
from torch import Tensor, nn

from limbeck.data import Examples, FixedViews
from limbeck.errors import StoreError
from limbeck.store.codecs import Codec, Hidden, spec_of
from limbeck.store.fingerprints import fingerprint_of_examples, fingerprint_of_model
from limbeck.store.output_layer import (
    FILE,
    check_head,
    checksum_of_output_layer,
    find_output_layer,
    inputs_of,
    write_output_layer,
)
from limbeck.store.shards import Description, shards_of
from limbeck.store.storage import open_storage
from limbeck.teachers.base import LiveTeacher

SHARD_BYTES = 128 << 20


@dataclass(frozen=True)
class Built:
    """What one process did."""

    description: Description
    written: int
    """Shards."""
    found: int
    """Shards that were whole already."""
    seconds: float


def build_store(
    teacher: nn.Module,
    examples: Examples,
    folder: str | Path,
    codec: Codec,
    *,
    views: FixedViews | None = None,
    batch_size: int = 256,
    shard_rows: int | None = None,
    seed: int = 0,
    rank: int = 0,
    world: int = 1,
    progress: str | None = None,
) -> Built:
    """Write the shards that are missing; run it again after an interruption and it goes on.

    Shard k is written by process k mod ``world``, from its own rows alone, so several processes share nothing and need not wait
    for each other, and what an interrupted build leaves is completed to the same bytes.

    Args:
        teacher: a module, run as ``LiveTeacher`` runs it.
        examples: what to run it on. Of sequences every token that the ``attention_mask`` does not call padding is kept.
        folder: where to; or a URL that fsspec knows, to which each shard is sent when it is whole.
        codec: what to keep.
        views: of each image, where the student's inputs will be augmented; by default the image as it is.
        batch_size: examples at a time; a batch does not cross shards.
        shard_rows: examples in a shard; by default as many as make 128 MB.
        seed: for formats that draw.
        rank: which process this is.
        world: how many there are.
        progress: the title of a progress bar.

    Raises:
        StoreError: the folder holds the store of something else; the teacher's outputs do not fit the format; the disk is full.
    """
    from tqdm import tqdm

    place, live, started = open_storage(folder), LiveTeacher(teacher), time.perf_counter()
    device = next((parameter.device for parameter in teacher.parameters()), torch.device("cpu"))
    ids = examples.ids.sort().values
    if len(ids) == 0 or bool((ids[1:] == ids[:-1]).any()):
        raise StoreError(f"examples: expected at least one, each once, got {len(ids)}.")
    head = find_output_layer(teacher) if isinstance(codec, Hidden) else None
    with nullcontext([]) if head is None else inputs_of(head) as seen:
        first, lengths = _positions(live, _batch(examples, ids[:1], device))
    classes = first.shape[-1]
    if head is not None and isinstance(codec, Hidden):
        codec = replace(codec, size=head.in_features)
        check_head(head, seen[-1].reshape(-1, head.in_features)[: len(first)], first.to(device))
    if views is not None and lengths is not None:
        raise StoreError("views: these examples are sequences, and views are of images.")
    example = max(1.0, codec.payload(classes) * len(first) * (views.count if views else 1))
    description = Description(
        codec=spec_of(codec),
        classes=classes,
        rows=len(ids),
        shard_rows=shard_rows or max(1, int(SHARD_BYTES // example)),
        tokens=lengths is not None,
        views=views,
        head="" if head is None else checksum_of_output_layer(head),
        teacher=fingerprint_of_model(teacher),
        data=fingerprint_of_examples(examples),
    )
    place.prepare()
    if head is not None and rank == 0 and place.size(FILE) is None:
        write_output_layer(place, head)
    written = found = 0
    mine = shards_of(place, len(ids), description.shard_rows)[rank::world]
    for shard in tqdm(mine, desc=progress, delay=1.0, leave=False, disable=progress is None):
        if shard.is_whole(description):
            found += 1
            continue
        rows = ids[shard.start : shard.stop]
        # Drawn from the shard's own place, so that it does not matter what was drawn before.
        generator = torch.Generator().manual_seed(xxhash.xxh3_64_intdigest(f"{seed} {shard.start}".encode()) >> 1)
        parts, lengths = [], []
        for some in rows.split(batch_size):
            kept, positions = _positions(live, _batch(examples, some, device, views), head)
            parts.append(codec.encode(kept, generator))
            lengths.append(positions)
        columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        try:
            counted = np.concatenate(lengths) if description.tokens else None
            shard.write(rows.numpy(), columns, description, counted)
        except OSError as error:
            raise StoreError(
                f"{place / shard.name}: cannot be written ({error.strerror or error}); {found + written} of {len(mine)} shards "
                "are whole. Make room and build again to go on."
            ) from None
        written += 1
    return Built(description, written, found, time.perf_counter() - started)


def _batch(examples: Examples, rows: Tensor, device: torch.device, views: FixedViews | None = None) -> dict[str, Any]:
    """The inputs of some rows; all views of the first one, then those of the second, ..."""
    batch = examples.load(rows.tolist())
    if views is not None:
        images = batch["pixel_values"].repeat_interleave(views.count, 0)
        repeated = {"pixel_values": images, "example_id": rows.repeat_interleave(views.count)}
        batch = {"pixel_values": views.select(repeated, torch.arange(views.count).repeat(len(rows)))["pixel_values"]}
    return {name: value.to(device) if isinstance(value, Tensor) else value for name, value in batch.items()}


def _positions(
    teacher: LiveTeacher, batch: dict[str, Any], head: nn.Linear | None = None
) -> tuple[Tensor, np.ndarray | None]:
    """The logits, or what goes into the head, at every position that is not padding, (P, ...).

    And how many positions each example has, where it has tokens.
    """
    if head is None:
        values = teacher(batch).logits
    else:
        with inputs_of(head) as seen:
            teacher(batch)
        values = seen[-1]
    assert values is not None
    if values.dim() == 2:
        return values.cpu(), None
    if "attention_mask" not in batch:
        raise StoreError("attention_mask: missing in the batch; it tells which tokens of a sequence are padding.")
    mask = batch["attention_mask"].bool()
    return values[mask].cpu(), mask.sum(-1).cpu().numpy()

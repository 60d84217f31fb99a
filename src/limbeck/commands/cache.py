"""``limbeck cache``: what a teacher says of a config's training examples, kept on the disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from limbeck.config import Config
from limbeck.data import FixedViews, load_splits
from limbeck.distributed import process_state
from limbeck.errors import ConfigError
from limbeck.evaluation import predict_logits
from limbeck.run.teacher import obtain_teacher
from limbeck.store import (
    BuildResult,
    Codec,
    Dense,
    Hidden,
    Sampled,
    TeacherStore,
    TopK,
    build_store,
    measure_format,
)
from limbeck.store.codecs import NUMPY_DTYPES

SAMPLE = 256
"""Examples on which the formats are compared."""


def build_cache(
    config: Config, folder: str | Path | None = None, *, batch_size: int = 256
) -> tuple[BuildResult, list[tuple[str, ...]]]:
    """Build the store of a config's teacher over its training examples, or go on with it.

    Each process that ``accelerate launch`` starts writes its own shards.

    Args:
        config: the run; ``cache`` says what to keep. Its augmentation is left out, unless ``cache.views`` are asked for.
        folder: where to, or a URL; by default ``teacher.cache``.
        batch_size: examples at a time.

    Returns:
        What was done, and the formats compared on some of the examples.

    Raises:
        ConfigError, StoreError: a fault; nothing that was there before is lost.
    """
    where = folder or config.teacher.cache
    if where is None:
        raise ConfigError("teacher.cache: name the folder of the store there, or by --out.")
    views = views_of(config)
    splits = load_splits(config.data, seed=config.seed)
    teacher = obtain_teacher(config, splits, Path(config.out))
    state = process_state()
    teacher.to(state.device)
    codec = config.cache.codec(_temperature(config))
    built = build_store(
        teacher, splits.train, where, codec, views=views, batch_size=batch_size,
        shard_rows=config.cache.shard_rows, seed=config.seed, rank=state.process_index,
        world_size=state.num_processes, progress="Asking the teacher",
    )  # fmt: skip
    state.wait_for_everyone()
    some = splits.train.subset(torch.arange(min(SAMPLE, len(splits.train))))
    return built, format_rows(predict_logits(teacher, some), codec, config)


def views_of(config: Config) -> FixedViews | None:
    """The views of each example that a config asks to store.

    Raises:
        ConfigError: several views, and no augmentation that makes them.
    """
    if config.cache.views == 1:
        return None
    view = config.data.augmentation
    if view.mixup:
        raise ConfigError(
            "data.augmentation.mixup: mixes examples anew in every batch, so a teacher cannot be asked before."
        )
    try:
        return FixedViews(config.cache.views, view.shift, view.flip, config.seed)
    except ValueError as error:
        raise ConfigError(f"cache.{error}") from None


def _temperature(config: Config) -> float:
    """Return the temperature that a store is built for: the distillation's, or 1 if a policy changes it."""
    return config.distillation.target_temperature or 1.0


def format_rows(logits: Tensor, chosen: Codec, config: Config) -> list[tuple[str, ...]]:
    """The formats compared on the same logits, as a table: header, then one row for each; the chosen one first."""
    others: list[Codec] = [Dense(dtype) for dtype in NUMPY_DTYPES]
    others += [replace(config.cache, format=name).codec(_temperature(config)) for name in ("topk", "sampled")]
    rows: list[tuple[str, ...]] = [("format", "bytes / example", "payload", "mean |Δ log p|", "largest")]
    first = [] if isinstance(chosen, Hidden) else [chosen]  # hidden states are not logits
    for codec in dict.fromkeys([*first, *others]):
        quality = measure_format(codec, logits)
        errors = "unbiased", ""
        if quality.mean_error is not None:
            errors = f"{quality.mean_error:.1e}", f"{quality.largest_error:.1e}"
        rows.append((str(codec), f"{quality.stored_bytes:.0f}", f"{quality.payload_bytes:.1f}", *errors))
    return rows


def store_rows(folder: str | Path) -> list[tuple[str, ...]]:
    """What there is to know of a store, as a table."""
    store = TeacherStore(folder)
    told = store.description
    views = told.views.count if told.views else 1
    payload = store.codec.payload_bytes(told.classes) * views
    each = store.bytes / len(store)
    return [
        ("of", "value"),
        ("format", str(store.codec)),
        ("examples", f"{len(store):,}"),
        *([("views", f"{views} of each, shift {told.views.shift}, flip {told.views.flip}")] if told.views else []),
        ("classes", f"{told.classes:,}"),
        ("shards", f"{len(store.shards)} of {told.shard_rows:,} examples"),
        ("bytes", f"{store.bytes:,}"),
        ("bytes / example", f"{each:.1f}, of which {payload:.1f} payload (+{100 * (each / payload - 1):.1f} %)"),
        ("teacher", told.teacher),
        ("data", told.data),
    ]


def cost_rows(folder: str | Path) -> list[tuple[str, ...]]:
    """What the other formats would take for the same data: header, then one row for each."""
    store = TeacherStore(folder)
    classes, count = store.description.classes, len(store)
    codecs: list[Codec] = [*(Dense(dtype) for dtype in NUMPY_DTYPES), *(TopK(k, (2.0,)) for k in (8, 64)), Sampled(12)]
    rows = [("format", "bytes / example", "for all, MB")]
    for codec in codecs:
        payload = codec.payload_bytes(classes)
        rows.append((str(codec), f"{payload:.1f}", f"{payload * count / 1e6:.1f}"))
    return rows


def export_parquet(folder: str | Path, out: Path) -> None:
    """All shards as one Parquet file, for every other tool."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    from limbeck.atomic_files import atomic_write

    store, writer = TeacherStore(folder), None
    with atomic_write(out) as aside:
        for shard in store.shards:
            with (
                pa.memory_map(str(store.storage.fetch(shard.name, shard.manifest.checksum))) as file,
                pa.ipc.open_stream(file) as stream,
            ):
                table = stream.read_all().add_column(0, "id", [shard.ids])
            writer = writer or parquet.ParquetWriter(aside, table.schema, compression="zstd")
            writer.write_table(table)
        if writer is not None:
            writer.close()

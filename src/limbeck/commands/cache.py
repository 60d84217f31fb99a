"""``limbeck cache``: what a teacher says of a config's training examples, kept on the disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from limbeck.config import CacheConfig, Config
from limbeck.data import FixedViews, load_splits
from limbeck.distributed import process_state
from limbeck.errors import ConfigError
from limbeck.evaluation import predict_logits
from limbeck.run.teacher import obtain_teacher
from limbeck.store import Built, Codec, Dense, Hidden, Sampled, TeacherStore, TopK, build_store

SAMPLE = 256
"""Examples on which the formats are compared."""


def build_cache(
    config: Config, folder: str | Path | None = None, *, batch_size: int = 256
) -> tuple[Built, list[tuple[str, ...]]]:
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
    codec = codec_of(config.cache, config)
    built = build_store(
        teacher, splits.train, where, codec, views=views, batch_size=batch_size,
        shard_rows=config.cache.shard_rows, seed=config.seed, rank=state.process_index,
        world=state.num_processes, progress="Asking the teacher",
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


def codec_of(cache: CacheConfig, config: Config) -> Codec:
    """The codec that a config asks for."""
    if cache.format == "dense":
        return Dense(cache.dtype)
    if cache.format == "hidden":
        return Hidden(cache.dtype)
    t = config.distillation.target_temperature or 1.0
    if cache.format == "sampled":
        return Sampled(cache.draws, t)
    temperatures = [t] if cache.temperatures is None else cache.temperatures
    return TopK(
        cache.k,
        tuple(sorted({t for t in temperatures if t != 1})),
        "float32" if cache.dtype == "float32" else "float16",
    )


@dataclass(frozen=True)
class Quality:
    """What a format keeps of some logits."""

    bytes: float
    """At a position, as stored."""
    payload: float
    """The same, were nothing rounded up."""
    mean_error: float | None
    """Expected |error of log p| under the teacher, over what is kept; None for draws."""
    largest_error: float | None


def quality_of(codec: Codec, logits: Tensor) -> Quality:
    """Encode, decode, compare log-probabilities at T = 1."""
    classes = logits.shape[-1]
    stored = codec.encode(logits, torch.Generator().manual_seed(0))
    output = codec.decode(stored, classes)
    size = sum(column.nbytes for column in stored.values()) / len(logits)
    truth = logits.double().log_softmax(-1)
    if output.logits is not None:
        got = output.logits.double().log_softmax(-1)
    elif output.targets is not None and output.targets.log_probs is not None:
        got, truth = output.targets.log_probs.double(), truth.gather(-1, output.targets.ids)
    else:
        return Quality(size, codec.payload(classes), None, None)
    error = (got - truth).abs().masked_fill(truth.isneginf(), 0.0)
    return Quality(size, codec.payload(classes), (truth.exp() * error).sum(-1).mean().item(), error.max().item())


def format_rows(logits: Tensor, chosen: Codec, config: Config) -> list[tuple[str, ...]]:
    """The formats compared on the same logits, as a table: header, then one row for each; the chosen one first."""
    cache = config.cache
    others = [Dense(dtype) for dtype in Dense.WIDTHS]
    others += [codec_of(cache.model_copy(update={"format": name}), config) for name in ("topk", "sampled")]
    rows: list[tuple[str, ...]] = [("format", "bytes / example", "payload", "mean |Δ log p|", "largest")]
    first = [] if isinstance(chosen, Hidden) else [chosen]  # hidden states are not logits
    for codec in dict.fromkeys([*first, *others]):
        quality = quality_of(codec, logits)
        errors = "unbiased", ""
        if quality.mean_error is not None:
            errors = f"{quality.mean_error:.1e}", f"{quality.largest_error:.1e}"
        rows.append((str(codec), f"{quality.bytes:.0f}", f"{quality.payload:.1f}", *errors))
    return rows


def store_rows(folder: str | Path) -> list[tuple[str, ...]]:
    """What there is to know of a store, as a table."""
    store = TeacherStore(folder)
    told = store.description
    views = told.views.count if told.views else 1
    payload = store.codec.payload(told.classes) * views
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
    codecs: list[Codec] = [*(Dense(dtype) for dtype in Dense.WIDTHS), *(TopK(k, (2.0,)) for k in (8, 64)), Sampled(12)]
    rows = [("format", "bytes / example", "for all, MB")]
    for codec in codecs:
        payload = codec.payload(classes)
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
                pa.memory_map(str(store.place.fetch(shard.name, shard.manifest.checksum))) as file,
                pa.ipc.open_stream(file) as stream,
            ):
                table = stream.read_all().add_column(0, "id", [shard.ids])
            writer = writer or parquet.ParquetWriter(aside, table.schema, compression="zstd")
            writer.write_table(table)
        if writer is not None:
            writer.close()

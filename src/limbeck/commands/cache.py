"""``limbeck cache``: store a teacher's outputs for a config's training examples, and describe such a store."""

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
from limbeck.report import Table
from limbeck.run.teacher import load_or_train_teacher
from limbeck.store import Built, Codec, Dense, Hidden, Sampled, TeacherStore, TopK, build_store

SAMPLE = 256
"""The number of examples on which the formats are compared."""


def build_cache(config: Config, folder: str | Path | None = None, *, batch_size: int = 256) -> tuple[Built, Table]:
    """Build the store of a config's teacher over its training examples, or continue a store that was begun.

    Each process that ``accelerate launch`` starts writes its own shards. After an error, nothing that was stored before
    is lost.

    Args:
        config: the run; ``cache`` says what to keep. Without ``cache.views`` the augmentation is not used.
        folder: the folder or URL of the store; None for ``teacher.cache``.
        batch_size: examples in one batch.

    Returns:
        What was done, and a table of the formats compared on some of the examples.

    Raises:
        ConfigError: no folder is named, or the teacher or the views cannot be used.
        StoreError: the folder holds the store of something else, or cannot be written.
        DataError: the data cannot be read.
        ModelError: the teacher cannot be built or loaded.
    """
    destination = folder or config.teacher.cache
    if destination is None:
        raise ConfigError("teacher.cache: name the folder of the store there, or by --out.")
    views = views_of(config)
    splits = load_splits(config.data, seed=config.seed)
    teacher = load_or_train_teacher(config, splits, Path(config.out))
    state = process_state()
    teacher.to(state.device)
    codec = codec_of(config.cache, config)
    built = build_store(
        teacher, splits.train, destination, codec, views=views, batch_size=batch_size,
        shard_rows=config.cache.shard_rows, seed=config.seed, rank=state.process_index,
        world=state.num_processes, progress="Asking the teacher",
    )  # fmt: skip
    state.wait_for_everyone()
    some = splits.train.subset(torch.arange(min(SAMPLE, len(splits.train))))
    return built, formats_table(predict_logits(teacher, some), codec, config)


def views_of(config: Config) -> FixedViews | None:
    """Return the views of each example that a config asks to store.

    Args:
        config: the run.

    Returns:
        The views, or None for one view of each example, as it is.

    Raises:
        ConfigError: several views are asked for, and the augmentation makes none that can be stored.
    """
    if config.cache.views == 1:
        return None
    augmentation = config.data.augmentation
    if augmentation.mixup:
        raise ConfigError(
            "data.augmentation.mixup: mixes other examples in every batch, so the teacher cannot be asked beforehand."
        )
    try:
        return FixedViews(config.cache.views, augmentation.shift, augmentation.flip, config.seed)
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


def formats_table(logits: Tensor, chosen: Codec, config: Config) -> Table:
    """Compare the formats on the same logits.

    Args:
        logits: (N, V), the teacher's.
        chosen: the format that the config asks for.
        config: the run; ``cache`` has the settings of the other formats.

    Returns:
        A header, then one row for each format, the chosen one first.
    """
    cache = config.cache
    others = [Dense(dtype) for dtype in Dense.WIDTHS]
    others += [codec_of(cache.model_copy(update={"format": name}), config) for name in ("topk", "sampled")]
    rows: Table = [("format", "bytes / example", "payload", "mean |Δ log p|", "largest")]
    first = [] if isinstance(chosen, Hidden) else [chosen]  # hidden states are not logits
    for codec in dict.fromkeys([*first, *others]):
        quality = quality_of(codec, logits)
        errors = "unbiased", ""
        if quality.mean_error is not None:
            errors = f"{quality.mean_error:.1e}", f"{quality.largest_error:.1e}"
        rows.append((str(codec), f"{quality.bytes:.0f}", f"{quality.payload:.1f}", *errors))
    return rows


def store_table(folder: str | Path) -> Table:
    """Describe a store.

    Args:
        folder: the folder or URL of the store.

    Returns:
        A header, then one row for each property of the store.

    Raises:
        StoreError: the store cannot be read.
    """
    store = TeacherStore(folder)
    description = store.description
    views, view_rows = 1, []
    if description.views is not None:
        views = description.views.count
        shown = f"{views} of each, shift {description.views.shift}, flip {description.views.flip}"
        view_rows = [("views", shown)]
    payload = store.codec.payload(description.classes) * views
    each = store.bytes / len(store)
    return [
        ("property", "value"),
        ("format", str(store.codec)),
        ("examples", f"{len(store):,}"),
        *view_rows,
        ("classes", f"{description.classes:,}"),
        ("shards", f"{len(store.shards)} of {description.shard_rows:,} examples"),
        ("bytes", f"{store.bytes:,}"),
        ("bytes / example", f"{each:.1f}, of which {payload:.1f} payload (+{100 * (each / payload - 1):.1f} %)"),
        ("teacher", description.teacher),
        ("data", description.data),
    ]


def sizes_table(folder: str | Path) -> Table:
    """Say how large a store would be in other formats.

    Args:
        folder: the folder or URL of the store.

    Returns:
        A header, then one row for each format.

    Raises:
        StoreError: the store cannot be read.
    """
    store = TeacherStore(folder)
    classes, count = store.description.classes, len(store)
    codecs: list[Codec] = [*(Dense(dtype) for dtype in Dense.WIDTHS), *(TopK(k, (2.0,)) for k in (8, 64)), Sampled(12)]
    rows: Table = [("format", "bytes / example", "for all, MB")]
    for codec in codecs:
        payload = codec.payload(classes)
        rows.append((str(codec), f"{payload:.1f}", f"{payload * count / 1e6:.1f}"))
    return rows


def export_parquet(folder: str | Path, out: Path) -> None:
    """Write all shards of a store as one Parquet file, for other tools.

    Args:
        folder: the folder or URL of the store.
        out: the Parquet file to write.

    Raises:
        StoreError: the store cannot be read.
    """
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

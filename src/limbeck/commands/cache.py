"""``limbeck cache``: store a teacher's outputs for a config's training examples, and describe such a store."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from limbeck.commands.opening import open_and_tell
from limbeck.config import Config
from limbeck.data import FixedViews
from limbeck.distributed import process_state
from limbeck.errors import ArgumentError, ConfigError
from limbeck.evaluation import batch_of, rows_of
from limbeck.report import Table
from limbeck.run.teacher import as_read_by, check_has_logits
from limbeck.run.training import with_temperature
from limbeck.store import BuildResult, Codec, Dense, Hidden, Sampled, TeacherStore, TopK, build_store, measure_format
from limbeck.store.codecs import NUMPY_DTYPES
from limbeck.store.description import StoreDescription
from limbeck.tasks import has_numbers, task_named

SAMPLE = 256
SAMPLE_OF_MANY = 8
"""The number of examples on which the formats are compared, and the same of examples with several positions, such as tokens."""


def build_cache(
    config: Config, folder: str | Path | None = None, *, batch_size: int = 256
) -> tuple[BuildResult, Table]:
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
    codec = config.cache.codec(_temperature(config))
    if config.distillation.temperature == "auto":
        config = with_temperature(config, config.search.temperatures[0])
    keeps_classes = config.cache.format in ("topk", "sampled")
    needs = f"cache build (cache.format: {config.cache.format}; dense serves all tasks)" if keeps_classes else None
    opened, teacher = open_and_tell(config, Path(config.out), live_teacher=True, builds_store=True, needs_softmax=needs)
    splits, task = opened.splits, task_named(opened.splits.task)
    assert isinstance(teacher, nn.Module)
    if has_numbers(task) and codec == Dense():
        codec = Dense("float32")  # numbers are kept exactly, unless another dtype is asked for
    check_has_logits(teacher, "cache build")
    state = process_state()
    teacher.to(state.device)
    is_tokens = task.unit == "token"
    if task.unit != "example":
        batch_size = batch_of(teacher, splits.train)
    built = build_store(
        teacher, as_read_by(teacher, splits.train), destination, codec, views=views, batch_size=batch_size,
        shard_rows=config.cache.shard_rows, seed=config.seed, rank=state.process_index,
        world_size=state.num_processes, progress="Asking the teacher",
        class_names=splits.output_names or None, tokenizer=splits.train.tokenizer if is_tokens else None,
    )  # fmt: skip
    state.wait_for_everyone()
    most = SAMPLE if task.unit == "example" else SAMPLE_OF_MANY
    some = splits.train.subset(torch.arange(min(most, len(splits.train))))
    logits = rows_of(teacher, some)[0]
    if task.family != "softmax":
        return built, _bytes_table(logits.shape[1], codec)
    return built, formats_table(logits, codec, config, _position(built.description))


def views_of(config: Config) -> FixedViews | None:
    """Return the views of each example that a config asks to store.

    Args:
        config: the run.

    Returns:
        The views, or None for one view of each example, as it is.

    Raises:
        ConfigError: the augmentation mixes examples, or makes no views that can be stored.
    """
    augmentation = config.data.augmentation
    if augmentation.mixes:
        name = "mixup" if augmentation.mixup else "cutmix"
        raise ConfigError(
            f"data.augmentation.{name}: mixes other examples in every batch, so the teacher cannot be asked beforehand."
        )
    if config.cache.views == 1:
        return None
    try:
        return FixedViews(config.cache.views, augmentation.shift, augmentation.flip, config.seed)
    except ArgumentError as error:
        raise ConfigError(f"cache.{error.argument}: {error.message}") from None


def _temperature(config: Config) -> float:
    """Return the temperature that a store is built for: the distillation's, or 1 if a policy changes it."""
    return config.distillation.target_temperature or 1.0


def formats_table(logits: Tensor, chosen: Codec, config: Config, position: str = "example") -> Table:
    """Compare the formats on the same logits.

    Args:
        logits: (N, V), the teacher's.
        chosen: the format that the config asks for.
        config: the run; ``cache`` has the settings of the other formats.
        position: what has logits of its own, such as "example" or "token".

    Returns:
        A header, then one row for each format, the chosen one first.
    """
    others: list[Codec] = [Dense(dtype) for dtype in NUMPY_DTYPES]
    others += [replace(config.cache, format=name).codec(_temperature(config)) for name in ("topk", "sampled")]
    rows: Table = [("format", f"bytes / {position}", "mean |Δ log p|", "largest")]
    first = [] if isinstance(chosen, Hidden) else [chosen]  # hidden states are not logits
    others = [codec for codec in others if not isinstance(codec, TopK) or codec.k < logits.shape[-1]]
    for codec in dict.fromkeys([*first, *others]):
        quality = measure_format(codec, logits)
        errors = "unbiased", ""
        if quality.mean_error is not None:
            errors = f"{quality.mean_error:.1e}", f"{quality.largest_error:.1e}"
        rows.append((str(codec), f"{quality.payload_bytes:.1f}", *errors))
    return rows


def _bytes_table(width: int, chosen: Codec) -> Table:
    """Say how many bytes each dense format takes, where the outputs are no classes of a softmax."""
    codecs = dict.fromkeys([chosen, *map(Dense, NUMPY_DTYPES)])
    return [("format", "bytes / example"), *((str(codec), f"{codec.payload_bytes(width):.1f}") for codec in codecs)]


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
    view_rows = []
    if description.views is not None:
        shown = f"{description.views.count} of each, shift {description.views.shift}, flip {description.views.flip}"
        view_rows = [("views", shown)]
    pixel_rows = [] if description.pixels is None else [("pixels", "{} x {} of each".format(*description.pixels))]
    return [
        ("property", "value"),
        ("format", str(store.codec)),
        ("examples", f"{len(store):,}"),
        *view_rows,
        *pixel_rows,
        ("outputs", f"{description.classes:,}"),
        ("shards", f"{len(store.shards)} of {description.shard_rows:,} examples"),
        ("bytes", size_line(store)),
        ("teacher", description.teacher),
        ("data", description.data),
    ]


def size_line(store: TeacherStore) -> str:
    """Return how large a store's files are, and what of it is payload: the stored numbers, without ids and file headers.

    Args:
        store: the open store.
    """
    payload = store.codec.payload_bytes(store.description.classes)
    overhead = 100 * (store.bytes / (payload * store.positions) - 1)
    return f"{store.bytes:,} in all files: {payload:.1f} payload for each {_position(store.description)} (+{overhead:.1f} %)"


def _position(description: StoreDescription) -> str:
    """Return what has logits of its own in a store."""
    if description.tokens:
        return "token"
    if description.pixels is not None:
        return "pixel"
    return "example" if description.views is None else "view"


def sizes_table(folder: str | Path) -> Table:
    """Say how large the payload of a store would be in other formats.

    Args:
        folder: the folder or URL of the store.

    Returns:
        A header, then one row for each format.

    Raises:
        StoreError: the store cannot be read.
    """
    store = TeacherStore(folder)
    classes, count = store.description.classes, store.positions
    codecs: list[Codec] = [*map(Dense, NUMPY_DTYPES), *(TopK(k, (2.0,)) for k in (8, 64) if k < classes)]
    codecs += [Sampled(12)] if classes > 1 else []
    rows: Table = [("format", f"bytes / {_position(store.description)}", "for all, MB")]
    for codec in codecs:
        payload = codec.payload_bytes(classes)
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
                pa.memory_map(str(store.storage.fetch(shard.name, shard.manifest.checksum))) as file,
                pa.ipc.open_stream(file) as stream,
            ):
                table = stream.read_all().add_column(0, "id", [shard.ids])
            writer = writer or parquet.ParquetWriter(aside, table.schema, compression="zstd")
            writer.write_table(table)
        if writer is not None:
            writer.close()

"""A shard: some consecutive examples of a store, in an Arrow file and a manifest beside it.

    000000000000-000000065536.arrow   an Arrow stream with one record batch, whose columns are the codec's
    000000000000-000000065536.json    rows, the examples' ids, bytes, checksum, and the description of the store

The file names say which rows of the store a shard has. ``pyarrow`` and ``datasets.Dataset.from_file`` open the Arrow file. It
is written under a temporary name, flushed to the disk and renamed; then its manifest is written in the same way. A shard
without a manifest counts as missing. Nothing is unpickled.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from pydantic import ValidationError

from limbeck.atomic_files import durable_write
from limbeck.errors import StoreError
from limbeck.store.codec_base import Column
from limbeck.store.description import Manifest, StoreDescription
from limbeck.store.ids import decode_ids, encode_ids
from limbeck.store.storage import Storage, file_checksum, first_line

SHARD_FILE = re.compile(r"(\d{12})-(\d{12})\.(arrow|json)")
DESCRIPTION_KEY = b"limbeck"
"""The key of the store's description in the metadata of an Arrow file."""
ARROW_TYPES = {
    "float32": pa.float32(),
    "float16": pa.float16(),
    "uint16": pa.uint16(),
    "int8": pa.int8(),
    "uint8": pa.uint8(),
}


@dataclass(frozen=True)
class Shard:
    """The examples of a store from row ``start`` to row ``stop``, in the order of their ids."""

    storage: Storage
    start: int
    stop: int

    @property
    def name(self) -> str:
        """Return the name of the Arrow file."""
        return f"{self.start:012d}-{self.stop:012d}.arrow"

    @property
    def manifest_name(self) -> str:
        """Return the name of the manifest."""
        return self.name.replace(".arrow", ".json")

    @cached_property
    def manifest(self) -> Manifest:
        """Read the manifest.

        Raises:
            StoreError: it is missing or damaged.
        """
        location = self.storage.location(self.manifest_name)
        try:
            return Manifest.model_validate_json(self.storage.fetch(self.manifest_name).read_bytes())
        except FileNotFoundError:
            raise StoreError(
                f"{location}: missing, so this shard was never finished. Build the store again to go on."
            ) from None
        except (OSError, ValidationError, ValueError) as error:
            raise StoreError(f"{location}: cannot be read ({first_line(error)}).") from None

    @cached_property
    def ids(self) -> np.ndarray:
        """Return the ids of the examples, (rows,) int64, ascending.

        Raises:
            StoreError: the manifest is missing or damaged.
        """
        try:
            return decode_ids(self.manifest.ids, self.stop - self.start)
        except ValueError as error:
            raise StoreError(f"{self.storage.location(self.manifest_name)}: {error}.") from None

    def write(
        self,
        ids: np.ndarray,
        columns: Mapping[str, np.ndarray],
        description: StoreDescription,
        token_counts: np.ndarray | None = None,
    ) -> None:
        """Write the Arrow file, then the manifest, each of them whole.

        Args:
            ids: (rows,) the examples' ids, ascending.
            columns: the codec's columns, (positions, width). The views, tokens or pixels (row by row) of
                an example stand one after the other.
            description: the description of the store.
            token_counts: (rows,) the number of tokens of each example, for stores of sequences.

        Raises:
            StoreError: a column has another shape than the description says, or a file cannot be uploaded.
            OSError: a file cannot be written.
        """
        batch = _record_batch(columns, description, len(ids), token_counts)
        path = self.storage.folder / self.name
        with (
            durable_write(path) as temporary,
            pa.OSFile(str(temporary), "wb") as file,
            pa.ipc.new_stream(file, batch.schema) as stream,
        ):
            stream.write_batch(batch)
        manifest = Manifest(
            rows=len(ids),
            ids=encode_ids(ids),
            bytes=path.stat().st_size,
            checksum=file_checksum(path),
            description=description,
        )
        with durable_write(self.storage.folder / self.manifest_name) as temporary:
            text = json.dumps(manifest.model_dump(), sort_keys=True, indent=1) + "\n"
            temporary.write_text(text, encoding="utf-8")
        self.storage.publish(self.name)
        self.storage.publish(self.manifest_name)

    def map_columns(self) -> dict[str, np.ndarray]:
        """Open the Arrow file and return its columns, which are mapped into memory and not copied.

        Returns:
            The codec's columns, (positions, width). Stores of sequences also have "offsets", (rows + 1,): the tokens of
            example i stand from ``offsets[i]`` to ``offsets[i + 1]``.

        Raises:
            StoreError: the file is missing, cut short, or not what the manifest says.
        """
        location, description = self.storage.location(self.name), self.manifest.description
        columns = description.columns()
        schema, batch = self._read_batch()
        self._check_description(schema.metadata or {})
        expected = {column.name: _arrow_type(column, description) for column in columns}
        found = {field.name: field.type for field in schema}
        if found != expected:
            raise StoreError(f"{location}: has columns {found}, where its manifest means {expected}.")
        rows = self.stop - self.start
        if batch.num_rows != self.manifest.rows or batch.num_rows != rows:
            raise StoreError(f"{location}: has {batch.num_rows} rows, its name and manifest say {rows}.")
        try:
            return _numpy_columns(batch, columns, description, location)
        except (pa.ArrowException, ValueError) as error:
            raise StoreError(f"{location}: cannot be read ({first_line(error)}).") from None

    def _read_batch(self) -> tuple[pa.Schema, pa.RecordBatch]:
        """Return the schema and the record batch of the Arrow file, mapped into memory."""
        location = self.storage.location(self.name)
        try:
            path = self.storage.fetch(self.name, self.manifest.checksum)
            size = path.stat().st_size
            if size != self.manifest.bytes:
                raise StoreError(f"{location}: has {size} bytes, its manifest says {self.manifest.bytes}.")
            with pa.memory_map(str(path)) as file, pa.ipc.open_stream(file) as stream:
                return stream.schema, stream.read_next_batch()
        except FileNotFoundError:
            raise StoreError(f"{location}: missing, though its manifest is there.") from None
        except (OSError, pa.ArrowException, StopIteration) as error:
            raise StoreError(f"{location}: cannot be read ({first_line(error)}).") from None

    def _check_description(self, metadata: Mapping[bytes, bytes]) -> None:
        """Check that the Arrow file was written by the same build as its manifest."""
        location = self.storage.location(self.name)
        try:
            found = StoreDescription.model_validate_json(metadata[DESCRIPTION_KEY])
        except (KeyError, ValueError) as error:
            raise StoreError(f"{location}: has no readable description of its store ({first_line(error)}).") from None
        if differences := self.manifest.description.differences(found):
            raise StoreError(f"{location}: of another store than its manifest ({'; '.join(differences)}).")

    def find_faults(self, description: StoreDescription) -> list[str]:
        """Return everything that is wrong with the shard, after reading its whole file.

        Args:
            description: the description of the store that the shard should be part of.

        Returns:
            One line for each fault; empty if the shard is whole.
        """
        try:
            manifest = self.manifest
            if differences := description.differences(manifest.description):
                location = self.storage.location(self.manifest_name)
                return [f"{location}: of another store ({'; '.join(differences)})."]
            self.map_columns()
            _ = self.ids
        except StoreError as error:
            return list(error.faults)
        path = self.storage.fetch(self.name, manifest.checksum)
        found = file_checksum(path, manifest.checksum.partition(":")[0])
        if found == manifest.checksum:
            return []
        location = self.storage.location(self.name)
        return [f"{location}: its checksum is {found}, its manifest says {manifest.checksum}."]

    def is_whole(self, description: StoreDescription) -> bool:
        """Return True if both files are there and the Arrow file has its size; ``find_faults`` finds changed bytes.

        Args:
            description: the description of the store that the shard should be part of.

        Returns:
            False if the shard is missing or cut short.

        Raises:
            StoreError: the shard is part of another store, or its manifest is damaged.
        """
        size = self.storage.size(self.name)
        if size is None or self.storage.size(self.manifest_name) is None:
            return False
        if differences := description.differences(self.manifest.description):
            raise StoreError(
                f"{self.storage}: holds the store of something else ({'; '.join(differences)}). Choose another folder, or "
                "remove this one."
            )
        return size == self.manifest.bytes


def split_into_shards(storage: Storage, rows: int, shard_rows: int) -> Sequence[Shard]:
    """Return all shards that a store has when it is whole.

    Args:
        storage: where the store is.
        rows: the number of examples in the store.
        shard_rows: the number of examples in every shard but the last.

    Returns:
        The shards in the order of their rows. Their files need not exist.
    """
    return [Shard(storage, start, min(rows, start + shard_rows)) for start in range(0, rows, shard_rows)]


def shard_of_file(storage: Storage, name: str) -> Shard | None:
    """Return the shard that a file belongs to.

    Args:
        storage: where the file is.
        name: the name of the file.

    Returns:
        The shard, or None if the name is not that of a shard's file.
    """
    match = SHARD_FILE.fullmatch(name)
    return None if match is None else Shard(storage, int(match[1]), int(match[2]))


def shards_with_manifest(storage: Storage) -> list[Shard]:
    """Return the shards whose manifest is in a store, also those that the store should not have.

    Args:
        storage: where the store is.

    Returns:
        The shards in the order of their file names.

    Raises:
        StoreError: the files cannot be listed.
    """
    found = [shard_of_file(storage, name) for name in storage.names()]
    return [shard for shard, name in zip(found, storage.names(), strict=True) if shard and name == shard.manifest_name]


def _arrow_type(column: Column, description: StoreDescription) -> pa.DataType:
    """Return the Arrow type of a column: a list of numbers, inside lists of tokens, pixels or views if there are several."""
    numbers = pa.list_(ARROW_TYPES[column.dtype], column.width)
    if description.tokens:
        return pa.large_list(numbers)
    if description.pixels:
        numbers = pa.list_(numbers, description.pixel_count)
    return pa.list_(numbers, description.views.count) if description.views else numbers


def _record_batch(
    columns: Mapping[str, np.ndarray], description: StoreDescription, rows: int, token_counts: np.ndarray | None
) -> pa.RecordBatch:
    """Return the columns of a shard as Arrow arrays, with the store's description as metadata."""
    positions = rows * description.view_count * description.pixel_count
    if token_counts is not None:
        positions = int(token_counts.sum())
    arrays: dict[str, pa.Array] = {}
    for column in description.columns():
        values = np.ascontiguousarray(columns[column.name], dtype=column.dtype)
        if values.shape != (positions, column.width):
            raise StoreError(f"{column.name}: expected shape {(positions, column.width)}, got {values.shape}.")
        array = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), column.width)
        if token_counts is not None:
            offsets = np.concatenate([[0], np.cumsum(token_counts)]).astype(np.int64)
            array = pa.LargeListArray.from_arrays(pa.array(offsets), array)
        if description.pixels:
            array = pa.FixedSizeListArray.from_arrays(array, description.pixel_count)
        if description.views:
            array = pa.FixedSizeListArray.from_arrays(array, description.views.count)
        arrays[column.name] = array
    batch = pa.record_batch(list(arrays.values()), names=list(arrays))
    return batch.replace_schema_metadata({DESCRIPTION_KEY: json.dumps(description.model_dump(), sort_keys=True)})


def _numpy_columns(
    batch: pa.RecordBatch, columns: Sequence[Column], description: StoreDescription, location: str
) -> dict[str, np.ndarray]:
    """Return the arrays that ``_record_batch`` was given, after checking that Arrow's own structure is sound."""
    batch.validate(full=True)
    if any(column.null_count for column in batch.columns):
        raise StoreError(f"{location}: has nulls, where every number should be there.")
    arrays: dict[str, np.ndarray] = {}
    for column in columns:
        array = batch.column(column.name)
        if description.tokens:
            offsets, array = array.offsets.to_numpy(zero_copy_only=True), array.values
            if "offsets" in arrays and not np.array_equal(offsets, arrays["offsets"]):
                raise StoreError(f"{location}: its columns do not have the same tokens.")
            arrays["offsets"] = offsets
        for _ in filter(None, (description.views, description.pixels)):
            array = array.flatten()
        values = array.flatten().to_numpy(zero_copy_only=True)
        arrays[column.name] = values.reshape(len(array), column.width)
    return arrays

"""One shard: an Arrow stream file with one record batch, and a manifest beside it that says it is whole.

    000000000000-000000065536.arrow   the codec's columns; pyarrow or ``datasets.Dataset.from_file`` opens it
    000000000000-000000065536.json    rows, the examples' ids, bytes, checksum, and what the store is of

The names tell which rows of the store a shard has, so nothing has to be believed about where a file is. A shard is written
aside, durable_write and renamed, then its manifest; one without a manifest is not there. Nothing is unpickled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from limbeck.atomic_files import durable_write
from limbeck.data import FixedViews
from limbeck.errors import StoreError
from limbeck.store.codecs import Codec, Column, codec_from
from limbeck.store.ids import read_ids, write_ids
from limbeck.store.storage import Place, checksum, first_line

VERSION = 1
TYPES = {
    "float32": pa.float32(),
    "float16": pa.float16(),
    "uint16": pa.uint16(),
    "int8": pa.int8(),
    "uint8": pa.uint8(),
}
Count = Annotated[int, Field(ge=0, lt=2**48)]


class Description(BaseModel):
    """What a store is of; the same in every shard of it."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    version: Literal[1] = VERSION
    codec: dict[str, Any]
    classes: Annotated[int, Field(gt=0, lt=2**31)]
    rows: Count
    """Of the whole store."""
    shard_rows: Annotated[int, Field(gt=0, lt=2**48)]
    tokens: bool = False
    """An example has a position for each of its tokens, and not one."""
    views: FixedViews | None = None
    """Of each example, where it was augmented; None for one view as it is."""
    head: str = ""
    """Checksum of the last layer that is kept beside hidden states."""
    teacher: str
    """Fingerprint of its weights and config."""
    data: str
    """Fingerprint of the examples as the models get them."""

    def differences(self, other: Description) -> list[str]:
        """What of this description another does not share."""
        ours, theirs = self.model_dump(), other.model_dump()
        return [f"{name}: {theirs[name]} there, {ours[name]} here" for name in ours if ours[name] != theirs[name]]


class Manifest(BaseModel):
    """What is known of one shard's file."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    rows: Count
    ids: str
    """Of its examples, as ``ids.write_ids`` has them."""
    bytes: Count
    checksum: str
    description: Description


@dataclass(frozen=True)
class Shard:
    """Rows ``start`` to ``stop`` of the store in a place."""

    place: Place
    start: int
    stop: int

    @property
    def name(self) -> str:
        """Of its file."""
        return f"{self.start:012d}-{self.stop:012d}.arrow"

    @property
    def manifest_name(self) -> str:
        """Of the file beside it."""
        return self.name.replace(".arrow", ".json")

    @cached_property
    def manifest(self) -> Manifest:
        """What stands beside the shard.

        Raises:
            StoreError: it is missing or broken.
        """
        told = self.place / self.manifest_name
        try:
            return Manifest.model_validate_json(self.place.fetch(self.manifest_name).read_bytes())
        except FileNotFoundError:
            raise StoreError(
                f"{told}: missing, so this shard was never finished. Build the store again to go on."
            ) from None
        except (OSError, ValidationError, ValueError) as error:
            raise StoreError(f"{told}: cannot be read ({first_line(error)}).") from None

    @cached_property
    def ids(self) -> np.ndarray:
        """Of its examples, ascending.

        Raises:
            StoreError: the manifest is missing or broken.
        """
        try:
            return read_ids(self.manifest.ids, self.stop - self.start)
        except ValueError as error:
            raise StoreError(f"{self.place / self.manifest_name}: {error}.") from None

    def write(
        self,
        ids: np.ndarray,
        columns: Mapping[str, np.ndarray],
        description: Description,
        lengths: np.ndarray | None = None,
    ) -> None:
        """Write the shard, then its manifest, each whole; ``lengths`` are the examples' positions, where they have several."""
        views = description.views.count if description.views else 1
        positions = len(ids) * views if lengths is None else int(lengths.sum())
        arrays: dict[str, pa.Array] = {}
        for column in _columns(description):
            values = np.ascontiguousarray(columns[column.name], dtype=column.dtype)
            if values.shape != (positions, column.width):
                raise StoreError(f"{column.name}: expected shape {(positions, column.width)}, got {values.shape}.")
            array = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), column.width)
            if lengths is not None:
                offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
                array = pa.LargeListArray.from_arrays(pa.array(offsets), array)
            elif views > 1:
                array = pa.FixedSizeListArray.from_arrays(array, views)
            arrays[column.name] = array
        told = json.dumps(description.model_dump(), sort_keys=True)
        batch = pa.record_batch(list(arrays.values()), names=list(arrays)).replace_schema_metadata({"limbeck": told})
        path = self.place.folder / self.name
        with (
            durable_write(path) as aside,
            pa.OSFile(str(aside), "wb") as file,
            pa.ipc.new_stream(file, batch.schema) as stream,
        ):
            stream.write_batch(batch)
        manifest = Manifest(
            rows=len(ids),
            ids=write_ids(ids),
            bytes=path.stat().st_size,
            checksum=checksum(path),
            description=description,
        )
        with durable_write(self.place.folder / self.manifest_name) as aside:
            aside.write_text(json.dumps(manifest.model_dump(), sort_keys=True, indent=1) + "\n", encoding="utf-8")
        self.place.publish(self.name)
        self.place.publish(self.manifest_name)

    def open(self) -> dict[str, np.ndarray]:
        """Its columns, mapped from the file: the codec's (positions, width), and for tokens their ``offsets``.

        Raises:
            StoreError: the file is missing, cut short, or not what the manifest says.
        """
        manifest, told = self.manifest, self.place / self.name
        columns, description = _columns(manifest.description), manifest.description
        try:
            path = self.place.fetch(self.name, manifest.checksum)
            if path.stat().st_size != manifest.bytes:
                raise StoreError(f"{told}: has {path.stat().st_size} bytes, its manifest says {manifest.bytes}.")
            with pa.memory_map(str(path)) as file, pa.ipc.open_stream(file) as stream:
                schema, batch = stream.schema, stream.read_next_batch()
        except FileNotFoundError:
            raise StoreError(f"{told}: missing, though its manifest is there.") from None
        except (OSError, pa.ArrowException, StopIteration) as error:
            raise StoreError(f"{told}: cannot be read ({first_line(error)}).") from None
        expected = {c.name: _type_of(c, description) for c in columns}
        found = {field.name: field.type for field in schema}
        if found != expected:
            raise StoreError(f"{told}: has columns {found}, where its manifest means {expected}.")
        if batch.num_rows != manifest.rows or batch.num_rows != self.stop - self.start:
            raise StoreError(f"{told}: has {batch.num_rows} rows, its name and manifest say {self.stop - self.start}.")
        arrays: dict[str, np.ndarray] = {}
        try:
            batch.validate(full=True)
            if any(column.null_count for column in batch.columns):
                raise StoreError(f"{told}: has nulls, where every number should be there.")
            for column in columns:
                array = batch.column(column.name)
                if description.tokens:
                    offsets, array = array.offsets.to_numpy(zero_copy_only=True), array.values
                    if "offsets" in arrays and not np.array_equal(offsets, arrays["offsets"]):
                        raise StoreError(f"{told}: its columns do not have the same tokens.")
                    arrays["offsets"] = offsets
                elif description.views:
                    array = array.flatten()
                values = array.flatten().to_numpy(zero_copy_only=True)
                arrays[column.name] = values.reshape(len(array), column.width)
        except (pa.ArrowException, ValueError) as error:
            raise StoreError(f"{told}: cannot be read ({first_line(error)}).") from None
        return arrays

    def faults(self, description: Description | None = None) -> list[str]:
        """Everything that is wrong with the shard, its checksum included."""
        told = self.place / self.name
        try:
            manifest = self.manifest
            if description is not None and (apart := description.differences(manifest.description)):
                return [f"{self.place / self.manifest_name}: of another store ({'; '.join(apart)})."]
            self.open()
            _ = self.ids
        except StoreError as error:
            return list(error.faults)
        found = checksum(self.place.fetch(self.name, manifest.checksum), manifest.checksum.partition(":")[0])
        return (
            []
            if found == manifest.checksum
            else [f"{told}: its checksum is {found}, its manifest says {manifest.checksum}."]
        )

    def is_whole(self, description: Description) -> bool:
        """Whether it was written and has its size; what was flipped since, ``faults`` finds.

        Raises:
            StoreError: it is of another store.
        """
        size = self.place.size(self.name)
        if size is None or self.place.size(self.manifest_name) is None:
            return False
        if apart := description.differences(self.manifest.description):
            raise StoreError(
                f"{self.place}: holds the store of something else ({'; '.join(apart)}). Choose another folder, or remove "
                "this one."
            )
        return size == self.manifest.bytes


def _type_of(column: Column, description: Description) -> pa.DataType:
    kind = pa.list_(TYPES[column.dtype], column.width)
    if description.tokens:
        return pa.large_list(kind)
    return pa.list_(kind, description.views.count) if description.views else kind


def codec_of(description: Description) -> Codec:
    return codec_from(description.codec)


def shards_of(place: Place, rows: int, shard_rows: int) -> Sequence[Shard]:
    """All shards that a store of so many rows has."""
    return [Shard(place, start, min(rows, start + shard_rows)) for start in range(0, rows, shard_rows)]


def _columns(description: Description) -> list[Column]:
    return codec_of(description).columns(description.classes)

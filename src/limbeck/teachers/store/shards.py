"""One shard: an Arrow stream file with one record batch, and a manifest beside it that says it is whole.

    000000000000-000000065536.arrow   id, and the codec's columns; pyarrow or ``datasets.Dataset.from_file`` opens it
    000000000000-000000065536.json    rows, first and last id, bytes, checksum, and what the store is of

The names tell which rows of the store a shard has, so nothing has to be believed about where a file is. A shard is written
aside, flushed and renamed, then its manifest; one without a manifest is not there. Nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import xxhash
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from limbeck.errors import StoreError
from limbeck.files import flushed
from limbeck.teachers.store.codecs import Codec, Column, codec_from

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
    first_id: int
    last_id: int
    bytes: Count
    checksum: str
    description: Description


@dataclass(frozen=True)
class Shard:
    """Rows ``start`` to ``stop`` of a store in ``folder``."""

    folder: Path
    start: int
    stop: int

    @property
    def path(self) -> Path:
        return self.folder / f"{self.start:012d}-{self.stop:012d}.arrow"

    @property
    def manifest_path(self) -> Path:
        return self.path.with_suffix(".json")

    @cached_property
    def manifest(self) -> Manifest:
        """What stands beside the shard.

        Raises:
            StoreError: it is missing or broken.
        """
        try:
            return Manifest.model_validate_json(self.manifest_path.read_bytes())
        except FileNotFoundError:
            raise StoreError(
                f"{self.manifest_path}: missing, so this shard was never finished. Build the store again to go on."
            ) from None
        except (OSError, ValidationError, ValueError) as error:
            raise StoreError(f"{self.manifest_path}: cannot be read ({_first_line(error)}).") from None

    def write(
        self,
        ids: np.ndarray,
        columns: Mapping[str, np.ndarray],
        description: Description,
        lengths: np.ndarray | None = None,
    ) -> None:
        """Write the shard, then its manifest, each whole; ``lengths`` are the examples' positions, where they have several."""
        fields = [("id", pa.array(ids.astype(np.int64)))]
        positions = len(ids) if lengths is None else int(lengths.sum())
        for column in _columns(description):
            values = np.ascontiguousarray(columns[column.name], dtype=column.dtype)
            if values.shape != (positions, column.width):
                raise StoreError(f"{column.name}: expected shape {(positions, column.width)}, got {values.shape}.")
            array = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), column.width)
            if lengths is not None:
                offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
                array = pa.LargeListArray.from_arrays(pa.array(offsets), array)
            fields.append((column.name, array))
        told = json.dumps(description.model_dump(), sort_keys=True)
        batch = pa.record_batch([array for _, array in fields], names=[name for name, _ in fields])
        batch = batch.replace_schema_metadata({"limbeck": told})
        with (
            flushed(self.path) as aside,
            pa.OSFile(str(aside), "wb") as file,
            pa.ipc.new_stream(file, batch.schema) as stream,
        ):
            stream.write_batch(batch)
        manifest = Manifest(
            rows=len(ids),
            first_id=int(ids[0]),
            last_id=int(ids[-1]),
            bytes=self.path.stat().st_size,
            checksum=checksum(self.path),
            description=description,
        )
        with flushed(self.manifest_path) as aside:
            aside.write_text(json.dumps(manifest.model_dump(), sort_keys=True, indent=1) + "\n", encoding="utf-8")

    def open(self) -> dict[str, np.ndarray]:
        """Its columns, mapped from the file: ``id`` (rows,), the codec's (positions, width), and for tokens their ``offsets``.

        Raises:
            StoreError: the file is missing, cut short, or not what the manifest says.
        """
        manifest = self.manifest
        columns = _columns(manifest.description)
        try:
            if self.path.stat().st_size != manifest.bytes:
                raise StoreError(
                    f"{self.path}: has {self.path.stat().st_size} bytes, its manifest says {manifest.bytes}."
                )
            with pa.memory_map(str(self.path)) as file, pa.ipc.open_stream(file) as stream:
                schema, batch = stream.schema, stream.read_next_batch()
        except FileNotFoundError:
            raise StoreError(f"{self.path}: missing, though its manifest is there.") from None
        except (OSError, pa.ArrowException, StopIteration) as error:
            raise StoreError(f"{self.path}: cannot be read ({_first_line(error)}).") from None
        tokens = manifest.description.tokens
        expected = {"id": (pa.int64(), 0, False), **{c.name: (TYPES[c.dtype], c.width, tokens) for c in columns}}
        found = {field.name: _kind(field.type) for field in schema}
        if found != expected:
            raise StoreError(f"{self.path}: has columns {found}, where its manifest means {expected}.")
        if batch.num_rows != manifest.rows or batch.num_rows != self.stop - self.start:
            raise StoreError(
                f"{self.path}: has {batch.num_rows} rows, its name and manifest say {self.stop - self.start}."
            )
        try:
            batch.validate(full=True)
            if any(column.null_count for column in batch.columns):
                raise StoreError(f"{self.path}: has nulls, where every number should be there.")
            arrays = {"id": batch.column("id").to_numpy(zero_copy_only=True)}
            for column in columns:
                array = batch.column(column.name)
                if tokens:
                    offsets, array = array.offsets.to_numpy(zero_copy_only=True), array.values
                    if "offsets" in arrays and not np.array_equal(offsets, arrays["offsets"]):
                        raise StoreError(f"{self.path}: its columns do not have the same tokens.")
                    arrays["offsets"] = offsets
                values = array.flatten().to_numpy(zero_copy_only=True)
                arrays[column.name] = values.reshape(len(array), column.width)
        except (pa.ArrowException, ValueError) as error:
            raise StoreError(f"{self.path}: cannot be read ({_first_line(error)}).") from None
        ids = arrays["id"]
        if len(ids) and (ids[0] != manifest.first_id or ids[-1] != manifest.last_id or bool((np.diff(ids) <= 0).any())):
            raise StoreError(f"{self.path}: its ids do not ascend from {manifest.first_id} to {manifest.last_id}.")
        return arrays

    def faults(self, description: Description | None = None) -> list[str]:
        """Everything that is wrong with the shard, its checksum included."""
        try:
            manifest = self.manifest
            if description is not None and (apart := description.differences(manifest.description)):
                return [f"{self.manifest_path}: of another store ({'; '.join(apart)})."]
            self.open()
        except StoreError as error:
            return list(error.faults)
        found = checksum(self.path, manifest.checksum.partition(":")[0])
        return (
            []
            if found == manifest.checksum
            else [f"{self.path}: its checksum is {found}, its manifest says {manifest.checksum}."]
        )

    def is_whole(self, description: Description) -> bool:
        """Whether it was written and has its size; what was flipped since, ``faults`` finds.

        Raises:
            StoreError: it is of another store.
        """
        if not self.manifest_path.is_file() or not self.path.is_file():
            return False
        if apart := description.differences(self.manifest.description):
            raise StoreError(
                f"{self.folder}: holds the store of something else ({'; '.join(apart)}). Choose another folder, or remove "
                "this one."
            )
        return self.path.stat().st_size == self.manifest.bytes


def _kind(arrow_type: pa.DataType) -> tuple[pa.DataType, int, bool]:
    """The type of the numbers, how many there are at a position, and whether an example has several positions."""
    tokens = pa.types.is_large_list(arrow_type)
    if tokens:
        arrow_type = arrow_type.value_type
    if pa.types.is_fixed_size_list(arrow_type):
        return arrow_type.value_type, arrow_type.list_size, tokens
    return arrow_type, 0, tokens


def codec_of(description: Description) -> Codec:
    return codec_from(description.codec)


def shards_of(folder: Path, rows: int, shard_rows: int) -> Sequence[Shard]:
    """All shards that a store of so many rows has."""
    return [Shard(folder, start, min(rows, start + shard_rows)) for start in range(0, rows, shard_rows)]


def checksum(path: Path, algorithm: str = "xxh3_128") -> str:
    """Of a file's bytes, with the name of the algorithm before it: "xxh3_128", or "sha256" where somebody may forge."""
    known = {"xxh3_128": xxhash.xxh3_128, "sha256": hashlib.sha256}
    if algorithm not in known:
        return f"{algorithm}: unknown"
    digest = known[algorithm]()
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return f"{algorithm}:{digest.hexdigest()}"


def _columns(description: Description) -> list[Column]:
    return codec_of(description).columns(description.classes)


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__

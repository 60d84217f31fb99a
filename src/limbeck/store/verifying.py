"""Verifying a store: every byte is read, and everything that is wrong is named."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from limbeck.errors import StoreError
from limbeck.store.description import StoreDescription
from limbeck.store.output_layer import OUTPUT_LAYER_FILE
from limbeck.store.shards import Shard, shard_of_file, split_into_shards
from limbeck.store.storage import Storage, file_checksum, open_storage

UNFINISHED_FILE = re.compile(rf"\.(\d{{12}}-\d{{12}}\.(arrow|json)|{re.escape(OUTPUT_LAYER_FILE)})\.partial")
"""A temporary file of a build that was killed. The next build overwrites it."""


def verify(store: str | Path) -> list[str]:
    """Return everything that is wrong with a store.

    All files of a URL are downloaded for this, also those that were downloaded before.

    Args:
        store: the folder or URL of the store.

    Returns:
        One line for each fault: a shard that is missing, cut short, changed in any bit or of another store, and a file that
        is not part of a store. Empty if the store is whole.

    Raises:
        StoreError: the URL cannot be listed, or a file cannot be downloaded.
    """
    with TemporaryDirectory() as downloads:
        storage = open_storage(store, Path(downloads))
        if not storage.exists():
            return [f"{storage}: there is no such folder."]
        found, faults = _find_shards(storage)
        description = _first_description(found.values())
        if description is None:
            return [*faults, f"{storage}: holds no shard with a readable manifest."]
        expected = split_into_shards(storage, description.rows, description.shard_rows)
        expected_names = {shard.name for shard in expected}
        faults += [
            f"{storage.location(name)}: is not a part that this store has."
            for name in found
            if name not in expected_names
        ]
        return faults + _output_layer_faults(storage, description) + _shard_faults(expected, description)


def _find_shards(storage: Storage) -> tuple[Mapping[str, Shard], list[str]]:
    """Return the shards of which there is a file, by name, and a fault for each file that is not part of a store."""
    shards: dict[str, Shard] = {}
    faults: list[str] = []
    for name in storage.sizes():
        shard = shard_of_file(storage, name)
        if shard is not None:
            shards[shard.name] = shard
        elif name != OUTPUT_LAYER_FILE and not UNFINISHED_FILE.fullmatch(name):
            faults.append(f"{storage.location(name)}: is no part of a store.")
    return shards, faults


def _first_description(shards: Iterable[Shard]) -> StoreDescription | None:
    """Return the description in the first manifest that can be read, or None."""
    for shard in shards:
        try:
            return shard.manifest.description
        except StoreError:
            continue
    return None


def _output_layer_faults(storage: Storage, description: StoreDescription) -> list[str]:
    """Return what is wrong with the output layer's file, if the store has one."""
    if not description.head:
        return []
    found = "missing"
    if storage.size(OUTPUT_LAYER_FILE) is not None:
        found = file_checksum(storage.fetch(OUTPUT_LAYER_FILE, description.head))
    if found == description.head:
        return []
    location = storage.location(OUTPUT_LAYER_FILE)
    return [f"{location}: its checksum is {found}, the manifests say {description.head}."]


def _shard_faults(shards: Iterable[Shard], description: StoreDescription) -> list[str]:
    """Return what is wrong with each shard, and with the order of their ids."""
    faults: list[str] = []
    last_id = -1
    for shard in shards:
        shard_faults = shard.find_faults(description)
        faults += shard_faults
        if shard_faults:
            continue
        if shard.ids[0] <= last_id:
            location = shard.storage.location(shard.name)
            faults.append(f"{location}: begins with example {shard.ids[0]}, which is not after {last_id}.")
        last_id = int(shard.ids[-1])
    return faults

"""An open store, in which the teacher's outputs are looked up by the ids of examples."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from torch import Tensor, nn

from limbeck.data import Examples
from limbeck.errors import StoreError
from limbeck.outputs import ClassNames
from limbeck.store.codecs import Hidden, codec_from
from limbeck.store.description import StoreDescription
from limbeck.store.errors import StoreArgumentError
from limbeck.store.fingerprints import fingerprint_of_examples, fingerprint_of_model
from limbeck.store.output_layer import OUTPUT_LAYER_FILE, StoredOutputLayer
from limbeck.store.shards import Shard, shard_of_file, shards_with_manifest, split_into_shards
from limbeck.store.storage import Storage, open_storage
from limbeck.teachers import TeacherOutput

REMEDIES = {
    "teacher": "Its weights or config changed since; build the store again with this teacher.",
    "data": "Other examples, or prepared in another way (size, mean, tokenizer); build the store from these.",
}


class TeacherStore:
    """A store that is open for reading.

    Opening it checks that every shard is there, has its size and belongs to this store. ``verify`` also compares checksums.

    Args:
        folder: the folder or URL that ``build_store`` wrote to. The shards of a URL are downloaded when they are first
            needed.

    Raises:
        StoreError: there is no store, or a shard is missing, cut short or of another store.
    """

    def __init__(self, folder: str | Path | Storage) -> None:
        self.storage = open_storage(folder)
        self.description = _read_description(self.storage)
        self.codec = codec_from(self.description.codec)
        self.shards = _find_shards(self.storage, self.description)
        self.ids = np.concatenate([shard.ids for shard in self.shards])
        """The ids of all examples, (rows,) int64, ascending."""
        if (np.diff(self.ids) <= 0).any():
            raise StoreError(f"{self.storage}: the ids of its shards do not ascend.")
        self._mapped: dict[int, dict[str, np.ndarray]] = {}
        for number in range(len(self.shards) if self.storage.is_local else 0):
            self._columns(number)
        self.output_layer = None
        if isinstance(self.codec, Hidden):
            classes, checksum = self.description.classes, self.description.head
            self.output_layer = StoredOutputLayer(self.storage, classes, self.codec.size, checksum)

    def __len__(self) -> int:
        return self.description.rows

    @property
    def bytes(self) -> int:
        """Return the size of all files of the store in bytes."""
        names = [name for shard in self.shards for name in (shard.name, shard.manifest_name)]
        names += [OUTPUT_LAYER_FILE] if self.description.head else []
        return sum(self.storage.size(name) or 0 for name in names)

    @property
    def positions(self) -> int:
        """Return how many positions are stored: examples, views, pixels or tokens. A URL's tokens must be downloaded."""
        if not self.description.tokens:
            return len(self) * self.description.view_count * self.description.pixel_count
        return sum(int(self._columns(number)["offsets"][-1]) for number in range(len(self.shards)))

    @property
    def class_names(self) -> ClassNames | None:
        """Return the classes that the logits stand for, in their order; None if they are not known."""
        names = self.description.class_names
        return None if names is None else ClassNames(names, str(self.storage))

    def check(self, *, teacher: nn.Module | None = None, examples: Examples | None = None) -> None:
        """Check that the store was made by a teacher, and from examples.

        Args:
            teacher: the teacher that should have made the store; None skips this check.
            examples: the examples that should be in the store, as the models get them; None skips this check.

        Raises:
            StoreError: the store was made by another teacher or from other examples.
        """
        if teacher is not None:
            self._check_fingerprint("teacher", fingerprint_of_model(teacher), self.description.teacher)
        if examples is not None:
            version = self.description.version
            self._check_fingerprint("data", fingerprint_of_examples(examples, version), self.description.data)

    def _check_fingerprint(self, name: str, expected: str, stored: str) -> None:
        """Raise an error if two fingerprints differ."""
        if expected != stored:
            raise StoreError(
                f"{self.storage}: made from another {name} ({stored} there, {expected} here). {REMEDIES[name]}"
            )

    def look_up(self, ids: Tensor, view: Tensor | None = None) -> TeacherOutput:
        """Return what the teacher answered for some examples.

        Args:
            ids: (N,) the ids of examples, in any order; an id may occur several times.
            view: (N,) the number of the view of each example, for stores with several views; else None.

        Returns:
            Targets of N positions in the order of ``ids``; or, from a store of sequences or of pixels, of all tokens or
            pixels of the first example, then all of the second one, and so on.

        Raises:
            StoreError: an id is not in the store, a view is missing, or a view is given and the store has no views.
            StoreArgumentError: ``view`` has another shape than ``ids``, or a view is not in the store.
        """
        output = self.look_up_values(ids, view)
        if self.output_layer is None or output.logits is None:
            return output
        return TeacherOutput(self.output_layer(output.logits))

    def look_up_values(self, ids: Tensor, view: Tensor | None = None) -> TeacherOutput:
        """Return what is stored of some examples: as ``look_up``, but with hidden states in the place of their logits.

        Args:
            ids: as in ``look_up``.
            view: the same.

        Raises:
            StoreError: as ``look_up`` does.
            StoreArgumentError: as ``look_up`` does.
        """
        columns = self._gather(self._rows_of(ids), self._check_view(ids, view))
        return self.codec.decode(columns, self.description.classes)

    def token_counts(self, ids: Tensor) -> np.ndarray:
        """Return how many tokens some examples have, in a store of sequences.

        Args:
            ids: (N,) the ids of examples.

        Returns:
            (N,) int64.

        Raises:
            StoreError: an id is not in the store.
        """
        counts = np.empty(len(ids), np.int64)
        for asked, columns, rows in self._group_by_shard(self._rows_of(ids)):
            counts[asked] = columns["offsets"][rows + 1] - columns["offsets"][rows]
        return counts

    def _columns(self, number: int) -> dict[str, np.ndarray]:
        """Return the columns of a shard, which is opened at its first use."""
        if number not in self._mapped:
            self._mapped[number] = self.shards[number].map_columns()
        return self._mapped[number]

    def _check_view(self, ids: Tensor, view: Tensor | None) -> np.ndarray | None:
        """Return ``view`` as an array, after checking that the store has these views."""
        views = self.description.views
        if (views is None) != (view is None):
            has = "one view" if views is None else f"{views.count} views"
            raise StoreError(
                f"{self.storage}: has {has} of each example, and the batch {'a' if views is None else 'no'} number of the "
                "view. Augment with the store's own views (StoredTeacher.views)."
            )
        if views is None or view is None:
            return None
        if view.shape != ids.shape or (len(view) and not 0 <= int(view.min()) <= int(view.max()) < views.count):
            raise StoreArgumentError(
                "view", f"expected a number from 0 to {views.count - 1} for each example, got {view}."
            )
        return view.cpu().numpy()

    def _rows_of(self, ids: Tensor) -> np.ndarray:
        """Return the rows of the store at which examples stand, (N,)."""
        wanted = ids.detach().cpu().numpy()
        rows = np.searchsorted(self.ids, wanted)
        known = rows < len(self.ids)
        known[known] = self.ids[rows[known]] == wanted[known]
        if not known.all():
            raise StoreError(
                f"{self.storage}: example {int(wanted[~known][0])} is not in the store, which has {len(self)} examples. "
                "Build it from the data that the student is trained on."
            )
        return rows

    def _group_by_shard(self, rows: np.ndarray) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray], np.ndarray]]:
        """Yield each shard that some rows of the store are in.

        Yields:
            The indices into ``rows`` of those in the shard, the shard's columns, and the rows counted from the shard's
            first.
        """
        if len(self.shards) == 1:
            yield np.arange(len(rows)), self._columns(0), rows
            return
        numbers, within = np.divmod(rows, self.description.shard_rows)
        for number in np.unique(numbers):
            asked = np.flatnonzero(numbers == number)
            yield asked, self._columns(int(number)), within[asked]

    def _gather(self, rows: np.ndarray, view: np.ndarray | None) -> dict[str, np.ndarray]:
        """Return copies of the codec's columns at the positions of some rows, one example after the other."""
        names = [column.name for column in self.codec.columns(self.description.classes)]
        parts, order = [], []
        for asked, columns, positions in self._group_by_shard(rows):
            if view is not None:
                positions = positions * self.description.view_count + view[asked]
            if self.description.tokens:
                starts, stops = columns["offsets"][positions], columns["offsets"][positions + 1]
                positions = np.concatenate([np.arange(a, b) for a, b in zip(starts, stops, strict=True)])
                asked = np.repeat(asked, stops - starts)
            elif (count := self.description.pixel_count) > 1:
                positions = (positions[:, None] * count + np.arange(count)).reshape(-1)
                asked = np.repeat(asked, count)
            parts.append({name: columns[name][positions] for name in names})
            order.append(asked)
        if len(parts) == 1:
            return parts[0]
        into = np.argsort(np.concatenate(order), kind="stable")  # keeps the positions of an example in their order
        return {name: np.concatenate([part[name] for part in parts])[into] for name in names}


def _read_description(storage: Storage) -> StoreDescription:
    """Return the description in the first manifest; ``_find_shards`` checks that the others agree."""
    if not storage.exists():
        raise StoreError(f"{storage}: there is no such folder. Build a store first.")
    for name in storage.names():
        shard = shard_of_file(storage, name)
        if shard is not None:
            return shard.manifest.description
    raise StoreError(f"{storage}: holds no shard of a store. Build it first.")


def _find_shards(storage: Storage, description: StoreDescription) -> list[Shard]:
    """Return all shards of a store, or raise an error if some are missing or one is of another store."""
    found = {shard.name: shard for shard in shards_with_manifest(storage)}
    for shard in found.values():
        shard.is_whole(description)
    expected = split_into_shards(storage, description.rows, description.shard_rows)
    shards = [found.get(shard.name, shard) for shard in expected]
    missing = [shard for shard in shards if not shard.is_whole(description)]
    if missing:
        raise StoreError(
            f"{storage}: {len(missing)} of {len(shards)} shards are missing, {missing[0].name} first. "
            "Build the store again to go on."
        )
    return shards


def is_store(location: str | Path) -> bool:
    """Return True if a path or URL names a store.

    Args:
        location: a path or URL. It may name anything, or nothing.

    Returns:
        True if at least one file there has the name of a shard's file.

    Raises:
        StoreError: the URL cannot be listed.
    """
    if "://" not in str(location) and not Path(location).is_dir():
        return False
    storage = open_storage(location)
    return any(shard_of_file(storage, name) is not None for name in storage.names())

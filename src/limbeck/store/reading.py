"""Look the teacher's words up again, by example id, from the mapped files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from limbeck.data import Examples
from limbeck.errors import StoreError
from limbeck.store.codecs import Hidden
from limbeck.store.fingerprints import fingerprint_of_examples, fingerprint_of_model
from limbeck.store.output_layer import FILE, StoredOutputLayer
from limbeck.store.shards import Description, Shard, codec_of, shards_of
from limbeck.store.storage import Place, checksum, open_storage
from limbeck.teachers.base import Teacher, TeacherOutput

NAME = re.compile(r"(\d{12})-(\d{12})\.(arrow|json)")
LEFT_ASIDE = re.compile(r"\.(\d{12}-\d{12}\.(arrow|json)|head\.safetensors)\.partial")
"""What a killed build was writing; the next one writes over it."""


class TeacherStore:
    """A folder of shards, open for reading.

    Args:
        folder: where ``build_store`` wrote; or a URL that fsspec knows, whose shards are brought here, each when it is first
            needed.

    Raises:
        StoreError: there is no store, or a shard is missing, cut short or of another store. Checksums are for ``verify``.
    """

    def __init__(self, folder: str | Path | Place) -> None:
        self.place = open_storage(folder)
        self.description = self._described()
        self.codec = codec_of(self.description)
        self.shards = shards_of(self.place, self.description.rows, self.description.shard_rows)
        missing = [shard for shard in self.shards if not shard.is_whole(self.description)]
        if missing:
            raise StoreError(
                f"{self.place}: {len(missing)} of {len(self.shards)} shards are missing, {missing[0].name} first. "
                "Build the store again to go on."
            )
        self.ids = np.concatenate([shard.ids for shard in self.shards])
        """Of every example, ascending."""
        if (np.diff(self.ids) <= 0).any():
            raise StoreError(f"{self.place}: the ids of its shards do not ascend.")
        self._open: dict[int, dict[str, np.ndarray]] = {}
        for number in range(len(self.shards) if self.place.is_local else 0):
            self._columns(number)
        self._head = None
        if isinstance(self.codec, Hidden):
            told = self.description
            self._head = StoredOutputLayer(self.place, told.classes, self.codec.size, told.head)

    def __len__(self) -> int:
        return self.description.rows

    @property
    def bytes(self) -> int:
        """Of all its files."""
        return sum(self.place.size(name) or 0 for shard in self.shards for name in (shard.name, shard.manifest_name))

    def check(self, *, teacher: nn.Module | None = None, examples: Examples | None = None) -> None:
        """Whether the store was made by this teacher, and from these examples as the models get them.

        Raises:
            StoreError: it was not.
        """
        expected = {
            "teacher": None if teacher is None else fingerprint_of_model(teacher),
            "data": None if examples is None else fingerprint_of_examples(examples),
        }
        for name, fingerprint in expected.items():
            there = getattr(self.description, name)
            if fingerprint not in (None, there):
                remedy = {
                    "teacher": "Its weights or config changed since; build the store again with this teacher.",
                    "data": "Other examples, or prepared in another way (size, mean, tokenizer); build the store from these.",
                }[name]
                raise StoreError(
                    f"{self.place}: made from another {name} ({there} there, {fingerprint} here). {remedy}"
                )

    def look_up(self, ids: Tensor, view: Tensor | None = None) -> TeacherOutput:
        """What the teacher said of some examples, in their order: N ids -> N positions, or those of all their tokens.

        Args:
            ids: (N,).
            view: (N,), which of its views was shown of each, where the store has several.

        Raises:
            StoreError: an id or a view that the store does not have.
        """
        output = self.codec.decode(self._gathered(self._places(ids), self._views(ids, view)), self.description.classes)
        if self._head is None or output.logits is None:
            return output
        return TeacherOutput(self._head(output.logits))

    def lengths(self, ids: Tensor) -> np.ndarray:
        """How many tokens some examples have."""
        counts = np.empty(len(ids), np.int64)
        for here, columns, rows in self._by_shard(self._places(ids)):
            counts[here] = columns["offsets"][rows + 1] - columns["offsets"][rows]
        return counts

    def _columns(self, shard: int) -> dict[str, np.ndarray]:
        if shard not in self._open:
            self._open[shard] = self.shards[shard].open()
        return self._open[shard]

    def _views(self, ids: Tensor, view: Tensor | None) -> np.ndarray | None:
        views = self.description.views
        if (views is None) != (view is None):
            has = "one view" if views is None else f"{views.count} views"
            raise StoreError(
                f"{self.place}: has {has} of each example, and the batch {'a' if views is None else 'no'} number of the view. "
                "Augment with the store's own views (StoredTeacher.views)."
            )
        if views is None or view is None:
            return None
        if view.shape != ids.shape or (len(view) and not 0 <= int(view.min()) <= int(view.max()) < views.count):
            raise StoreError(f"view: expected a number from 0 to {views.count - 1} for each example, got {view}.")
        return view.cpu().numpy()

    def _places(self, ids: Tensor) -> np.ndarray:
        """Where examples stand in the store."""
        wanted = ids.detach().cpu().numpy()
        places = np.searchsorted(self.ids, wanted)
        known = places < len(self.ids)
        known[known] = self.ids[places[known]] == wanted[known]
        if not known.all():
            raise StoreError(
                f"{self.place}: example {int(wanted[~known][0])} is not in the store, which has {len(self)} examples. "
                "Build it from the data that the student is trained on."
            )
        return places

    def _by_shard(self, places: np.ndarray) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray], np.ndarray]]:
        """For each shard that some places are in: which of them, its columns, and their rows in it."""
        if len(self.shards) == 1:
            yield np.arange(len(places)), self._columns(0), places
            return
        shards, within = np.divmod(places, self.description.shard_rows)
        for shard in np.unique(shards):
            here = np.flatnonzero(shards == shard)
            yield here, self._columns(int(shard)), within[here]

    def _gathered(self, places: np.ndarray, view: np.ndarray | None) -> dict[str, np.ndarray]:
        """Positions of the examples at some places, one example after the other, copied out of the mapped files."""
        names = [column.name for column in self.codec.columns(self.description.classes)]
        parts, order = [], []
        for here, columns, rows in self._by_shard(places):
            if view is not None and self.description.views is not None:
                rows = rows * self.description.views.count + view[here]
            if self.description.tokens:
                starts, stops = columns["offsets"][rows], columns["offsets"][rows + 1]
                rows = np.concatenate([np.arange(a, b) for a, b in zip(starts, stops, strict=True)])
                here = np.repeat(here, stops - starts)
            parts.append({name: columns[name][rows] for name in names})
            order.append(here)
        if len(parts) == 1:
            return parts[0]
        into = np.argsort(np.concatenate(order), kind="stable")
        return {name: np.concatenate([part[name] for part in parts])[into] for name in names}

    def _described(self) -> Description:
        """By the first manifest; the others must agree."""
        if not self.place.exists():
            raise StoreError(f"{self.place}: there is no such folder. Build a store first.")
        first = next((found for name in self.place.sizes() if (found := _shard_of(self.place, name)) is not None), None)
        if first is None:
            raise StoreError(f"{self.place}: holds no shard of a store. Build it first.")
        return first.manifest.description


class StoredTeacher(Teacher):
    """A teacher that was asked before: looks a batch up by its ``example_id``, and its ``view_id`` where the store has several.

    Args:
        store: an open store, its folder or its URL.
    """

    def __init__(self, store: TeacherStore | str | Path) -> None:
        self.store = store if isinstance(store, TeacherStore) else TeacherStore(store)
        self.views = self.store.description.views
        """What shows the student the views that the teacher was asked about: a trainer's ``augment``. None for one view."""
        self.single_view = self.views is None
        self._device = torch.device("cpu")

    def to(self, device: torch.device) -> StoredTeacher:
        """Where to put what is looked up."""
        self._device = torch.device(device)
        return self

    def __call__(self, batch: Mapping[str, Any]) -> TeacherOutput:
        """Look a batch up."""
        if "example_id" not in batch:
            raise StoreError("example_id: missing in the batch, and a stored teacher finds its rows by it.")
        ids = batch["example_id"]
        output = self.store.look_up(ids, batch.get("view_id"))
        if self.store.description.tokens:
            output = _padded(output, self._mask(batch, ids))
        if output.logits is not None:
            return TeacherOutput(output.logits.to(self._device))
        assert output.targets is not None
        return TeacherOutput(targets=output.targets.apply(lambda tensor: tensor.to(self._device)))

    def _mask(self, batch: Mapping[str, Any], ids: Tensor) -> Tensor:
        """Which positions of a batch of sequences are tokens."""
        if "attention_mask" not in batch:
            raise StoreError("attention_mask: missing in the batch; it tells where the stored tokens belong.")
        mask = batch["attention_mask"].bool().cpu()
        here, stored = mask.sum(-1).numpy(), self.store.lengths(ids)
        if not np.array_equal(here, stored):
            first = int(np.flatnonzero(here != stored)[0])
            raise StoreError(
                f"{self.store.place}: example {int(ids[first])} has {stored[first]} tokens in the store and {here[first]} in "
                "the batch. Truncate and tokenise as the store was built, or build it again."
            )
        return mask


def _padded(output: TeacherOutput, mask: Tensor) -> TeacherOutput:
    """Positions (P, ...) back at the tokens of a batch, (N, L, ...); padding has logits 0, or no class listed."""

    def spread(values: Tensor, fill: float = 0) -> Tensor:
        whole = values.new_full((*mask.shape, *values.shape[1:]), fill)
        whole[mask] = values
        return whole

    if output.targets is None:
        assert output.logits is not None
        return TeacherOutput(spread(output.logits))
    targets = output.targets.apply(spread)
    return TeacherOutput(targets=replace(targets, ids=spread(output.targets.ids, -1)))


def is_store(place: str | Path) -> bool:
    """Whether a path or URL names a store, and not a model."""
    if "://" not in str(place) and not Path(place).is_dir():
        return False
    found = open_storage(place)
    return any(_shard_of(found, name) is not None for name in found.sizes())


def verify(store: str | Path) -> list[str]:
    """Everything that is wrong with a store: shards missing, cut short or foreign, files that do not belong, flipped bits.

    Of a URL every file is brought anew: what was brought before says nothing of what is there.
    """
    with TemporaryDirectory() as empty:
        return _faults(open_storage(store, Path(empty)))


def _faults(place: Place) -> list[str]:
    if not place.exists():
        return [f"{place}: there is no such folder."]
    faults: list[str] = []
    shards: dict[str, Shard] = {}
    for name in place.sizes():
        shard = _shard_of(place, name)
        if shard is not None:
            shards[shard.name] = shard
        elif name != FILE and not LEFT_ASIDE.fullmatch(name):
            faults.append(f"{place / name}: is no part of a store.")
    description = next((d for shard in shards.values() if (d := _description_of(shard)) is not None), None)
    if description is None:
        return [*faults, f"{place}: holds no shard with a readable manifest."]
    expected = {shard.name: shard for shard in shards_of(place, description.rows, description.shard_rows)}
    faults += [f"{place / name}: is not a part that this store has." for name in shards if name not in expected]
    if description.head:
        found = checksum(place.fetch(FILE, description.head)) if place.size(FILE) is not None else "missing"
        if found != description.head:
            faults.append(f"{place / FILE}: its checksum is {found}, the manifests say {description.head}.")
    last = -1
    for shard in expected.values():
        found = shard.faults(description)
        faults += found
        if not found:
            if shard.ids[0] <= last:
                faults.append(f"{place / shard.name}: begins with example {shard.ids[0]}, which is not after {last}.")
            last = int(shard.ids[-1])
    return faults


def _shard_of(place: Place, name: str) -> Shard | None:
    match = NAME.fullmatch(name)
    return None if match is None else Shard(place, int(match[1]), int(match[2]))


def _description_of(shard: Shard) -> Description | None:
    try:
        return shard.manifest.description
    except StoreError:
        return None

"""Look the teacher's words up again, by example id, from the mapped files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from limbeck.data import Examples
from limbeck.errors import StoreError
from limbeck.teachers.base import TeacherOutput
from limbeck.teachers.store.codecs import Hidden
from limbeck.teachers.store.fingerprints import fingerprint_of_examples, fingerprint_of_model
from limbeck.teachers.store.heads import FILE, StoredHead
from limbeck.teachers.store.shards import Description, Shard, checksum, codec_of, shards_of

NAME = re.compile(r"(\d{12})-(\d{12})\.(arrow|json)")


class TeacherStore:
    """A folder of shards, open for reading.

    Args:
        folder: where ``build_store`` wrote.

    Raises:
        StoreError: there is no store, or a shard is missing, cut short or of another store. Checksums are for ``verify``.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.description = self._described()
        self.codec = codec_of(self.description)
        self.shards = shards_of(self.folder, self.description.rows, self.description.shard_rows)
        missing = [shard for shard in self.shards if not shard.is_whole(self.description)]
        if missing:
            raise StoreError(
                f"{self.folder}: {len(missing)} of {len(self.shards)} shards are missing, {missing[0].path.name} first. "
                "Build the store again to go on."
            )
        self._open = [shard.open() for shard in self.shards]
        self._head = None
        if isinstance(self.codec, Hidden):
            self._head = StoredHead(self.folder, self.description.classes, self.codec.size)

    def __len__(self) -> int:
        return self.description.rows

    @property
    def bytes(self) -> int:
        """Of all its files."""
        return sum(path.stat().st_size for shard in self.shards for path in (shard.path, shard.manifest_path))

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
                    f"{self.folder}: made from another {name} ({there} there, {fingerprint} here). {remedy}"
                )

    @cached_property
    def ids(self) -> np.ndarray:
        """Of every example, ascending."""
        return np.concatenate([columns["id"] for columns in self._open])

    def look_up(self, ids: Tensor) -> TeacherOutput:
        """What the teacher said of some examples, in their order: N ids -> N positions, or those of all their tokens.

        Raises:
            StoreError: an id that the store does not have.
        """
        output = self.codec.decode(self._gathered(self._places(ids)), self.description.classes)
        if self._head is None or output.logits is None:
            return output
        return TeacherOutput(self._head(output.logits))

    def lengths(self, ids: Tensor) -> np.ndarray:
        """How many tokens some examples have."""
        counts = np.empty(len(ids), np.int64)
        for here, columns, rows in self._by_shard(self._places(ids)):
            counts[here] = columns["offsets"][rows + 1] - columns["offsets"][rows]
        return counts

    def _places(self, ids: Tensor) -> np.ndarray:
        """Where examples stand in the store."""
        wanted = ids.detach().cpu().numpy()
        places = np.searchsorted(self.ids, wanted)
        known = places < len(self.ids)
        known[known] = self.ids[places[known]] == wanted[known]
        if not known.all():
            raise StoreError(
                f"{self.folder}: example {int(wanted[~known][0])} is not in the store, which has {len(self)} examples. "
                "Build it from the data that the student is trained on."
            )
        return places

    def _by_shard(self, places: np.ndarray) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray], np.ndarray]]:
        """For each shard that some places are in: which of them, its columns, and their rows in it."""
        shards, within = np.divmod(places, self.description.shard_rows)
        for shard in np.unique(shards):
            here = np.flatnonzero(shards == shard)
            yield here, self._open[shard], within[here]

    def _gathered(self, places: np.ndarray) -> dict[str, np.ndarray]:
        """Positions of the examples at some places, one example after the other, copied out of the mapped files."""
        names = [name for name in self._open[0] if name not in ("id", "offsets")]
        if len(self._open) == 1 and not self.description.tokens:
            return {name: self._open[0][name][places] for name in names}
        parts, order = [], []
        for here, columns, rows in self._by_shard(places):
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
        if not self.folder.is_dir():
            raise StoreError(f"{self.folder}: there is no such folder. Build a store first.")
        first = next((found for path in sorted(self.folder.iterdir()) if (found := _shard_of(path)) is not None), None)
        if first is None:
            raise StoreError(f"{self.folder}: holds no shard of a store. Build it first.")
        return first.manifest.description


class StoredTeacher:
    """A teacher that was asked before: looks a batch up by its ``example_id``. It knows one view of each example.

    Args:
        store: an open store, or its folder.
    """

    one_view = True

    def __init__(self, store: TeacherStore | str | Path) -> None:
        self.store = store if isinstance(store, TeacherStore) else TeacherStore(store)
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
        output = self.store.look_up(ids)
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
                f"{self.store.folder}: example {int(ids[first])} has {stored[first]} tokens in the store and {here[first]} in "
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


def verify(folder: str | Path) -> list[str]:
    """Everything that is wrong with a store: shards missing, cut short or foreign, files that do not belong, flipped bits."""
    folder, faults = Path(folder), []
    shards: dict[Path, Shard] = {}
    for path in sorted(folder.iterdir()):
        shard = _shard_of(path)
        if shard is None and path.name != FILE:
            faults.append(f"{path}: is no part of a store.")
        elif shard is not None:
            shards[shard.path] = shard
    description = next((d for shard in shards.values() if (d := _description_of(shard)) is not None), None)
    if description is None:
        return [*faults, f"{folder}: holds no shard with a readable manifest."]
    expected = {shard.path: shard for shard in shards_of(folder, description.rows, description.shard_rows)}
    faults += [f"{path}: is not a part that this store has." for path in shards if path not in expected]
    if description.head:
        found = checksum(folder / FILE) if (folder / FILE).is_file() else "missing"
        if found != description.head:
            faults.append(f"{folder / FILE}: its checksum is {found}, the manifests say {description.head}.")
    last = None
    for shard in expected.values():
        found = shard.faults(description)
        faults += found
        if not found:
            if last is not None and shard.manifest.first_id <= last:
                faults.append(
                    f"{shard.path}: begins with example {shard.manifest.first_id}, which is not after {last}."
                )
            last = shard.manifest.last_id
    return faults


def _shard_of(path: Path) -> Shard | None:
    match = NAME.fullmatch(path.name)
    return None if match is None else Shard(path.parent, int(match[1]), int(match[2]))


def _description_of(shard: Shard) -> Description | None:
    try:
        return shard.manifest.description
    except StoreError:
        return None

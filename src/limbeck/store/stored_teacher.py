"""The teacher that looks its outputs up in a store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from limbeck.errors import StoreError
from limbeck.kernels.linear import OutputLayer
from limbeck.losses import IGNORE_INDEX
from limbeck.losses.projection import Unprojected
from limbeck.store.errors import StoreArgumentError
from limbeck.store.reading import TeacherStore
from limbeck.store.sparse_codecs import Sampled, TopK
from limbeck.teachers import Teacher, TeacherOutput


class StoredTeacher(Teacher):
    """A teacher whose outputs were computed before, and are looked up by the batch's ``example_id``.

    If the store has several views of each example, the batch's ``view_id`` says which one the student sees. In a store of
    sequences, the batch's ``attention_mask`` says where the tokens belong.

    Args:
        store: an open store, or its folder or URL.
        columns: the stored classes in the order that the student has, each by its number; None for the order of the store.

    Raises:
        StoreError: the store cannot be opened.
        StoreArgumentError: ``columns`` leaves classes out, and the store keeps some classes of each position alone.
    """

    columns = ("example_id", "view_id", "attention_mask", "position_ids")

    def __init__(self, store: TeacherStore | str | Path, columns: Sequence[int] | None = None) -> None:
        self.store = store if isinstance(store, TeacherStore) else TeacherStore(store)
        classes = self.store.description.classes
        if columns is not None and isinstance(self.store.codec, TopK | Sampled) and len(columns) < classes:
            raise StoreArgumentError(
                "columns",
                f"{classes - len(columns)} of the {classes} classes in {self.store.storage} are not the student's, and some "
                "classes of each example alone are kept there, whose probabilities without the others nobody knows. Store "
                "dense logits, or build the store from a teacher of the student's classes.",
            )
        self._columns = None if columns is None else torch.tensor(columns)
        self.is_in_order = columns is not None
        """Whether the columns were given the student's order."""
        self.views = self.store.description.views
        """The augmentation that shows the student the stored views; use it as the trainer's ``augment``. None if each example
        is stored once."""
        self.single_view = self.views is None
        self._device = torch.device("cpu")
        self._layer: OutputLayer | None = None

    def to(self, device: torch.device) -> StoredTeacher:
        """Set the device on which outputs are returned.

        Args:
            device: the student's device.

        Returns:
            This teacher.
        """
        self._device = torch.device(device)
        return self

    def __call__(self, batch: Mapping[str, Any]) -> TeacherOutput:
        """Return the stored outputs of a batch.

        Args:
            batch: ``example_id`` (N,), and where the store needs them ``view_id`` (N,) and ``attention_mask`` (N, L).

        Returns:
            Logits (N, V) or sparse targets (N, k); for sequences (N, L, V) or (N, L, k), with logits 0 or class -1 at
            padding; for pixels (N, V, H, W) as the teacher gave them, or (N, H, W, k).

        Raises:
            StoreError: an entry is missing in the batch, or an example is not in the store or has another number of tokens
                there.
        """
        ids = _ids_in(batch)
        output = self._in_order(self.store.look_up(ids, batch.get("view_id")))
        if self.store.description.tokens:
            output = _pad(output, self._token_mask(batch, ids))
        elif (pixels := self.store.description.pixels) is not None:
            output = _as_images(output, pixels)
        if output.logits is not None:
            return TeacherOutput(output.logits.to(self._device))
        assert output.targets is not None
        return TeacherOutput(targets=output.targets.apply(lambda tensor: tensor.to(self._device)))

    def unprojected(self, batch: Mapping[str, Any]) -> Unprojected | None:
        """Return the logits of a batch of sequences, not computed, where hidden states are stored; else None.

        Args:
            batch: as in ``__call__``.

        Raises:
            StoreError: as ``__call__`` does.
        """
        layer = self.store.output_layer
        if layer is None or self._columns is not None or not self.store.description.tokens:
            return None
        ids = _ids_in(batch)
        hidden = self.store.look_up_values(ids).logits
        assert hidden is not None
        if self._layer is None or self._layer.weight.device != self._device:
            bias = None if layer.bias is None else layer.bias.to(self._device)
            self._layer = OutputLayer(layer.weight.to(self._device), bias)
        return Unprojected(_spread(hidden, self._token_mask(batch, ids)).to(self._device).float(), self._layer)

    def _in_order(self, output: TeacherOutput) -> TeacherOutput:
        """Return the outputs with the student's classes, in its order."""
        if self._columns is None:
            return output
        if output.logits is not None:
            return TeacherOutput(output.logits.index_select(-1, self._columns))
        assert output.targets is not None
        place = self._columns.argsort()  # all classes are there, so this is the inverse
        return TeacherOutput(targets=replace(output.targets, ids=place[output.targets.ids.long()]))

    def _token_mask(self, batch: Mapping[str, Any], ids: Tensor) -> Tensor:
        """Return bool (N, L), True at tokens, after checking that the store has as many tokens."""
        mask = token_mask(batch)
        if mask is None:
            raise StoreError("attention_mask: missing in the batch; it tells where the stored tokens belong.")
        mask = mask.cpu()
        given, stored = mask.sum(-1).numpy(), self.store.token_counts(ids)
        if not np.array_equal(given, stored):
            first = int(np.flatnonzero(given != stored)[0])
            raise StoreError(
                f"{self.store.storage}: example {int(ids[first])} has {stored[first]} tokens in the store and {given[first]} "
                "in the batch. Truncate and tokenise as the store was built, or build it again."
            )
        return mask


def token_mask(batch: Mapping[str, Any]) -> Tensor | None:
    """Return bool (N, L), True at the tokens of a batch of sequences; None if nothing tells.

    Args:
        batch: with ``attention_mask``; or with ``position_ids`` alone, where documents fill whole blocks. If a decoder reads
            ``decoder_input_ids``, its tokens are meant, and ``labels`` tell which they are.
    """
    if "decoder_input_ids" in batch:
        labels = batch.get("labels")
        return None if labels is None else labels != IGNORE_INDEX
    mask, positions = batch.get("attention_mask"), batch.get("position_ids")
    if mask is None and positions is not None:
        return torch.ones_like(positions, dtype=torch.bool)
    return None if mask is None else mask.bool()


def _pad(output: TeacherOutput, mask: Tensor) -> TeacherOutput:
    """Return the outputs of all tokens (P, ...) at their places in the batch (N, L, ...)."""
    if output.targets is None:
        assert output.logits is not None
        return TeacherOutput(_spread(output.logits, mask))
    targets = output.targets.apply(lambda values: _spread(values, mask))
    return TeacherOutput(targets=replace(targets, ids=_spread(output.targets.ids, mask, -1)))


def _spread(values: Tensor, mask: Tensor, fill: float = 0) -> Tensor:
    """Return values of all tokens (P, ...) at their places in the batch (N, L, ...)."""
    padded = values.new_full((*mask.shape, *values.shape[1:]), fill)
    padded[mask] = values
    return padded


def _ids_in(batch: Mapping[str, Any]) -> Tensor:
    """Return the ids of a batch's examples."""
    if "example_id" not in batch:
        raise StoreError("example_id: missing in the batch, and a stored teacher finds its rows by it.")
    return torch.as_tensor(batch["example_id"])


def _as_images(output: TeacherOutput, pixels: tuple[int, int]) -> TeacherOutput:
    """Return the outputs of the pixels of all images, (N H W, ...), as images. Nothing is copied."""

    def unflatten(values: Tensor) -> Tensor:
        return values.unflatten(0, (-1, *pixels))

    if output.targets is not None:
        return TeacherOutput(targets=output.targets.apply(unflatten))
    assert output.logits is not None
    return TeacherOutput(unflatten(output.logits).movedim(-1, 1))

"""Running the teacher over examples, for a store: its outputs, or the inputs of its last layer, at every position."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from limbeck.data import Examples, FixedViews
from limbeck.errors import ModelError, StoreError
from limbeck.losses.inspection import are_probabilities
from limbeck.models import first_input
from limbeck.models.heads import Head
from limbeck.store.errors import StoreArgumentError, UnstorableError
from limbeck.store.output_layer import check_output_layer, record_inputs, scaled_layer
from limbeck.store.stored_teacher import token_mask
from limbeck.store.values import check_softmax
from limbeck.teachers import LiveTeacher

SHOWN_EXAMPLES = 10
"""The most example ids that a message shows."""


@dataclass(frozen=True)
class Positions:
    """What is stored of some examples, at every position that is not padding."""

    values: Tensor
    """(P, V) logits or (P, d) hidden states."""
    token_counts: np.ndarray | None
    """(N,) the number of tokens of each example; None if the examples are not sequences."""
    pixels: tuple[int, int] | None = None
    """The height and width of the logits of pixels, which stand row by row; None if the positions are no pixels."""
    head: Head | None = None
    """Makes the logits that are stored of hidden states; None if the values themselves are stored."""

    @property
    def width(self) -> int:
        """Return how many numbers are stored of a position, before they are encoded."""
        return self.values.shape[-1] if self.head is None else self.head.sample.shape[-1]

    def parts(self) -> Iterator[tuple[slice, Tensor]]:
        """Yield what is stored, on the CPU, and of which positions: of all, or of so many that their logits are small."""
        if self.head is None:
            yield slice(None), self.values.cpu()
            return
        for part in self.head.parts(self.values.unsqueeze(0)):
            yield part, self.head.logits(self.values[part]).cpu()

    def example_ids(self, ids: Tensor) -> Tensor:
        """Return (P,) the id of the example that each position belongs to.

        Args:
            ids: (N,) the ids of the examples.
        """
        if self.token_counts is None:
            return ids.repeat_interleave(len(self.values) // len(ids))
        return ids.repeat_interleave(torch.from_numpy(self.token_counts))


class TeacherRunner:
    """Runs the teacher on some of the examples.

    Args:
        teacher: the teacher.
        examples: the examples, from which batches are loaded.
        views: the views of each example that the teacher sees.
        layer: the layer whose inputs are stored in the place of logits; None to store logits. ``self.layer`` is what makes
            logits of them: the layer itself, or with the scale that the model puts on its output.
    """

    def __init__(
        self, teacher: nn.Module, examples: Examples, views: FixedViews | None, layer: nn.Linear | None
    ) -> None:
        self.module, self.examples, self.views = teacher, examples, views
        self.layer = self._recorded = layer
        self._teacher = LiveTeacher(teacher)
        self._device = next((parameter.device for parameter in teacher.parameters()), torch.device("cpu"))
        with suppress(ModelError):  # its logits are then whole
            self._teacher.find_head(self._load(examples.ids[:1], None))
        head = self._teacher.head
        if layer is not None and head is not None and head.layer is layer and head.scale != 1 and head.softcap is None:
            self.layer = scaled_layer(layer, head.scale)

    @torch.no_grad()
    def stored_values(self, ids: Tensor) -> Positions:
        """Return what is stored of some examples: all views of the first one, then those of the second one, and so on.

        Args:
            ids: (N,) the ids of the examples.
        """
        batch = self._load(ids, self.views)
        return self._logits(batch) if self._recorded is None else self._hidden(batch, self._recorded)

    @torch.no_grad()
    def check_logits(self, ids: Tensor) -> None:
        """Check that the teacher does not give probabilities for all of some examples.

        Args:
            ids: (N,) the ids of the examples.

        Raises:
            StoreArgumentError: it does.
        """
        positions = self._logits(self._load(ids, None))
        some = len(positions.values) > 1 and positions.width > 1
        if some and all(are_probabilities(logits) for _, logits in positions.parts()):
            raise StoreArgumentError(
                "teacher",
                "every row that it returned lies in [0, 1] and sums to 1: probabilities, and a store keeps logits. Set "
                "teacher.outputs: probabilities in a config, or pass limbeck.models.LogProbabilities(teacher).",
            )

    @torch.no_grad()
    def logits_of_one(self, example_id: Tensor) -> Positions:
        """Return the logits of one example as it is, after checking that the layer, if there is one, computes them.

        Args:
            example_id: (1,) the id of the example.

        Raises:
            StoreArgumentError: there are views and no image, the logits have no softmax, or the layer does not compute them.
        """
        batch = self._load(example_id, None)
        if self.views is not None and "pixel_values" not in batch:
            raise StoreArgumentError("views", f"are of images in pixel_values, and the batch has {', '.join(batch)}.")
        positions = self._logits(batch)
        if self.layer is not None and positions.pixels:
            raise StoreArgumentError(
                "format",
                "hidden keeps the inputs of a linear layer, and the teacher has a class for each pixel. Store dense.",
            )
        hidden = None if self._recorded is None else self._hidden(batch, self._recorded).values
        for part, logits in positions.parts():
            with naming_examples(positions, example_id, part):
                check_softmax(logits)
            if self.layer is not None and hidden is not None:
                check_output_layer(self.layer, hidden[part], logits.to(self._device))
        return positions

    def image_size(self, example_id: Tensor) -> tuple[int, ...]:
        """Return the height and width of the image of an example.

        Args:
            example_id: (1,) the id of the example.
        """
        return tuple(first_input(self._load(example_id, None)).shape[-2:])

    def _logits(self, batch: dict[str, Any]) -> Positions:
        """Return the logits of the positions that are no padding, where possible as hidden states."""
        head = self._teacher.head
        if head is not None:
            return replace(_without_padding(self._teacher.from_hidden(batch, lambda x: x), batch), head=head)
        logits = self._teacher(batch).logits
        assert logits is not None
        return _without_padding(logits, batch)

    def _hidden(self, batch: dict[str, Any], layer: nn.Linear) -> Positions:
        """Return the inputs of a layer at the positions that are no padding."""
        head = self._teacher.head
        if head is not None and head.layer is layer:
            return _without_padding(self._teacher.from_hidden(batch, lambda x: x), batch)
        with record_inputs(layer) as inputs:
            self._teacher(batch)
        return _without_padding(inputs[-1], batch)

    def _load(self, ids: Tensor, views: FixedViews | None) -> dict[str, Any]:
        """Return the inputs of some examples, in all of their views, on the teacher's device."""
        batch = self.examples.load(ids.tolist())
        if views is not None:
            if "pixel_values" not in batch:
                raise StoreArgumentError(
                    "views", f"are of images in pixel_values, and the batch has {', '.join(batch)}."
                )
            images = batch["pixel_values"].repeat_interleave(views.count, 0)
            repeated = {"pixel_values": images, "example_id": ids.repeat_interleave(views.count)}
            view_numbers = torch.arange(views.count).repeat(len(ids))
            batch = {"pixel_values": views.select(repeated, view_numbers)["pixel_values"]}
        return {name: value.to(self._device) if isinstance(value, Tensor) else value for name, value in batch.items()}


@contextmanager
def naming_examples(positions: Positions, ids: Tensor, part: slice) -> Iterator[None]:
    """Add to an ``UnstorableError`` in the block the ids of the examples that it is about.

    Args:
        positions: what the block encodes or checks.
        ids: (N,) the ids of the examples.
        part: which of the positions.

    Yields:
        Nothing.

    Raises:
        StoreArgumentError: in the place of the ``UnstorableError``.
    """
    try:
        yield
    except UnstorableError as error:
        wrong = positions.example_ids(ids)[part][error.positions].unique().tolist()
        more = f" and {len(wrong) - SHOWN_EXAMPLES} more" if len(wrong) > SHOWN_EXAMPLES else ""
        shown = ", ".join(map(str, wrong[:SHOWN_EXAMPLES]))
        raise StoreArgumentError(error.argument, f"{error.message} Ids of the examples: {shown}{more}.") from None


def _without_padding(values: Tensor, batch: dict[str, Any]) -> Positions:
    """Return (N, V) values as they are, of (N, L, V) values those at tokens, and of (N, V, H, W) all pixels: (P, V)."""
    if values.dim() == 2:
        return Positions(values, None)
    if values.dim() == 4:
        height, width = values.shape[2:]
        return Positions(values.movedim(1, -1).flatten(0, 2), None, (height, width))
    mask = token_mask(batch)
    if mask is None:
        raise StoreError("attention_mask: missing in the batch; it tells which tokens of a sequence are padding.")
    return Positions(values[mask], mask.sum(-1).cpu().numpy())


def size_line(pixels: Sequence[int] | None) -> str:
    """Return a height and width as messages name them.

    Args:
        pixels: the height and the width; None for none.
    """
    return " x ".join(map(str, pixels or ()))

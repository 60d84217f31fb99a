"""Running the teacher over examples, for a store: its outputs, or the inputs of its last layer, at every position."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from limbeck.data import Examples, FixedViews
from limbeck.errors import StoreError
from limbeck.losses.inspection import are_probabilities
from limbeck.models import first_input
from limbeck.store.errors import StoreArgumentError, UnstorableError
from limbeck.store.output_layer import check_output_layer, record_inputs
from limbeck.store.stored_teacher import token_mask
from limbeck.store.values import check_softmax
from limbeck.teachers import LiveTeacher

SHOWN_EXAMPLES = 10
"""The most example ids that a message shows."""


@dataclass(frozen=True)
class Positions:
    """What is stored of some examples, at every position that is not padding."""

    values: Tensor
    """(P, V) logits or (P, d) hidden states, on the CPU."""
    token_counts: np.ndarray | None
    """(N,) the number of tokens of each example; None if the examples are not sequences."""
    pixels: tuple[int, int] | None = None
    """The height and width of the logits of pixels, which stand row by row; None if the positions are no pixels."""

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
        layer: the layer whose inputs are stored in the place of logits; None to store logits.
    """

    def __init__(
        self, teacher: nn.Module, examples: Examples, views: FixedViews | None, layer: nn.Linear | None
    ) -> None:
        self.module, self.examples, self.views, self.layer = teacher, examples, views, layer
        self._teacher = LiveTeacher(teacher)
        self._device = next((parameter.device for parameter in teacher.parameters()), torch.device("cpu"))

    def stored_values(self, ids: Tensor) -> Positions:
        """Return what is stored of some examples: all views of the first one, then those of the second one, and so on.

        Args:
            ids: (N,) the ids of the examples.
        """
        batch = self._load(ids, self.views)
        if self.layer is None:
            return _without_padding(self._logits(batch), batch)
        with record_inputs(self.layer) as inputs:
            self._teacher(batch)
        return _without_padding(inputs[-1], batch)

    def check_logits(self, ids: Tensor) -> None:
        """Check that the teacher does not give probabilities for all of some examples.

        Args:
            ids: (N,) the ids of the examples.

        Raises:
            StoreArgumentError: it does.
        """
        batch = self._load(ids, None)
        logits = _without_padding(self._logits(batch), batch).values
        if len(logits) > 1 and logits.shape[-1] > 1 and are_probabilities(logits):
            raise StoreArgumentError(
                "teacher",
                "every row that it returned lies in [0, 1] and sums to 1: probabilities, and a store keeps logits. Set "
                "teacher.outputs: probabilities in a config, or pass limbeck.models.LogProbabilities(teacher).",
            )

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
        with record_inputs(self.layer) if self.layer else nullcontext([]) as inputs:
            positions = _without_padding(self._logits(batch), batch)
        with naming_examples(positions, example_id):
            check_softmax(positions.values)
        if self.layer is not None and positions.pixels:
            raise StoreArgumentError(
                "format",
                "hidden keeps the inputs of a linear layer, and the teacher has a class for each pixel. Store dense.",
            )
        if self.layer is not None:
            hidden = inputs[-1].reshape(-1, self.layer.in_features)[: len(positions.values)]
            check_output_layer(self.layer, hidden, positions.values.to(self._device))
        return positions

    def image_size(self, example_id: Tensor) -> tuple[int, ...]:
        """Return the height and width of the image of an example.

        Args:
            example_id: (1,) the id of the example.
        """
        return tuple(first_input(self._load(example_id, None)).shape[-2:])

    def _logits(self, batch: dict[str, Any]) -> Tensor:
        logits = self._teacher(batch).logits
        assert logits is not None
        return logits

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
def naming_examples(positions: Positions, ids: Tensor) -> Iterator[None]:
    """Add to an ``UnstorableError`` in the block the ids of the examples that it is about.

    Args:
        positions: what the block encodes or checks.
        ids: (N,) the ids of the examples.

    Yields:
        Nothing.

    Raises:
        StoreArgumentError: in the place of the ``UnstorableError``.
    """
    try:
        yield
    except UnstorableError as error:
        wrong = positions.example_ids(ids)[error.positions].unique().tolist()
        more = f" and {len(wrong) - SHOWN_EXAMPLES} more" if len(wrong) > SHOWN_EXAMPLES else ""
        shown = ", ".join(map(str, wrong[:SHOWN_EXAMPLES]))
        raise StoreArgumentError(error.argument, f"{error.message} Ids of the examples: {shown}{more}.") from None


def _without_padding(values: Tensor, batch: dict[str, Any]) -> Positions:
    """Return (N, V) values as they are, of (N, L, V) values those at tokens, and of (N, V, H, W) all pixels: (P, V)."""
    if values.dim() == 2:
        return Positions(values.cpu(), None)
    if values.dim() == 4:
        height, width = values.shape[2:]
        return Positions(values.movedim(1, -1).flatten(0, 2).cpu(), None, (height, width))
    mask = token_mask(batch)
    if mask is None:
        raise StoreError("attention_mask: missing in the batch; it tells which tokens of a sequence are padding.")
    return Positions(values[mask].cpu(), mask.sum(-1).cpu().numpy())


def size_line(pixels: Sequence[int] | None) -> str:
    """Return a height and width as messages name them.

    Args:
        pixels: the height and the width; None for none.
    """
    return " x ".join(map(str, pixels or ()))

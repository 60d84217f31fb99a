"""What every format of a store answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor

from limbeck.teachers import TeacherOutput

Columns = Mapping[str, np.ndarray]
"""The stored numbers of P positions: for each column's name an array (P, width)."""


@dataclass(frozen=True)
class Column:
    """The name and type of one stored column."""

    name: str
    dtype: str
    """The name of a numpy dtype."""
    width: int
    """Numbers at each position."""


class Codec(Protocol):
    """A format of a store, with its settings."""

    name: ClassVar[str]
    """The name by which configs and manifests know the format."""

    def columns(self, classes: int) -> list[Column]:
        """Return the columns that are stored.

        Args:
            classes: V, the number of classes.

        Returns:
            The columns in the order in which they stand in a shard.
        """
        ...

    def encode(self, logits: Tensor, generator: torch.Generator) -> dict[str, np.ndarray]:
        """Return what is stored for some logits.

        Args:
            logits: (P, V) on the CPU, or hidden states (P, d) for ``Hidden``.
            generator: the source of random numbers, for formats that draw.

        Returns:
            An array (P, width) for each column.

        Raises:
            UnstorableError: the format cannot hold the values of some positions. No format holds NaN or logits without a
                softmax.
        """
        ...

    def decode(self, columns: Columns, classes: int) -> TeacherOutput:
        """Return the targets that were stored.

        Args:
            columns: an array (P, width) for each column.
            classes: V, the number of classes.

        Returns:
            Logits (P, V), or sparse targets (P, k). ``Hidden`` returns hidden states (P, d) as logits; ``TeacherStore``
            applies the output layer to them.

        Raises:
            StoreError: the columns are damaged.
        """
        ...

    def payload_bytes(self, classes: int) -> float:
        """Return the bytes that one position needs, not rounded up to whole bytes.

        Args:
            classes: V, the number of classes.

        Returns:
            The size without ids, manifests and the file format's own bytes.
        """
        ...

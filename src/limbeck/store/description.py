"""What a store says about itself: the description of the whole store, and the manifest of each shard.

Both are JSON. The names of their fields are the keys on the disk.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from limbeck.data import FixedViews
from limbeck.store.codec_base import Column
from limbeck.store.codecs import codec_from

VERSION = 3
"""The version of the format that is written. Earlier ones are read: version 2 had no vocabulary, and in "topk" no
probabilities of the rest; version 1 had no class names either, and its fingerprint of the data saw 64 examples alone."""
Version = Literal[1, 2, 3]
SHOWN_NAMES = 10
"""The most class names that a message shows."""
Count = Annotated[int, Field(ge=0, lt=2**48)]
Size = Annotated[int, Field(gt=0, lt=2**31)]


class StoreDescription(BaseModel):
    """What a store holds and what it was made from; every shard carries the same description."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    version: Version = VERSION
    """The version of the format."""
    codec: dict[str, Any]
    """The format and its settings, as ``codec_settings`` returns them."""
    classes: Annotated[int, Field(gt=0, lt=2**31)]
    """V, the number of classes."""
    class_names: tuple[str, ...] | None = None
    """The name of each class, in the order of the logits; None if they are not known."""
    vocabulary: str | None = None
    """What ``fingerprint_of_tokens`` returns for the tokens that the logits stand for; None if they are not known."""
    rows: Count
    """The number of examples in the whole store."""
    shard_rows: Annotated[int, Field(gt=0, lt=2**48)]
    """The number of examples in every shard but the last."""
    tokens: bool = False
    """True if an example is a sequence, with a position for each of its tokens."""
    pixels: tuple[Size, Size] | None = None
    """The height and width of the teacher's logits of an image, in a store with a position for each of its pixels; else None.
    It is written only where it is not None."""
    views: FixedViews | None = None
    """The augmented views of each example that are stored; None if each example is stored once, as it is."""
    head: str = ""
    """The checksum of the output layer's file; "" if the format needs none."""
    teacher: str
    """The fingerprint of the teacher."""
    data: str
    """The fingerprint of the examples, as the models get them."""

    @property
    def view_count(self) -> int:
        """Return how many views of each example are stored."""
        return self.views.count if self.views else 1

    @property
    def pixel_count(self) -> int:
        """Return how many positions each view of an example has: its pixels, or 1. In a store of sequences it says nothing."""
        return math.prod(self.pixels or ())

    @model_serializer(mode="wrap")
    def _as_written(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Return the fields without ``pixels`` where there are none, as earlier versions wrote and read them."""
        return {name: value for name, value in write(self).items() if name != "pixels" or value is not None}

    def columns(self) -> list[Column]:
        """Return the columns of every shard.

        Raises:
            StoreError: the format is unknown.
        """
        return codec_from(self.codec).columns(self.classes)

    def differences(self, found: StoreDescription) -> list[str]:
        """Return how a description that was found on the disk differs from this one.

        Args:
            found: the description on the disk.

        Returns:
            One text for each field that differs; empty if the two are equal.
        """
        expected_values, found_values = self.model_dump(), found.model_dump()
        return [
            _difference(name, found_values.get(name), expected_values.get(name))
            for name in {**expected_values, **found_values}
            if expected_values.get(name) != found_values.get(name)
        ]


def _difference(name: str, found: Any, expected: Any) -> str:
    """Return how the two values of a field differ; of long lists of names only the first pair that differs is shown."""
    if isinstance(found, tuple) and isinstance(expected, tuple) and len(found) == len(expected) > SHOWN_NAMES:
        number = next(i for i, (one, other) in enumerate(zip(found, expected, strict=True)) if one != other)
        return f"{name}: class {number} is {found[number]!r} there, {expected[number]!r} here"
    return f"{name}: {found} there, {expected} here"


class Manifest(BaseModel):
    """What is known about one shard; it stands in a file beside the shard's and shows that the shard is whole."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    rows: Count
    """The number of examples in the shard."""
    ids: str
    """The ids of the examples, as ``encode_ids`` returns them."""
    bytes: Count
    """The size of the shard's file."""
    checksum: str
    """The checksum of the shard's file, as ``file_checksum`` returns it."""
    description: StoreDescription
    """The description of the store that the shard is part of."""

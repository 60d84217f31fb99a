"""The ``cache`` section of a config: what ``limbeck cache build`` stores of each example."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from limbeck.field_checks import check_fields
from limbeck.store.codec_base import Codec
from limbeck.store.codecs import Dense, DenseDtype, Hidden
from limbeck.store.errors import StoreArgumentError
from limbeck.store.sparse_codecs import Sampled, TopK

Format = Literal["dense", "topk", "sampled", "hidden"]
PositiveInt = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]


@dataclass(frozen=True)
class CacheConfig:
    """The settings of a store: its format, and how it is divided.

    Raises:
        StoreArgumentError: a setting is out of its range, or the format does not have this dtype.

    Example:
        >>> CacheConfig(format="topk", k=8).codec(temperature=4.0)
        TopK(k=8, temperatures=(4.0,), dtype='float16')
    """

    format: Format = "dense"
    """What is kept of each position: "dense" all logits, "topk" the k most likely classes, "sampled" classes drawn from the
    teacher's distribution, "hidden" the inputs of the teacher's last linear layer."""
    dtype: DenseDtype = Dense.dtype
    """The type of the stored numbers. "topk" has float16 and float32 only, and takes float16 in place of others; "hidden" has
    no int8; "sampled" stores no such numbers."""
    k: PositiveInt = TopK.k
    """How many classes "topk" keeps; at least 1."""
    temperatures: tuple[PositiveFloat, ...] | None = None
    """The temperatures at which a "topk" store can be used, besides 1; by default the temperature of the distillation."""
    draws: PositiveInt = Sampled.draws
    """How many classes "sampled" draws, at the temperature of the distillation; at least 1."""
    views: PositiveInt = 1
    """How many augmented views of each image are stored, made by ``data.augmentation``; 1 for the image as it is."""
    shard_rows: PositiveInt | None = None
    """The number of examples in a file; by default as many as make 128 MB."""

    def __post_init__(self) -> None:
        check_fields(self, StoreArgumentError)
        self.codec(temperature=1.0)  # the format may lack the dtype

    def codec(self, temperature: float) -> Codec:
        """Return the codec that these settings ask for, with those of them that its format has.

        Args:
            temperature: the T of the distillation, at which "sampled" draws, and which "topk" keeps a log-normaliser for
                unless ``temperatures`` are given.

        Returns:
            The codec.

        Raises:
            StoreArgumentError: the temperature is not positive and finite.
        """
        match self.format:
            case "dense":
                return Dense(self.dtype)
            case "hidden":
                return Hidden(self.dtype)  # pyright: ignore[reportArgumentType] (Hidden refuses int8 itself)
            case "sampled":
                return Sampled(self.draws, temperature)
            case "topk":
                asked = (temperature,) if self.temperatures is None else self.temperatures
                others = tuple(sorted({t for t in asked if t != 1}))  # T = 1 needs no log-normaliser
                return TopK(self.k, others, "float32" if self.dtype == "float32" else "float16")

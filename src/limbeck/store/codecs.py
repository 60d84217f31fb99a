"""What is kept of a teacher's logits at one position, and how it becomes targets again: one small class for each format.

A codec turns logits (P, V) into named columns (P, width) of plain numbers, and columns into a ``TeacherOutput``. To add a
format, write one class and register it in ``CODECS``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor

from limbeck.errors import StoreError
from limbeck.losses import SparseTargets
from limbeck.teachers.base import TeacherOutput

Columns = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Column:
    """One column: numbers of a type, so many at each position."""

    name: str
    dtype: str
    """numpy's name."""
    width: int


class Codec(Protocol):
    """A format."""

    name: ClassVar[str]

    def columns(self, classes: int) -> list[Column]:
        """What is stored at a position."""
        ...

    def encode(self, logits: Tensor, generator: torch.Generator) -> dict[str, np.ndarray]:
        """(P, V) -> columns; ``generator`` is for what is drawn."""
        ...

    def decode(self, columns: Columns, classes: int) -> TeacherOutput:
        """Columns of P positions -> targets."""
        ...

    def payload(self, classes: int) -> float:
        """Bytes at a position, were nothing rounded up."""
        ...


@dataclass(frozen=True)
class Dense:
    """All logits, as float32, float16, bfloat16 (exactly what a bfloat16 teacher said) or int8 with a scale for each row."""

    name: ClassVar[str] = "dense"
    dtype: str = "float16"

    WIDTHS: ClassVar[dict[str, str]] = {
        "float32": "float32",
        "float16": "float16",
        "bfloat16": "uint16",
        "int8": "int8",
    }

    def __post_init__(self) -> None:
        if self.dtype not in self.WIDTHS:
            raise StoreError(f"dtype: expected one of {', '.join(self.WIDTHS)}, got {self.dtype!r}.")

    def columns(self, classes: int) -> list[Column]:
        columns = [Column("logits", self.WIDTHS[self.dtype], classes)]
        return [*columns, Column("range", "float32", 2)] if self.dtype == "int8" else columns

    def encode(self, logits: Tensor, generator: torch.Generator) -> dict[str, np.ndarray]:
        if self.dtype == "bfloat16":
            return {"logits": logits.to(torch.bfloat16).view(torch.int16).numpy().view(np.uint16)}
        values = logits.float()
        if self.dtype == "float32":
            return {"logits": values.numpy()}
        if self.dtype == "float16":
            finite = values[values.isfinite()]
            if finite.numel() and float(finite.abs().max()) > torch.finfo(torch.float16).max:
                raise StoreError(
                    "dtype: the teacher's logits go beyond float16 (65,504). Store them as float32 or bfloat16."
                )
            return {"logits": values.half().numpy()}
        low, high = values.aminmax(dim=-1, keepdim=True)
        if not bool(low.isfinite().all() and high.isfinite().all()):
            raise StoreError("dtype: int8 cannot hold logits that are not finite. Store them as float16.")
        middle, scale = (low + high) / 2, ((high - low) / 254).clamp(min=torch.finfo(torch.float32).tiny)
        steps = ((values - middle) / scale).round().clamp(-127, 127)
        return {"logits": steps.to(torch.int8).numpy(), "range": torch.cat([middle, scale], -1).numpy()}

    def decode(self, columns: Columns, classes: int) -> TeacherOutput:
        logits = torch.from_numpy(columns["logits"])
        if self.dtype == "bfloat16":
            return TeacherOutput(torch.from_numpy(columns["logits"].view(np.int16)).view(torch.bfloat16))
        if self.dtype == "int8":
            middle, scale = torch.from_numpy(columns["range"]).split(1, -1)
            return TeacherOutput(logits.float() * scale + middle)
        return TeacherOutput(logits)

    def payload(self, classes: int) -> float:
        return sum(np.dtype(column.dtype).itemsize * column.width for column in self.columns(classes))


@dataclass(frozen=True)
class TopK:
    """The k most likely classes: ids in as many bits as the vocabulary needs, log-probabilities at T = 1, and the
    log-normaliser of every temperature that may be wanted."""

    name: ClassVar[str] = "topk"
    k: int = 64
    temperatures: tuple[float, ...] = ()
    dtype: str = "float16"

    def __post_init__(self) -> None:
        object.__setattr__(self, "temperatures", tuple(float(t) for t in self.temperatures))
        if self.k < 1:
            raise StoreError(f"k: expected at least 1, got {self.k}.")
        if self.dtype not in ("float16", "float32"):
            raise StoreError(f"dtype: expected 'float16' or 'float32', got {self.dtype!r}.")
        if any(not (t > 0 and math.isfinite(t)) or t == 1 for t in self.temperatures):
            raise StoreError(f"temperatures: expected positive numbers other than 1, got {self.temperatures}.")

    def columns(self, classes: int) -> list[Column]:
        kept = min(self.k, classes)
        columns = [Column("ids", "uint8", _bytes(kept, classes)), Column("log_probs", self.dtype, kept)]
        return (
            [*columns, Column("log_normalizers", "float32", len(self.temperatures))] if self.temperatures else columns
        )

    def encode(self, logits: Tensor, generator: torch.Generator) -> dict[str, np.ndarray]:
        targets = SparseTargets.top_k(logits, self.k, self.temperatures)
        assert targets.log_probs is not None
        dtype = torch.float16 if self.dtype == "float16" else torch.float32
        columns = {"ids": pack(targets.ids, logits.shape[-1]), "log_probs": targets.log_probs.to(dtype).numpy()}
        if self.temperatures:
            columns["log_normalizers"] = torch.stack(list(targets.log_normalizers.values()), -1).float().numpy()
        return columns

    def decode(self, columns: Columns, classes: int) -> TeacherOutput:
        ids = unpack(columns["ids"], min(self.k, classes), classes)
        normalizers = torch.from_numpy(columns["log_normalizers"]).unbind(-1) if self.temperatures else ()
        log_probs = torch.from_numpy(columns["log_probs"]).float()
        return TeacherOutput(
            targets=SparseTargets(ids, log_probs, dict(zip(self.temperatures, normalizers, strict=True)))
        )

    def payload(self, classes: int) -> float:
        kept = min(self.k, classes)
        return kept * (_bits(classes) / 8 + (2 if self.dtype == "float16" else 4)) + 4 * len(self.temperatures)


@dataclass(frozen=True)
class Sampled:
    """Draws with replacement from the teacher at a temperature: ids alone, an unbiased stand-in for all probabilities."""

    name: ClassVar[str] = "sampled"
    draws: int = 12
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if self.draws < 1 or not (self.temperature > 0 and math.isfinite(self.temperature)):
            raise StoreError(
                f"draws: expected at least 1, at a positive temperature, got {self.draws} at {self.temperature}."
            )

    def columns(self, classes: int) -> list[Column]:
        return [Column("ids", "uint8", _bytes(self.draws, classes))]

    def encode(self, logits: Tensor, generator: torch.Generator) -> dict[str, np.ndarray]:
        targets = SparseTargets.sample(logits, self.draws, temperature=self.temperature, generator=generator)
        return {"ids": pack(targets.ids, logits.shape[-1])}

    def decode(self, columns: Columns, classes: int) -> TeacherOutput:
        ids = unpack(columns["ids"], self.draws, classes)
        return TeacherOutput(
            targets=SparseTargets(ids, None, counts=torch.ones_like(ids), drawn_at=float(self.temperature))
        )

    def payload(self, classes: int) -> float:
        return self.draws * _bits(classes) / 8


@dataclass(frozen=True)
class Hidden:
    """What goes into the teacher's last linear layer, which stands beside the shards and is applied when they are read.

    As exact as its dtype, at size / V of the bytes of all logits. ``size`` is found when the store is built.
    """

    name: ClassVar[str] = "hidden"
    dtype: str = "float16"
    size: int = 0

    def __post_init__(self) -> None:
        if self.dtype not in ("float32", "float16", "bfloat16"):
            raise StoreError(f"dtype: expected 'float32', 'float16' or 'bfloat16', got {self.dtype!r}.")

    def columns(self, classes: int) -> list[Column]:
        return [Column("hidden", Dense.WIDTHS[self.dtype], self.size)]

    def encode(self, logits: Tensor, generator: torch.Generator) -> dict[str, np.ndarray]:
        return {"hidden": Dense(self.dtype).encode(logits, generator)["logits"]}

    def decode(self, columns: Columns, classes: int) -> TeacherOutput:
        return Dense(self.dtype).decode({"logits": columns["hidden"]}, classes)

    def payload(self, classes: int) -> float:
        return Dense(self.dtype).payload(self.size)


CODECS: dict[str, type[Dense] | type[TopK] | type[Sampled] | type[Hidden]] = {
    codec.name: codec for codec in (Dense, TopK, Sampled, Hidden)
}


def spec_of(codec: Codec) -> dict[str, Any]:
    """A codec as JSON has it."""
    settings = {name: list(x) if isinstance(x, tuple) else x for name, x in asdict(codec).items()}  # pyright: ignore[reportArgumentType]
    return {"format": codec.name, **settings}


def codec_from(spec: Mapping[str, Any]) -> Codec:
    """The codec that ``spec_of`` told.

    Raises:
        StoreError: an unknown format, or settings that it does not have.
    """
    settings: dict[str, Any] = {
        name: tuple(x) if isinstance(x, list) else x for name, x in spec.items() if name != "format"
    }
    if spec.get("format") not in CODECS:
        raise StoreError(f"format: expected one of {', '.join(CODECS)}, got {spec.get('format')!r}.")
    try:
        return CODECS[spec["format"]](**settings)
    except TypeError as error:
        raise StoreError(f"format: {spec['format']} cannot be made from {settings} ({error}).") from None


def pack(ids: Tensor, classes: int) -> np.ndarray:
    """(P, k) ids -> (P, bytes), each id in as many bits as the vocabulary needs."""
    bits = _bits(classes)
    places = np.arange(bits, dtype=np.int64)
    flags = ((ids.numpy()[..., None] >> places) & 1).astype(np.uint8)
    return np.packbits(flags.reshape(len(ids), -1), axis=-1, bitorder="little")


def unpack(packed: np.ndarray, k: int, classes: int) -> Tensor:
    """The ids that were packed.

    Raises:
        StoreError: an id that the vocabulary does not have.
    """
    bits = _bits(classes)
    flags = np.unpackbits(packed, axis=-1, count=k * bits, bitorder="little").reshape(len(packed), k, bits)
    ids = flags.astype(np.int32) @ (1 << np.arange(bits, dtype=np.int32))
    if ids.size and int(ids.max()) >= classes:
        raise StoreError(
            f"ids: {int(ids.max())} is out of range for {classes} classes. The store is damaged or forged."
        )
    return torch.from_numpy(ids.astype(np.int64))


def _bits(classes: int) -> int:
    return max(1, (classes - 1).bit_length())


def _bytes(count: int, classes: int) -> int:
    return (count * _bits(classes) + 7) // 8

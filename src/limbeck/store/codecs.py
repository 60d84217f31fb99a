"""The formats of a store: one small class for each, which turns logits into columns of numbers and back into targets.

A codec turns the logits (P, V) of P positions into named columns (P, width) of plain numbers, and columns into a
``TeacherOutput``. A position is an example, a view of an example, or a token of a sequence. To add a format, write one class
and add it to ``CODECS``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from limbeck.errors import StoreError
from limbeck.store.codec_base import Codec, Column, Columns
from limbeck.store.errors import StoreArgumentError, UnstorableError
from limbeck.store.sparse_codecs import Sampled, TopK
from limbeck.store.values import check_softmax, convert
from limbeck.teachers import TeacherOutput

DenseDtype = Literal["float32", "float16", "bfloat16", "int8"]
HiddenDtype = Literal["float32", "float16", "bfloat16"]

NUMPY_DTYPES: dict[DenseDtype, str] = {
    "float32": "float32",
    "float16": "float16",
    "bfloat16": "uint16",  # numpy and Arrow have no bfloat16; its 16 bits are kept as they are
    "int8": "int8",
}


@dataclass(frozen=True)
class Dense(Codec):
    """The format that keeps all logits of a position.

    Args:
        dtype: "float32"; "float16"; "bfloat16", which keeps the logits of a bfloat16 teacher exactly; or "int8", with a
            range for each position, so that a logit is off by at most a 508th of the range.

    Raises:
        StoreArgumentError: ``dtype`` is none of these.
    """

    name: ClassVar[str] = "dense"
    dtype: DenseDtype = "float16"

    def __post_init__(self) -> None:
        if self.dtype not in NUMPY_DTYPES:
            raise StoreArgumentError("dtype", f"expected one of {', '.join(NUMPY_DTYPES)}, got {self.dtype!r}.")

    def columns(self, classes: int) -> list[Column]:
        """Return the column of logits, and for int8 the middle and the step of each position's range."""
        columns = [Column("logits", NUMPY_DTYPES[self.dtype], classes)]
        return [*columns, Column("range", "float32", 2)] if self.dtype == "int8" else columns

    def encode(self, logits: Tensor, generator: torch.Generator) -> dict[str, np.ndarray]:
        """Return the logits in the stored dtype."""
        check_softmax(logits)
        if self.dtype == "int8":
            return _encode_int8(logits.float())
        return {"logits": convert(logits, self.dtype, "logits")}

    def decode(self, columns: Columns, classes: int) -> TeacherOutput:
        """Return the logits (P, V) in the stored dtype, or in float32 if int8 is stored."""
        stored = columns["logits"]
        if self.dtype == "bfloat16":
            return TeacherOutput(torch.from_numpy(stored.view(np.int16)).view(torch.bfloat16))
        logits = torch.from_numpy(stored)
        if self.dtype == "int8":
            middle, step = torch.from_numpy(columns["range"]).split(1, -1)
            return TeacherOutput(logits.float() * step + middle)
        return TeacherOutput(logits)

    def payload_bytes(self, classes: int) -> float:
        """Return the size of the columns, which is exact for this format."""
        return sum(np.dtype(column.dtype).itemsize * column.width for column in self.columns(classes))


def _encode_int8(logits: Tensor) -> dict[str, np.ndarray]:
    """Return float32 logits as 255 equal steps between the smallest and the largest logit of each position."""
    low, high = logits.aminmax(dim=-1, keepdim=True)
    wrong = ~(high - low).isfinite().squeeze(-1)
    if bool(wrong.any()):
        raise UnstorableError("dtype", "int8 cannot hold logits that are not finite. Store them as float16.", wrong)
    middle, step = (low + high) / 2, ((high - low) / 254).clamp(min=torch.finfo(torch.float32).tiny)
    steps = ((logits - middle) / step).round().clamp(-127, 127)
    return {"logits": steps.to(torch.int8).numpy(), "range": torch.cat([middle, step], -1).numpy()}


@dataclass(frozen=True)
class Hidden(Codec):
    """The format that keeps the inputs of the teacher's last linear layer, which is kept once beside the shards.

    The layer is applied when a batch is looked up, which gives all logits. They are as exact as the dtype of the inputs, and
    take d / V of the bytes of all logits.

    Args:
        dtype: "float32", "float16" or "bfloat16".
        size: d, the number of the layer's inputs. ``build_store`` sets it.

    Raises:
        StoreArgumentError: ``dtype`` is none of these.
    """

    name: ClassVar[str] = "hidden"
    dtype: HiddenDtype = "float16"
    size: int = 0

    def __post_init__(self) -> None:
        if self.dtype not in get_args(HiddenDtype):
            raise StoreArgumentError("dtype", f"expected 'float32', 'float16' or 'bfloat16', got {self.dtype!r}.")

    def columns(self, classes: int) -> list[Column]:
        """Return the column of hidden states."""
        return [Column("hidden", NUMPY_DTYPES[self.dtype], self.size)]

    def encode(self, logits: Tensor, generator: torch.Generator) -> dict[str, np.ndarray]:
        """Return the hidden states (P, d), which take the place of logits, in the stored dtype.

        Raises:
            UnstorableError: a hidden state is NaN, infinite or too large for the dtype.
        """
        wrong = ~logits.isfinite().all(-1)
        if bool(wrong.any()):
            message = "the inputs of its last linear layer are NaN or infinite. Store dense logits?"
            raise UnstorableError("teacher", message, wrong)
        return {"hidden": convert(logits, self.dtype, "hidden states")}

    def decode(self, columns: Columns, classes: int) -> TeacherOutput:
        """Return the hidden states (P, d) in the place of logits."""
        return Dense(self.dtype).decode({"logits": columns["hidden"]}, classes)

    def payload_bytes(self, classes: int) -> float:
        """Return the size of the hidden states, without the layer itself."""
        return Dense(self.dtype).payload_bytes(self.size)


CODECS: dict[str, type[Dense] | type[TopK] | type[Sampled] | type[Hidden]] = {
    codec.name: codec for codec in (Dense, TopK, Sampled, Hidden)
}
"""The formats by name."""


def codec_settings(codec: Codec) -> dict[str, Any]:
    """Return a codec's format and settings, as a manifest keeps them.

    Args:
        codec: one of the classes in ``CODECS``.

    Returns:
        A mapping that JSON can hold: "format" and the codec's own fields.
    """
    settings = {name: list(x) if isinstance(x, tuple) else x for name, x in asdict(codec).items()}  # pyright: ignore[reportArgumentType]
    if settings.get("rests") is False:  # versions 1 and 2 did not have this setting
        del settings["rests"]
    return {"format": codec.name, **settings}


def codec_from(settings: Mapping[str, Any]) -> Codec:
    """Return the codec that ``codec_settings`` described.

    Args:
        settings: "format" and the codec's own fields. They may come from a damaged or forged file.

    Returns:
        An equal codec.

    Raises:
        StoreError: the format is unknown, or it does not have these settings.
    """
    name = settings.get("format")
    if not isinstance(name, str) or name not in CODECS:
        raise StoreError(f"format: expected one of {', '.join(CODECS)}, got {name!r}.")
    fields: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in settings.items() if key != "format"
    }
    if name == TopK.name:
        fields = {"rests": False, **fields}
    try:
        return CODECS[name](**fields)
    except StoreError:
        raise
    except (TypeError, ValueError) as error:
        raise StoreError(f"format: {name} cannot be made from {fields} ({error}).") from None

"""The formats of a store: one small class for each, which turns logits into columns of numbers and back into targets.

A codec turns the logits (P, V) of P positions into named columns (P, width) of plain numbers, and columns into a
``TeacherOutput``. A position is an example, a view of an example, or a token of a sequence. To add a format, write one class
and add it to ``CODECS``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal, Protocol, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from limbeck.errors import StoreError
from limbeck.losses import SparseTargets
from limbeck.store.bit_packing import bits_per_id, bytes_for_ids, pack_ids, unpack_ids
from limbeck.store.errors import StoreArgumentError, UnstorableError
from limbeck.store.values import check_softmax, convert
from limbeck.teachers import TeacherOutput

DenseDtype = Literal["float32", "float16", "bfloat16", "int8"]
TopKDtype = Literal["float16", "float32"]
HiddenDtype = Literal["float32", "float16", "bfloat16"]

Columns = Mapping[str, np.ndarray]
"""The stored numbers of P positions: for each column's name an array (P, width)."""

NUMPY_DTYPES: dict[DenseDtype, str] = {
    "float32": "float32",
    "float16": "float16",
    "bfloat16": "uint16",  # numpy and Arrow have no bfloat16; its 16 bits are kept as they are
    "int8": "int8",
}


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
class TopK(Codec):
    """The format that keeps the k most likely classes of a position, with their log-probabilities at T = 1.

    Class ids take as many bits as the number of classes needs. The probability of all other classes is kept beside the list, as
    log odds, at T = 1 and at other temperatures, at which alone a student can be trained. It tells the log-normaliser, and it
    is exact where the list leaves next to nothing.

    Args:
        k: how many classes to keep; all of them if there are fewer.
        temperatures: temperatures other than 1 at which the targets can be used; each takes a float32.
        dtype: the dtype of the log-probabilities, "float16" or "float32".
        rests: False in stores of version 1 and 2, which kept log-normalisers, and no rest.

    Raises:
        StoreArgumentError: ``k`` is below 1, ``dtype`` is another one, or a temperature is 1, not positive or not finite.
    """

    name: ClassVar[str] = "topk"
    k: int = 64
    temperatures: tuple[float, ...] = ()
    dtype: TopKDtype = "float16"
    rests: bool = field(default=True, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "temperatures", tuple(float(t) for t in self.temperatures))
        if self.k < 1:
            raise StoreArgumentError("k", f"expected at least 1, got {self.k}.")
        if self.dtype not in get_args(TopKDtype):
            raise StoreArgumentError("dtype", f"expected 'float16' or 'float32', got {self.dtype!r}.")
        if any(not (t > 0 and math.isfinite(t)) or t == 1 for t in self.temperatures):
            raise StoreArgumentError(
                "temperatures", f"expected positive numbers other than 1, got {self.temperatures}."
            )

    def columns(self, classes: int) -> list[Column]:
        """Return the columns of packed ids, of log-probabilities, and of the rest at each temperature."""
        kept = min(self.k, classes)
        columns = [Column("ids", "uint8", bytes_for_ids(kept, classes)), Column("log_probs", self.dtype, kept)]
        if self.rests:
            columns.append(Column("rest_log_odds", "float32", 1 + len(self.temperatures)))
        elif self.temperatures:
            columns.append(Column("log_normalizers", "float32", len(self.temperatures)))
        return columns

    def encode(self, logits: Tensor, generator: torch.Generator) -> dict[str, np.ndarray]:
        """Return the ids and log-probabilities of the k largest logits, and the odds of the rest at each temperature."""
        check_softmax(logits)
        targets = SparseTargets.top_k(logits, self.k, self.temperatures)
        assert targets.log_probs is not None
        dtype = torch.float16 if self.dtype == "float16" else torch.float32
        columns = {"ids": pack_ids(targets.ids, logits.shape[-1]), "log_probs": targets.log_probs.to(dtype).numpy()}
        if self.rests:
            odds = [rest - torch.logsumexp(targets.at(t), -1) for t, rest in targets.log_rests.items()]
            columns["rest_log_odds"] = torch.stack(odds, -1).float().numpy()
        elif self.temperatures:
            columns["log_normalizers"] = torch.stack(list(targets.log_normalizers.values()), -1).float().numpy()
        return columns

    def decode(self, columns: Columns, classes: int) -> TeacherOutput:
        """Return sparse targets (P, k) with log-probabilities in float32."""
        ids = unpack_ids(columns["ids"], min(self.k, classes), classes)
        log_probs = torch.from_numpy(columns["log_probs"]).float()
        if self.rests:
            return TeacherOutput(targets=_with_rests(ids, log_probs, columns["rest_log_odds"], self.temperatures))
        normalizers = torch.from_numpy(columns["log_normalizers"]).unbind(-1) if self.temperatures else ()
        return TeacherOutput(
            targets=SparseTargets(ids, log_probs, dict(zip(self.temperatures, normalizers, strict=True)))
        )

    def payload_bytes(self, classes: int) -> float:
        """Return the size with ids at their exact number of bits."""
        log_prob_bytes = 2 if self.dtype == "float16" else 4
        return min(self.k, classes) * (bits_per_id(classes) / 8 + log_prob_bytes) + 4 * (
            self.rests + len(self.temperatures)
        )


def _with_rests(ids: Tensor, log_probs: Tensor, odds: np.ndarray, temperatures: tuple[float, ...]) -> SparseTargets:
    """Return targets whose listed classes and rest have the probability 1 together, at T = 1 and at the temperatures.

    The stored log-probabilities are rounded. One number for each position and temperature makes up for it:

        A_T = log sum over the list of p(i)^(1/T)  -  log(1 - rest_T)
    """
    by_temperature = dict(zip((1.0, *temperatures), torch.from_numpy(odds).unbind(-1), strict=True))
    rests = {t: logsigmoid(x) for t, x in by_temperature.items()}
    normalizers = {t: torch.logsumexp(log_probs / t, -1) - logsigmoid(-x) for t, x in by_temperature.items()}
    shift = normalizers.pop(1.0)
    normalizers = {t: normalizer - shift / t for t, normalizer in normalizers.items()}
    return SparseTargets(ids, log_probs - shift.unsqueeze(-1), normalizers, log_rests=rests)


@dataclass(frozen=True)
class Sampled(Codec):
    """The format that keeps class ids drawn from the teacher's distribution, with replacement.

    The draws give an unbiased estimate of all probabilities at one temperature, for which alone they can be used.

    Args:
        draws: how many ids to draw at each position.
        temperature: the T of the distribution.

    Raises:
        StoreArgumentError: ``draws`` is below 1, or ``temperature`` is not positive and finite.
    """

    name: ClassVar[str] = "sampled"
    draws: int = 12
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if self.draws < 1 or not (self.temperature > 0 and math.isfinite(self.temperature)):
            raise StoreArgumentError(
                "draws", f"expected at least 1, at a positive temperature, got {self.draws} at {self.temperature}."
            )

    def columns(self, classes: int) -> list[Column]:
        """Return the column of packed ids."""
        return [Column("ids", "uint8", bytes_for_ids(self.draws, classes))]

    def encode(self, logits: Tensor, generator: torch.Generator) -> dict[str, np.ndarray]:
        """Return ids drawn with the generator."""
        check_softmax(logits)
        targets = SparseTargets.sample(logits, self.draws, temperature=self.temperature, generator=generator)
        return {"ids": pack_ids(targets.ids, logits.shape[-1])}

    def decode(self, columns: Columns, classes: int) -> TeacherOutput:
        """Return sparse targets (P, draws) with counts and without log-probabilities."""
        ids = unpack_ids(columns["ids"], self.draws, classes)
        return TeacherOutput(
            targets=SparseTargets(ids, None, counts=torch.ones_like(ids), drawn_at=float(self.temperature))
        )

    def payload_bytes(self, classes: int) -> float:
        """Return the size with ids at their exact number of bits."""
        return self.draws * bits_per_id(classes) / 8


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

"""The formats that keep some classes of each position: the most likely ones, or classes drawn at random."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar, Literal, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from limbeck.losses import SparseTargets
from limbeck.store.bit_packing import bits_per_id, bytes_for_ids, pack_ids, unpack_ids
from limbeck.store.codec_base import Codec, Column, Columns
from limbeck.store.errors import StoreArgumentError
from limbeck.store.values import check_softmax
from limbeck.teachers import TeacherOutput

TopKDtype = Literal["float16", "float32"]


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

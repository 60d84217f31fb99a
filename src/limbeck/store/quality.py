"""The quality of a format: how many bytes it takes, and how far it changes the teacher's probabilities."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from limbeck.store.codec_base import Codec


@dataclass(frozen=True)
class FormatQuality:
    """The size and the error of a format, measured on some logits."""

    stored_bytes: float
    """Bytes of the columns at a position."""
    payload_bytes: float
    """The same, not rounded up to whole bytes."""
    mean_error: float | None
    """The mean over positions of sum_i p_i |log q_i - log p_i|, where p is the teacher's softmax at T = 1, q the stored one,
    and the sum is over the classes that the format keeps. None for draws, which keep no probabilities."""
    largest_error: float | None
    """The largest |log q_i - log p_i|; None for draws."""


def measure_format(codec: Codec, logits: Tensor) -> FormatQuality:
    """Encode logits, decode them, and compare the log-probabilities at T = 1.

    Args:
        codec: the format; not ``Hidden``, which does not encode logits.
        logits: (P, V) on the CPU.

    Returns:
        The bytes and the errors.

    Raises:
        StoreArgumentError: the format cannot hold these logits.
    """
    classes = logits.shape[-1]
    stored = codec.encode(logits, torch.Generator().manual_seed(0))
    output = codec.decode(stored, classes)
    stored_bytes = sum(column.nbytes for column in stored.values()) / len(logits)
    truth = logits.double().log_softmax(-1)
    if output.logits is not None:
        found = output.logits.double().log_softmax(-1)
    elif output.targets is not None and output.targets.log_probs is not None:
        found, truth = output.targets.log_probs.double(), truth.gather(-1, output.targets.ids)
    else:
        return FormatQuality(stored_bytes, codec.payload_bytes(classes), None, None)
    # A class that the teacher excludes has log p = -inf on both sides, whose difference is NaN.
    error = (found - truth).abs().masked_fill(truth.isneginf(), 0.0)
    mean_error = (truth.exp() * error).sum(-1).mean().item()
    return FormatQuality(stored_bytes, codec.payload_bytes(classes), mean_error, error.max().item())

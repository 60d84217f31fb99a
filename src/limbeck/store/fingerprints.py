"""Fingerprints of the teacher and of the examples, by which a store is known to belong to them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
import xxhash
from torch import Tensor, nn

from limbeck.data import Examples

SAMPLED_EXAMPLES = 64
"""The number of examples whose inputs are part of the fingerprint."""

NOT_PART_OF_THE_MODEL = ("_name_or_path", "transformers_version")
"""Keys of a Hugging Face config that change although the model stays the same."""


def fingerprint_of_model(model: nn.Module) -> str:
    """Return a fingerprint of a model's weights, buffers and Hugging Face config.

    Args:
        model: any module.

    Returns:
        32 hexadecimal digits. They change with the name, dtype, shape or value of any weight or buffer, and with the config
        of a Hugging Face model.
    """
    digest = xxhash.xxh3_128()
    for name, tensor in sorted(model.state_dict().items()):
        _add(digest, name, tensor)
    config = getattr(model, "config", None)
    if config is not None and hasattr(config, "to_dict"):
        settings = {name: value for name, value in config.to_dict().items() if name not in NOT_PART_OF_THE_MODEL}
        digest.update(json.dumps(settings, sort_keys=True, default=str).encode())
    return digest.hexdigest()


def fingerprint_of_examples(examples: Examples) -> str:
    """Return a fingerprint of the ids of all examples and of the inputs of some.

    Args:
        examples: the examples. Their order does not matter.

    Returns:
        32 hexadecimal digits. They change with any id, and with the inputs (after normalisation or tokenisation) of the 64
        examples that are looked at, which are spread evenly over all.
    """
    digest = xxhash.xxh3_128()
    rows = examples.ids.sort().values
    _add(digest, "ids", rows)
    if len(rows):
        chosen = torch.linspace(0, len(rows) - 1, min(SAMPLED_EXAMPLES, len(rows))).round().long()
        batch: Mapping[str, Any] = examples.load(rows[chosen].tolist())
        for name, value in sorted(batch.items()):
            if isinstance(value, Tensor):
                _add(digest, name, value)
    return digest.hexdigest()


def _add(digest: Any, name: str, tensor: Tensor) -> None:
    """Add a tensor's name, dtype, shape and content to a digest."""
    digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
    digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())

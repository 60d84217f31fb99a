"""What a store was made from, as a short name of its content: other weights or other inputs give another name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
import xxhash
from torch import Tensor, nn

SAMPLED = 64
"""Examples whose inputs are looked at."""


def fingerprint_of_model(model: nn.Module) -> str:
    """Of every weight and buffer by name, dtype, shape and value, and of a Hugging Face model's config."""
    digest = xxhash.xxh3_128()
    for name, tensor in sorted(model.state_dict().items()):
        _add(digest, name, tensor)
    config = getattr(model, "config", None)
    if config is not None and hasattr(config, "to_dict"):
        told = {
            name: value
            for name, value in config.to_dict().items()
            if name not in ("_name_or_path", "transformers_version")
        }
        digest.update(json.dumps(told, sort_keys=True, default=str).encode())
    return digest.hexdigest()


def fingerprint_of_examples(examples: Any) -> str:
    """Of the ids of all examples, and of the inputs, as the models get them, of 64 spread evenly over them."""
    digest = xxhash.xxh3_128()
    rows = examples.ids.sort().values
    _add(digest, "ids", rows)
    if len(rows):
        chosen = torch.linspace(0, len(rows) - 1, min(SAMPLED, len(rows))).round().long()
        batch: Mapping[str, Any] = examples.load(rows[chosen].tolist())
        for name, value in sorted(batch.items()):
            if isinstance(value, Tensor):
                _add(digest, name, value)
    return digest.hexdigest()


def _add(digest: Any, name: str, tensor: Tensor) -> None:
    digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
    digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())

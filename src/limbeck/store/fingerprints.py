"""Fingerprints of the teacher and of the examples, by which a store is known to belong to them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import xxhash
from torch import Tensor, nn

from limbeck.data import Examples, HasSourceBytes
from limbeck.errors import StoreError
from limbeck.store.description import VERSION

BLOCK = 256
"""The number of examples that are loaded at a time. Texts are padded to the longest of a block, so it must not change."""

LOADED_EXAMPLES = 64
"""The number of examples that are loaded where the others are compared by the bytes they are loaded from; and the number that
version 1 of the format looked at."""

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


def fingerprint_of_examples(examples: Examples, version: int = VERSION) -> str:
    """Return a fingerprint of the ids and the inputs of all examples.

    Where the loader tells the bytes that an example is loaded from (``HasSourceBytes``), these stand for its inputs, and only
    64 examples are loaded as well: to decode every image twice would cost as much as a small teacher.

    Args:
        examples: the examples. Their order does not matter, and their labels are no part of the fingerprint.
        version: the version of the store's format. Version 1 saw the inputs of 64 examples alone.

    Returns:
        32 hexadecimal digits. They change with any id, and with the inputs (after normalisation or tokenisation) of any
        example.

    Raises:
        StoreError: a batch has an entry that cannot be compared, such as an object of a class of its own.
    """
    digest = xxhash.xxh3_128()
    rows = examples.ids.sort().values
    _add(digest, "ids", rows)
    some = rows[torch.linspace(0, len(rows) - 1, min(LOADED_EXAMPLES, len(rows))).round().long()]
    if version == 1:
        if len(some):
            tensors = {name: x for name, x in examples.load(some.tolist()).items() if isinstance(x, Tensor)}
            _add_batch(digest, tensors)
        return digest.hexdigest()
    load = examples.load
    has_source = isinstance(load, HasSourceBytes)
    for block in (some if has_source else rows).split(BLOCK):
        if len(block):
            _add_batch(digest, load(block.tolist()))
    if has_source:
        for content in load.source_bytes(rows.tolist()):
            digest.update(f"{len(content)} ".encode())
            digest.update(content)
    return digest.hexdigest()


def _add_batch(digest: Any, batch: Mapping[str, Any]) -> None:
    """Add every entry of a batch to a digest, but the labels of pixels or tokens and where they are."""
    for name, value in sorted(batch.items()):
        if name in ("labels", "mask"):
            continue
        if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
            value = torch.from_numpy(value)
        if isinstance(value, Tensor):
            _add(digest, name, value)
            continue
        try:
            digest.update(json.dumps([name, value]).encode())
        except (TypeError, ValueError):
            raise StoreError(
                f"{name}: the batch has a {type(value).__name__} there, which cannot be compared with the one that a store was "
                "built from. Load it as a tensor, a number, a text or a list of these."
            ) from None


def _add(digest: Any, name: str, tensor: Tensor) -> None:
    """Add a tensor's name, dtype, shape and content to a digest."""
    digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
    digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())

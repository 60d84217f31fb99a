"""Class ids in as few bits as the number of classes needs: 6 bits for 37 classes, 17 for 128,000."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from limbeck.errors import StoreError


def bits_per_id(classes: int) -> int:
    """Return how many bits the id of a class takes.

    Args:
        classes: the number of classes, at least 1.

    Returns:
        The smallest number of bits, at least 1, that can hold ``classes - 1``.
    """
    return max(1, (classes - 1).bit_length())


def bytes_for_ids(count: int, classes: int) -> int:
    """Return how many bytes the packed ids of one position take.

    Args:
        count: ids at a position.
        classes: the number of classes.

    Returns:
        ``count * bits_per_id(classes)`` bits, rounded up to whole bytes.
    """
    return (count * bits_per_id(classes) + 7) // 8


def pack_ids(ids: Tensor, classes: int) -> np.ndarray:
    """Return class ids, packed.

    Args:
        ids: (P, k) int64, from 0 to ``classes - 1``.
        classes: the number of classes.

    Returns:
        (P, ``bytes_for_ids(k, classes)``) uint8. The first id has the lowest bits of the first byte.
    """
    bit_numbers = np.arange(bits_per_id(classes), dtype=np.int64)
    bits = ((ids.numpy()[..., None] >> bit_numbers) & 1).astype(np.uint8)
    return np.packbits(bits.reshape(len(ids), -1), axis=-1, bitorder="little")


def unpack_ids(packed: np.ndarray, count: int, classes: int) -> Tensor:
    """Return the class ids that ``pack_ids`` was given.

    Args:
        packed: (P, bytes) uint8.
        count: k, the number of ids at a position.
        classes: the number of classes.

    Returns:
        (P, k) int64.

    Raises:
        StoreError: an id is not below ``classes``.
    """
    width = bits_per_id(classes)
    bits = np.unpackbits(packed, axis=-1, count=count * width, bitorder="little").reshape(len(packed), count, width)
    ids = bits.astype(np.int32) @ (1 << np.arange(width, dtype=np.int32))
    if ids.size and int(ids.max()) >= classes:
        raise StoreError(
            f"ids: {int(ids.max())} is out of range for {classes} classes. The store is damaged or forged."
        )
    return torch.from_numpy(ids.astype(np.int64))

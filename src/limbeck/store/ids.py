"""The ids of a shard's examples as compact text, for the shard's manifest.

The ids ascend, so their differences are kept. Most differences are 1, which compresses to almost nothing.

    steps = differences of consecutive ids (the first one from 0)
    text  = base64(zlib(byte 0 of every step, then byte 1 of every step, ..., then byte 7 of every step))

An ``int64`` column would take 8 bytes for each example, which with ten classes is 40 % of the stored logits.
"""

from __future__ import annotations

import base64
import zlib

import numpy as np

LARGEST = 2**48
"""Ids are smaller than this."""


def encode_ids(ids: np.ndarray) -> str:
    """Return the text that stands for ascending ids.

    Args:
        ids: (rows,) integers, ascending, from 0 to 2^48 - 1.

    Returns:
        Base64 text. ``decode_ids`` turns it back.
    """
    steps = np.diff(ids.astype("<i8"), prepend=0)
    planes = np.ascontiguousarray(steps).view(np.uint8).reshape(-1, 8).T
    return base64.b64encode(zlib.compress(planes.tobytes(), 9)).decode("ascii")


def decode_ids(text: str, rows: int) -> np.ndarray:
    """Return the ids that ``encode_ids`` was given.

    Args:
        text: what ``encode_ids`` returned. It may come from a damaged or forged file.
        rows: how many ids are expected.

    Returns:
        (rows,) int64, ascending.

    Raises:
        ValueError: the text holds another number of ids, ids that do not ascend, or ids outside 0 to 2^48 - 1.
    """
    try:
        packed, reader = base64.b64decode(text, validate=True), zlib.decompressobj()
        # The limit protects the memory against a small text that unpacks to gigabytes.
        data = reader.decompress(packed, 8 * rows + 1)
    except (ValueError, zlib.error) as error:
        raise ValueError(f"ids: cannot be unpacked ({error})") from None
    if len(data) != 8 * rows or not reader.eof or reader.unused_data:
        raise ValueError(f"ids: expected {rows}, found {len(data) // 8 if reader.eof else 'more'}")
    # Base64 ignores some bits at its end. A flip of one of them must be found too.
    if base64.b64encode(packed).decode("ascii") != text:
        raise ValueError("ids: not as they were written")
    steps = np.frombuffer(data, np.uint8).reshape(8, rows).T.copy().view("<i8").reshape(-1)
    if rows and (steps[0] < 0 or (steps[1:] <= 0).any()):
        raise ValueError("ids: do not ascend")
    if steps.sum(dtype=float) >= LARGEST:
        raise ValueError("ids: go beyond 2^48")
    return np.cumsum(steps)

"""The ids of a shard's examples, in its manifest: ascending, so their steps are kept, and steps of 1 take next to nothing.

    ids   = cumsum(steps)
    text  = base64(zlib(the 8 bytes of every step, first bytes first, then all second bytes, ...))

An ``int64`` column would take 8 bytes an example, which with ten classes is 40 % of what the teacher said.
"""

from __future__ import annotations

import base64
import zlib

import numpy as np

LARGEST = 2**48


def write_ids(ids: np.ndarray) -> str:
    """Ascending ids -> text."""
    steps = np.diff(ids.astype("<i8"), prepend=0)
    planes = np.ascontiguousarray(steps).view(np.uint8).reshape(-1, 8).T
    return base64.b64encode(zlib.compress(planes.tobytes(), 9)).decode("ascii")


def read_ids(text: str, rows: int) -> np.ndarray:
    """What ``write_ids`` was given.

    Raises:
        ValueError: not that many ids, or they do not ascend from at least 0 to below 2^48.
    """
    try:
        packed, reader = base64.b64decode(text, validate=True), zlib.decompressobj()
        data = reader.decompress(packed, 8 * rows + 1)  # no more, whatever it unpacks to
    except (ValueError, zlib.error) as error:
        raise ValueError(f"ids: cannot be unpacked ({error})") from None
    if len(data) != 8 * rows or not reader.eof or reader.unused_data:
        raise ValueError(f"ids: expected {rows}, found {len(data) // 8 if reader.eof else 'more'}")
    if base64.b64encode(packed).decode("ascii") != text:  # a flipped bit where base64 has bits to spare
        raise ValueError("ids: not as they were written")
    steps = np.frombuffer(data, np.uint8).reshape(8, rows).T.copy().view("<i8").reshape(-1)
    if rows and (steps[0] < 0 or (steps[1:] <= 0).any()):
        raise ValueError("ids: do not ascend")
    if steps.sum(dtype=float) >= LARGEST:
        raise ValueError("ids: go beyond 2^48")
    return np.cumsum(steps)

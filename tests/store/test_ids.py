"""Ids as text: decoding returns the same ids, damaged text is refused, and consecutive ids take almost no space."""

import base64
import contextlib
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.store.ids import decode_ids, encode_ids


@given(st.sets(st.integers(0, 2**48 - 1)).map(sorted))
def test_decoding_returns_ascending_ids(ids):
    assert decode_ids(encode_ids(np.array(ids, np.int64)), len(ids)).tolist() == ids


@given(
    st.text(max_size=60) | st.binary(max_size=60).map(lambda b: base64.b64encode(zlib.compress(b)).decode()),
    st.integers(0, 8),
)
def test_any_other_text_is_refused_or_gives_ascending_ids(text, rows):
    with contextlib.suppress(ValueError):
        ids = decode_ids(text, rows)
        assert len(ids) == rows
        assert (np.diff(ids) > 0).all()
        assert (ids >= 0).all()


def test_text_that_unpacks_to_too_much_is_not_unpacked():
    bomb = base64.b64encode(zlib.compress(bytes(50_000_000), 9)).decode()
    with pytest.raises(ValueError, match="ids: expected 10, found more"):
        decode_ids(bomb, 10)


@pytest.mark.parametrize(("kept", "bits"), [(1.0, 0.1), (11 / 12, 1.1), (1 / 30, 11)])
def test_bits_per_id(kept, bits):
    """Encode consecutive ids, ids from which a validation set was taken, and a few ids out of many."""
    chosen = np.random.default_rng(0).random(100_000) < kept
    ids = np.flatnonzero(chosen)
    assert 8 * len(encode_ids(ids)) / len(ids) < bits

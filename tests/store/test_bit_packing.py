"""Packing class ids: unpacking returns the same ids, and they take as few bits as the number of classes needs."""

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from limbeck.store.bit_packing import pack_ids, unpack_ids


@given(k=st.integers(1, 9), classes=st.integers(1, 200_000), seed=st.integers(0, 2**31))
def test_unpacking_returns_the_packed_ids(k, classes, seed):
    ids = torch.randint(classes, (3, k), generator=torch.Generator().manual_seed(seed))
    packed = pack_ids(ids, classes)
    assert packed.shape[1] == math.ceil(k * max(1, math.ceil(math.log2(classes))) / 8)
    assert torch.equal(unpack_ids(packed, k, classes), ids)

"""Labels and ids of every integer dtype, and positions whose labels are not looked at."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck import (
    DistillationLoss,
    SparseTargets,
    distillation_loss,
    distillation_loss_parts,
    linear_distillation_loss,
    sparse_distillation_loss,
)
from limbeck.errors import ArgumentError, ArgumentTypeError
from limbeck.losses.labels import as_int64
from limbeck.temperature import policy_from

DTYPES = [
    torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint16, torch.uint32, torch.uint64,
]  # fmt: skip
SIGNED = [dtype for dtype in DTYPES if dtype.is_signed]
N, V = 4, 200


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


S, T = draw(N, V), draw(N, V, seed=1)
dtypes, seeds = st.sampled_from(DTYPES), st.integers(0, 2**31)


@settings(max_examples=16)
@given(dtype=dtypes, seed=seeds, ignored=st.booleans())
def test_labels_of_every_dtype_are_the_same_labels(dtype, seed, ignored):
    top = min(V, torch.iinfo(dtype).max + 1)
    labels = torch.randint(top, (N,), generator=torch.Generator().manual_seed(seed))
    labels[0] = min(156, top - 1)  # -100 in uint8
    elsewhere = int(labels[0])
    other = distillation_loss(S, T, labels, ignore_index=elsewhere)
    torch.testing.assert_close(distillation_loss(S, T, labels.to(dtype), ignore_index=elsewhere), other)
    if ignored and dtype in SIGNED:
        labels[1] = -100
    expected = distillation_loss_parts(S, T, labels)
    torch.testing.assert_close(distillation_loss_parts(S, T, labels.to(dtype)), expected)
    torch.testing.assert_close(DistillationLoss().parts(S, T, labels.to(dtype)), expected)


def test_they_are_the_same_in_a_compiled_graph(backend):
    if backend != "auto":
        pytest.skip("a compiled graph has its own backend")

    def loss(labels, mask):
        return distillation_loss(S, T, labels, mask=mask)

    compiled, mask = torch.compile(loss, backend="eager", fullgraph=True), torch.tensor([True, False, True, False])
    for given_labels, labels in (
        (torch.tensor([0, 10**9, 2, -7]), [0, 0, 2, 0]),
        (torch.tensor([100, 255, 156, 3], dtype=torch.uint8), [100, 0, 156, 0]),
        (torch.tensor([100, 2**64 - 1, 156, 3], dtype=torch.uint64), [100, 0, 156, 0]),
    ):
        torch.testing.assert_close(compiled(given_labels, mask), loss(torch.tensor(labels), mask))


def test_a_number_that_int64_cannot_hold_is_out_of_range():
    labels = torch.tensor([0, 1, 2, 2**64 - 100], dtype=torch.uint64)  # as int64 this would be -100
    with pytest.raises(ArgumentError, match=r"^labels: 9223372036854775807 is out of range for 200 classes"):
        distillation_loss(S, T, labels)
    assert as_int64(labels)[3] == torch.iinfo(torch.int64).max


@settings(max_examples=8)
@given(seed=seeds, dtype=st.sampled_from([torch.int32, torch.int64]))
def test_a_label_outside_of_the_mask_is_not_looked_at(seed, dtype):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(N, generator=generator) < 0.5
    labels = torch.randint(V, (N,), generator=generator)
    anything = torch.randint(torch.iinfo(dtype).min, torch.iinfo(dtype).max, (N,), generator=generator)
    given_labels = torch.where(mask, labels, anything).to(dtype)
    hidden, weight = draw(N, 3, seed=2), draw(V, 3, seed=3)
    losses = (
        lambda y: distillation_loss(S, T, y, mask=mask, label_smoothing=0.1),
        lambda y: distillation_loss(S, T, y, mask=mask, weight=draw(V).abs(), reduction="none"),
        lambda y: DistillationLoss()(S, T, y, mask=mask),
        lambda y: linear_distillation_loss(hidden, weight, hidden, weight, y, mask=mask),
        lambda y: sparse_distillation_loss(S, SparseTargets.top_k(T, 3), y, mask=mask),
    )
    for loss in losses:
        torch.testing.assert_close(loss(given_labels), loss(labels))


def test_a_label_inside_of_the_mask_is():
    mask = torch.tensor([True, False, True, True])
    with pytest.raises(ArgumentError, match=r"^labels: 999 is out of range"):
        distillation_loss(S, T, torch.tensor([0, 500, 999, 1]), mask=mask)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_ids_of_every_dtype(dtype):
    targets = SparseTargets.top_k(draw(N, 100, seed=1), 5, temperatures=[2.0])
    ids = targets.ids.clone()
    if dtype in SIGNED:
        ids[:, -1] = -1
    losses = [
        sparse_distillation_loss(
            draw(N, 100), SparseTargets(x, targets.log_probs, targets.log_normalizers), alpha=1, temperature=2.0
        )
        for x in (ids, ids.to(dtype))
    ]
    torch.testing.assert_close(*losses)


def test_ids_that_int64_cannot_hold_are_out_of_range():
    ids = torch.tensor([[2**64 - 1]] * N, dtype=torch.uint64)  # as int64 this would be -1, which stands for none
    with pytest.raises(ArgumentError, match=r"^targets\.ids: 9223372036854775807 is out of range"):
        sparse_distillation_loss(S, SparseTargets(ids, torch.zeros(N, 1)), alpha=1)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32], ids=str)
def test_a_policy_reads_them_alike(dtype):
    policy = policy_from({"policy": "gap", "momentum": 0.0})
    labels = torch.tensor([100, 3, 0, 156])
    first, second = (policy(S, T, x).temperature for x in (labels, labels.to(dtype)))
    torch.testing.assert_close(first, second)


@pytest.mark.parametrize("wrong", [True, 1.0, "-100", None], ids=repr)
def test_ignore_index_is_an_integer(wrong):
    with pytest.raises(ArgumentTypeError, match=r"^ignore_index: expected an integer"):
        distillation_loss(S, T, torch.zeros(N, dtype=torch.long), ignore_index=wrong)

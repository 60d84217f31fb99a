"""The numbers that a loss is given: of Python and of NumPy, in range, and right in the dtype of the arithmetic."""

import math

import numpy as np
import pytest
import torch

from limbeck import (
    DistillationLoss,
    SparseTargets,
    distillation_loss,
    distillation_loss_parts,
    linear_distillation_loss,
    logit_mse_loss,
    sparse_distillation_loss,
    sparse_linear_distillation_loss,
)
from limbeck.errors import ArgumentError, ArgumentTypeError
from limbeck.losses.divergences import JSD, SkewKL, SkewReverseKL
from limbeck.temperature import policy_from

GENERATOR = torch.Generator().manual_seed(0)
S, T = (torch.randn(4, 5, generator=GENERATOR, dtype=torch.float64) for _ in range(2))
HIDDEN, WEIGHT = torch.randn(4, 3, generator=GENERATOR), torch.randn(5, 3, generator=GENERATOR)
Y, NONE = torch.tensor([0, 4, -100, 2]), torch.full((4,), -100)
TARGETS = SparseTargets.top_k(T, 3, temperatures=[2.0])
LOSSES = {
    "function": lambda labels, **options: distillation_loss(S, T, labels, **options),
    "logit mse": lambda labels, **options: logit_mse_loss(S, T, mask=labels >= 0, **options),
    "module": lambda labels, **options: DistillationLoss()(S, T, labels, **options),
    "module's parts": lambda labels, **options: DistillationLoss().parts(S, T, labels, **options).total,
    "linear": lambda labels, **options: linear_distillation_loss(HIDDEN, WEIGHT, HIDDEN, WEIGHT, labels, **options),
    "sparse": lambda labels, **options: sparse_distillation_loss(S, TARGETS, labels, **options),
    "sparse linear": lambda labels, **options: sparse_linear_distillation_loss(
        HIDDEN, WEIGHT, TARGETS, labels, **options
    ),
}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())
DTYPES = [
    torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint16, torch.uint32, torch.uint64,
    torch.float16, torch.bfloat16, torch.float32, torch.float64,
]  # fmt: skip


@every_loss
def test_num_items_of_every_type_divides_in_the_dtype_of_the_arithmetic(loss):
    expected = loss(Y) * 3 / 7
    given_as = [7, 7.0, np.int64(7), np.float32(7)]
    given_as += [torch.tensor(7).to(dtype).reshape(shape) for dtype in DTYPES for shape in ((), (1,))]
    for num_items in given_as:
        got = loss(Y, num_items=num_items)
        assert got.dtype == expected.dtype
        torch.testing.assert_close(got, expected)


@every_loss
@pytest.mark.parametrize("wrong", [-1, math.nan, math.inf, np.float32("nan"), 0], ids=repr)
def test_a_num_items_that_cannot_be_is_refused(loss, wrong):
    for num_items in (wrong, torch.tensor(wrong), torch.tensor([wrong], dtype=torch.float64)):
        with pytest.raises(ArgumentError, match=r"^num_items: "):
            loss(Y, num_items=num_items)


@every_loss
@pytest.mark.parametrize("none", [0, 0.0, np.int64(0), torch.tensor(0), torch.tensor([0.0])], ids=repr)
def test_num_items_is_zero_where_nothing_counts(loss, none):
    assert loss(NONE, num_items=none) == 0


@pytest.mark.parametrize("wrong", [True, np.bool_(True), torch.tensor(True), torch.tensor(1j), "3"], ids=repr)
def test_what_is_no_number_of_items(wrong):
    with pytest.raises(ArgumentTypeError, match=r"^num_items: expected a number"):
        distillation_loss(S, T, Y, num_items=wrong)


def test_a_num_items_that_cannot_be_read_makes_a_wrong_loss_infinite(backend):
    """In a compiled graph, as on a GPU, nothing is read: what would be refused must still be seen."""
    if backend != "auto":
        pytest.skip("a compiled graph has its own backend")

    def loss(num_items, labels):
        return distillation_loss(S, T, labels, num_items=num_items)

    compiled = torch.compile(loss, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(torch.tensor(7.0), Y), loss(7, Y))
    assert compiled(torch.tensor(0.0), NONE) == 0
    for wrong in (0.0, -2.0, math.nan, math.inf):
        assert not compiled(torch.tensor(wrong), Y).isfinite()


@pytest.mark.parametrize("number", [int, float, np.float32, np.float64, np.int32, np.uint8], ids=str)
def test_a_number_of_every_type_is_taken(number):
    same = distillation_loss_parts(S, T, Y, temperature=2, alpha=1, label_smoothing=0, divergence="jsd", beta=1, skew=0)
    settings = dict(temperature=number(2), alpha=number(1), label_smoothing=number(0))
    of_divergence = dict(divergence="jsd", beta=number(1), skew=number(0))
    torch.testing.assert_close(distillation_loss_parts(S, T, Y, **settings, **of_divergence), same)
    torch.testing.assert_close(DistillationLoss(**settings, **of_divergence).parts(S, T, Y), same)
    pair = distillation_loss_parts(S, T, Y, **settings | {"temperature": (number(2), number(2))}, **of_divergence)
    torch.testing.assert_close(pair, same)
    scaled = DistillationLoss(**settings, **of_divergence).parts(S, T, Y, scale=number(4))
    torch.testing.assert_close(scaled, same)
    sparse = [
        sparse_distillation_loss(S, TARGETS, Y, alpha=a, temperature=t) for a, t in ((1, 2), (number(1), number(2)))
    ]
    torch.testing.assert_close(*sparse)
    fused = [
        linear_distillation_loss(
            HIDDEN, WEIGHT, HIDDEN, WEIGHT, Y % 4, temperature=t, student_softcap=t, student_logit_scale=t, vocab_size=v
        )
        for t, v in ((2, 4), (number(2), np.int64(4)))
    ]
    torch.testing.assert_close(*fused)
    assert policy_from({"policy": "linear", "start": number(8)}).nominal_temperature == 8


def test_the_parameters_of_a_divergence_are_pythons_numbers():
    for made in (JSD(np.float64(0.25)), SkewKL(np.float32(0.25)), SkewReverseKL(np.float16(0.25))):
        assert [type(value) for value in made.parameter_values] == [float]
        assert made == type(made)(0.25)


@pytest.mark.parametrize("wrong", [True, np.bool_(True), "1", None], ids=repr)
@pytest.mark.parametrize("name", ["temperature", "alpha", "label_smoothing", "beta", "skew"])
def test_a_bool_is_no_number(name, wrong):
    divergence = "skew_kl" if name == "skew" else "jsd"
    for loss in (distillation_loss, lambda *tensors, **options: DistillationLoss(**options)(*tensors)):
        with pytest.raises(ArgumentTypeError, match=rf"^{name}: expected a .*number"):
            loss(S, T, Y, **{"divergence": divergence, name: wrong})


@pytest.mark.parametrize("wrong", [True, "1"])
@pytest.mark.parametrize("name", ["student_softcap", "teacher_logit_scale", "alpha"])
def test_the_numbers_of_the_fused_loss(name, wrong):
    with pytest.raises(ArgumentTypeError, match=rf"^{name}: expected a .*number"):
        linear_distillation_loss(HIDDEN, WEIGHT, HIDDEN, WEIGHT, Y, **{name: wrong})
    with pytest.raises(ArgumentError, match=r"^student_logit_scale: expected a finite number, got nan"):
        linear_distillation_loss(HIDDEN, WEIGHT, HIDDEN, WEIGHT, Y, student_logit_scale=math.nan)


@pytest.mark.parametrize("wrong", [0, 6, True, 2.0, "5"], ids=repr)
def test_the_vocabulary_of_the_sparse_fused_loss(wrong):
    with pytest.raises(ArgumentError, match=r"^vocab_size: expected a number of classes from 1 to 5"):
        sparse_linear_distillation_loss(HIDDEN, WEIGHT, TARGETS, Y, vocab_size=wrong)


def test_ids_beyond_the_vocabulary_of_the_sparse_fused_loss():
    targets = SparseTargets(torch.full((4, 1), 4), torch.zeros(4, 1))
    with pytest.raises(ArgumentError, match=r"^targets\.ids: 4 is out of range for 3 classes"):
        sparse_linear_distillation_loss(HIDDEN, WEIGHT, targets, vocab_size=3, alpha=1)

"""The check of a kernel on random rows: what it lets pass, what it stops, and what happens then."""

import re
import warnings
from dataclasses import dataclass, replace

import pytest
import torch

from cases import CASES
from limbeck import DistillationLoss, distillation_loss, linear_distillation_loss
from limbeck.errors import ArgumentError
from limbeck.kernels import cpu
from limbeck.kernels.self_check import disagreement
from limbeck.losses import Divergence, kernel_choice
from limbeck.losses.functional import prepare
from support.triton_device import DEVICE

pytest.importorskip("triton")

from limbeck.kernels import triton

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning:triton")  # the interpreter computes what `where` drops
DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
LABELS = torch.tensor([3, -100, 8])


def draw(seed=0, dtype=torch.float32):
    return torch.randn(3, 37, generator=torch.Generator().manual_seed(seed)).to(DEVICE, dtype)


def call_for(**options):
    defaults = distillation_loss.__kwdefaults__ | {"with_parts": False, "alpha": 0.5} | options
    return prepare(torch.zeros(3, 37), torch.zeros(3, 37), LABELS, **defaults)[0]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_right_kernel_passes_at_every_temperature_and_dtype(case):
    for temperature in (0.5, 30.0, 1000.0, torch.tensor(3.0), (1.0, 8.0)):
        call = call_for(divergence=case.name, temperature=temperature, label_smoothing=0.1, **case.options)
        for dtype in DTYPES:
            arithmetic = replace(call, dtype=torch.float64 if dtype == torch.float64 else torch.float32)
            assert disagreement(cpu.row_kernel, arithmetic, torch.empty(0, 37, dtype=dtype)) is None


@pytest.mark.parametrize("part", ["soft", "hard", "gradient", "nan"])
def test_a_wrong_kernel_is_stopped(part):
    def wrong(student, teacher, call, scales, gradient):
        soft, hard = cpu.row_kernel(student, teacher, call, scales, gradient)
        if part == "gradient":
            gradient[0].mul_(1.5)
        if part == "nan":
            gradient[0, 0] = torch.nan
        return soft * (1.01 if part == "soft" else 1), hard + 0.1 * (part == "hard")

    for dtype in DTYPES:
        call = replace(call_for(), dtype=torch.float64 if dtype == torch.float64 else torch.float32)
        found = disagreement(wrong, call, torch.empty(0, 37, dtype=dtype))
        assert ("a value of a row" if part in ("soft", "hard") else "the gradient") in found


@pytest.fixture
def checked(monkeypatch):
    """The Triton kernel is what "auto" takes, and no check was made yet in this process."""
    monkeypatch.setenv(triton.CHECK, "1")
    monkeypatch.setattr(triton, "FAULTS", {})
    if DEVICE == "cpu":
        monkeypatch.setattr(kernel_choice, "KERNELS", {"cpu": "triton"})
    return monkeypatch


def break_kernel(monkeypatch, error=None):
    right = triton.loss_of_rows

    def broken(*arguments):
        if error is not None:
            raise error
        return right(*arguments) * 1.5

    monkeypatch.setattr(triton, "loss_of_rows", broken)


def gradient_of(loss, leaf):
    return torch.autograd.grad(loss, leaf, retain_graph=True)[0]


@pytest.mark.parametrize("error", [None, RuntimeError("no image for this device")], ids=["wrong", "raises"])
def test_a_broken_kernel_falls_back_with_one_warning(checked, error):
    break_kernel(checked, error)
    leaf, teacher, labels = draw().requires_grad_(), draw(1), LABELS.to(DEVICE)
    for divergence in ("forward_kl", "reverse_kl"):
        truth = distillation_loss(leaf, teacher, labels, divergence=divergence, backend="reference")
        reason = "a value of a row is off" if error is None else "RuntimeError: no image"
        with warnings.catch_warnings(record=True) as seen:  # beside those of the interpreter
            warnings.simplefilter("always")
            loss = distillation_loss(leaf, teacher, labels, divergence=divergence)
        (said,) = [warning for warning in seen if "Triton kernel" in str(warning.message)]
        message = rf"not used for \w+ in torch\.float32.*{reason}.*issues.*TRITON_CHECK=0"
        assert re.search(message, str(said.message))
        assert said.filename == __file__
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="The Triton kernel")
            again = DistillationLoss(divergence=divergence)(leaf, teacher, labels)
        for value in (loss, again):
            torch.testing.assert_close(value, truth)
            torch.testing.assert_close(gradient_of(value, leaf), gradient_of(truth, leaf))
    with pytest.raises(
        ArgumentError, match="backend: 'triton' cannot compute this call: its check on random rows failed"
    ):
        distillation_loss(leaf, teacher, labels, backend="triton")


def test_a_right_kernel_is_checked_once_for_each_divergence_and_dtype(checked):
    for dtype in (torch.float32, torch.bfloat16):
        for options in ({}, {"temperature": 3.0}, {"alpha": 0.0}):
            distillation_loss(draw(dtype=dtype), draw(1, dtype=dtype), LABELS.to(DEVICE), **options)
    assert len(triton.FAULTS) == 4
    distillation_loss(draw(), draw(1), draw(2).softmax(-1))  # label rows are another program
    assert len(triton.FAULTS) == 5
    assert set(triton.FAULTS.values()) == {None}


def test_it_is_off_where_the_user_says_so(checked):
    break_kernel(checked)
    checked.setenv(triton.CHECK, "0")
    assert distillation_loss(draw(), draw(1), LABELS.to(DEVICE)) > 0
    assert triton.FAULTS == {}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own
def test_nothing_is_checked_while_a_graph_is_compiled(checked):
    torch.compile(lambda s, t: distillation_loss(s, t, alpha=1.0), backend="eager", fullgraph=True)(draw(), draw(1))
    assert triton.FAULTS == {}


def test_memory_that_runs_out_is_no_fault(checked):
    break_kernel(checked, torch.OutOfMemoryError("full"))
    with pytest.raises(torch.OutOfMemoryError):
        distillation_loss(draw(), draw(1), LABELS.to(DEVICE))
    assert triton.FAULTS == {}


@dataclass(frozen=True)
class WrongSlopes(Divergence):
    def terms(self, a, b):
        return (a.exp() - b.exp()) ** 2

    @staticmethod
    def terms_and_slopes(d, p_s, p_t):
        return (p_s - p_t) ** 2, p_s - p_t


@dataclass(frozen=True)
class RightSlopes(WrongSlopes):
    power: float = 1.0

    @staticmethod
    def terms_and_slopes(d, p_s, p_t, power):
        return (p_s - p_t) ** 2, 2 * p_s * (p_s - p_t)


def test_slopes_of_a_users_own_that_are_not_those_of_its_terms():
    given = draw().cpu(), draw(1).cpu()
    hidden, weight = torch.randn(3, 2), torch.randn(37, 2)
    for call in (
        lambda d: distillation_loss(*given, alpha=1, divergence=d),
        lambda d: DistillationLoss(alpha=1, divergence=d),
        lambda d: linear_distillation_loss(hidden, weight, hidden, weight, alpha=1, divergence=d),
    ):
        with pytest.raises(
            ArgumentError, match=r"divergence: terms_and_slopes of WrongSlopes are not.*the gradient is off"
        ):
            call(WrongSlopes())
        call(RightSlopes())

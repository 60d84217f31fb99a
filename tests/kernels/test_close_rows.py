"""Digits near agreement: values and gradients in float32 against 64-bit mantissas, whatever the distance of the logits.

The truth has formulas of its own: KL(p ‖ q) is the sum of p N(q / p - 1), with N(w) = w - log1p(w).
"""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cases import CASES, Case
from limbeck import distillation_loss
from limbeck.kernels import close_rows, cpu
from limbeck.losses.divergences import Divergence, ForwardKL, ReverseKL
from support.triton_device import DEVICE

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning:triton")  # the interpreter computes what `where` drops
Wide = np.longdouble


def excess(r):
    """e^r - 1 - r, in all digits."""
    series = sum(r**n / Wide(math.factorial(n)) for n in range(2, 18))
    return np.where(abs(r) < 0.5, series, np.expm1(r) - r)


def truth(case: Case, student, teacher, t):
    """D of each row and its gradient with respect to the student's logits, before C(T)."""
    x, y = (z.numpy().astype(Wide) / Wide(t) for z in (student, teacher))
    if case.name == "logit_mse":
        d = (x - y - (x - y).mean(-1, keepdims=True)) * Wide(t)
        return (d * d).mean(-1) / 2, d / d.shape[-1]
    p_s = np.exp(x - x.max(-1, keepdims=True))
    p_s /= p_s.sum(-1, keepdims=True)
    d = y - x - (p_s * (y - x)).sum(-1, keepdims=True)
    d -= np.log1p((p_s * np.expm1(d)).sum(-1, keepdims=True))
    p_t = p_s * np.exp(d)
    beta, skew = (Wide(case.options.get(name, 0)) for name in ("beta", "skew"))

    def mixture(fraction, ratio):
        return np.log1p(fraction * np.expm1(ratio))

    if case.name == "forward_kl" or (case.name in ("jsd", "skew_kl") and not beta + skew):
        terms, slopes = p_t * excess(-d), -p_s * np.expm1(d)
    elif case.name == "reverse_kl" or (case.name == "jsd" and beta == 1):
        terms, slopes = p_s * excess(d), -p_s * d
    elif case.name == "jsd":
        from_t, from_s = mixture(1 - beta, -d), mixture(beta, d)
        terms = beta * p_t * excess(from_t) + (1 - beta) * p_s * excess(from_s)
        slopes = -(1 - beta) * p_s * from_s
    elif case.name == "skew_kl":
        r = mixture(1 - skew, -d)
        terms, slopes = p_t * excess(r), -(1 - skew) * p_s * np.expm1(-r)
    elif case.name == "skew_reverse_kl":
        r = mixture(1 - skew, d)
        terms, slopes = p_s * excess(r), -p_s * (r + skew * np.expm1(-r))
    else:
        terms, slopes = p_s * abs(np.expm1(d)) / 2, -p_s * np.sign(d) / 2
    return terms.sum(-1), (slopes - p_s * slopes.sum(-1, keepdims=True)) / Wide(t)


def draw(distance, classes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    teacher = 2 * torch.randn(4, classes, generator=generator)
    student = teacher + distance * torch.randn(4, classes, generator=generator)
    student[0] = teacher[0] + 3 * torch.randn(classes, generator=generator)  # a row that is not close
    return student, teacher


def check(case, distance, t, classes, backend, seed=0):
    student, teacher = draw(distance, classes, seed)
    value, gradient = (x * t**case.power for x in truth(case, student, teacher, t))
    device = DEVICE if backend == "triton" else "cpu"
    leaf = student.clone().to(device).requires_grad_()
    options = dict(alpha=1, temperature=t, divergence=case.name, reduction="none", backend=backend, **case.options)
    got = distillation_loss(leaf, teacher.to(device), **options)
    got.sum().backward()
    assert (got >= 0).all()
    np.testing.assert_allclose(got.detach().cpu().numpy(), value.astype(float), rtol=1e-4)
    assert leaf.grad is not None
    error = np.linalg.norm(leaf.grad.cpu().numpy() - gradient, axis=-1) / np.linalg.norm(gradient, axis=-1)
    assert error.max() < 1e-4


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("case", CASES, ids=str)
@settings(max_examples=8, deadline=None)
@given(
    exponent=st.floats(-6, 0),
    t=st.sampled_from([1.0, 4.0, 20.0]),
    classes=st.sampled_from([10, 1000]),
    seed=st.integers(0, 99),
)
def test_values_and_gradients_keep_their_digits(case, backend, exponent, t, classes, seed):
    check(case, 10**exponent, t, classes, backend, seed)


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("distance", [1e-6, 0.03])
def test_on_the_gpu_too(case, distance):
    pytest.importorskip("triton")
    check(case, distance, 4.0, 10, "triton")


@pytest.mark.parametrize("case", CASES, ids=str)
def test_large_calls_take_chunks_of_close_rows(case, monkeypatch):
    """Chunks where all rows are close, where one is, and where the distance is large in one class only."""
    monkeypatch.setattr(cpu, "SMALL", 0)
    for size in (1 << 19, 10):
        monkeypatch.setattr(cpu, "CHUNK_ELEMENTS", size)
        check(case, 1e-5, 4.0, 10, "cpu")
        check(case, 0.3, 1.0, 10, "cpu")


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("distance", [1e-5, 1e-3, 0.03])
@pytest.mark.parametrize("options", [{}, {"mask": torch.tensor([True, True, False, True])}], ids=str)
def test_a_far_row_takes_no_digits_from_the_close_rows_of_a_small_call(case, distance, options):
    student, teacher = draw(distance, 10)
    value, gradient = (x * 4.0**case.power / 3 for x in truth(case, student[[0, 1, 3]], teacher[[0, 1, 3]], 4.0))
    rows = [0, 1, 3] if options else [0, 1, 2]
    if not options:
        student, teacher = student[[0, 1, 3]], teacher[[0, 1, 3]]
    leaf = student.clone().requires_grad_()
    loss = distillation_loss(leaf, teacher, alpha=1, temperature=4.0, divergence=case.name, **options, **case.options)
    loss.backward()
    assert loss.item() == pytest.approx(float(value.sum()), rel=1e-5)
    assert leaf.grad is not None
    error = np.linalg.norm(leaf.grad[rows].numpy() - gradient, axis=-1) / np.linalg.norm(gradient, axis=-1)
    assert error.max() < 1e-4


class Jeffreys(Divergence):
    """A user's divergence, which knows nothing of all this."""

    def terms(self, a, b):
        return (b.exp() - a.exp()) * (b - a)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_a_users_divergence_works_as_it_is(backend):
    teacher = torch.randn(3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    student = teacher + 1e-3 * torch.arange(5)
    options = dict(alpha=1, backend=backend)
    got = distillation_loss(student, teacher, divergence=Jeffreys(), **options)
    both = [distillation_loss(student, teacher, divergence=d, **options) for d in (ForwardKL(), ReverseKL())]
    torch.testing.assert_close(got, sum(both), rtol=1e-9, atol=0)


def test_functions_of_others_are_left_alone():
    def terms_and_slopes(d, p_s, p_t):
        return p_s * d, d

    assert close_rows.written_with(terms_and_slopes, close_rows.Plain) is terms_and_slopes
    assert close_rows.written_with(ForwardKL.terms_and_slopes, close_rows.Plain) is not ForwardKL.terms_and_slopes


@pytest.mark.parametrize("name", ["forward_kl", "jsd", "tvd"])
def test_padded_columns_are_no_matter_for_the_reference(name, monkeypatch):
    """They cost four times as much when they were."""
    monkeypatch.setattr(cpu, "SMALL", 0)
    monkeypatch.setattr(cpu, "_by_reference", None)
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 6, 9, generator=generator)
    labels = torch.arange(6)
    results = []
    for classes in (9, 7):
        if classes == 9:
            student[:, 7:] = teacher[:, 7:] = -math.inf
        leaf = student[:, :classes].clone().requires_grad_()
        loss = distillation_loss(leaf, teacher[:, :classes], labels, temperature=2.0, divergence=name, backend="cpu")
        loss.backward()
        assert leaf.grad is not None
        results.append((loss.detach(), leaf.grad[:, :7]))
    torch.testing.assert_close(*results)


def test_the_gradient_of_close_rows_may_be_changed_in_place():
    """DistributedDataParallel and optimisers do so. A tensor of inference mode refuses it."""
    torch.manual_seed(0)
    teacher = torch.randn(4, 10)
    student = (teacher + 1e-5 * torch.randn(4, 10)).requires_grad_()
    distillation_loss(student, teacher, torch.arange(4), temperature=2.0, alpha=0.5).mul(0.5).backward()
    assert student.grad is not None
    once = student.grad.clone()
    student.grad.mul_(2)
    student.grad = None
    distillation_loss(student, teacher, torch.arange(4), temperature=2.0, alpha=0.5).backward()
    torch.testing.assert_close(student.grad, 2 * once)

"""The CPU kernel against the float64 reference, over every divergence, dtype, temperature and kind of use."""

import math

import pytest
import torch

from cases import CASES
from limbeck import distillation_loss, distillation_loss_parts
from limbeck.kernels import cpu

every_divergence = pytest.mark.parametrize("case", CASES, ids=str)
TEMPERATURES = (0.5, 1.0, 2.0, 3.0, 4.0, 20.0)


@pytest.fixture(autouse=True, params=["chunks", "small"])
def _small_chunks(request, monkeypatch):
    """So that a test's few rows make several chunks, the last one uneven; or are a small call, as they are."""
    monkeypatch.setattr(cpu, "CHUNK_ELEMENTS", 3 * 37)
    if request.param == "chunks":
        monkeypatch.setattr(cpu, "SMALL", 0)


def draw(*shape, seed=0, scale=3.0, dtype=torch.float64):
    return (scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)).to(dtype)


def run(student, teacher, labels, upstream=None, **options):
    """The loss and its gradient."""
    leaf = student.clone().requires_grad_()
    loss = distillation_loss(leaf, teacher, labels, **options)
    loss.backward(torch.ones_like(loss) if upstream is None else upstream.to(loss.dtype))
    return loss.detach(), leaf.grad


def both(student, teacher, labels, **options):
    """By the kernel as given, and by the reference in float64."""
    got = run(student, teacher, labels, backend="cpu", **options)
    truth = run(student.double(), teacher.double(), labels, backend="reference", **options)
    return got, truth


LABELS = torch.tensor([0, 36, -100, 5, 5, 1, 2, 3, -100, 7])
MASK = torch.tensor([1, 1, 1, 0, 1, 1, 0, 1, 0, 1]).bool()


@every_divergence
@pytest.mark.parametrize("t", TEMPERATURES)
@pytest.mark.parametrize("near", [False, True], ids=["apart", "near"])
def test_values_and_gradients_in_every_dtype(case, t, near):
    for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        teacher = draw(10, 37, seed=1)
        student = (teacher + 0.03 * draw(10, 37, scale=1.0)) if near else draw(10, 37)
        student, teacher = student.to(dtype), teacher.to(dtype)
        options = dict(temperature=t, alpha=0.7, divergence=case.name, label_smoothing=0.1, **case.options)
        (loss, gradient), (true_loss, true_gradient) = both(student, teacher, LABELS, **options)
        precise = dtype == torch.float64
        torch.testing.assert_close(
            loss.double(), true_loss, rtol=1e-12 if precise else 3e-6, atol=1e-12 if precise else 1e-5
        )
        assert gradient.dtype == dtype
        error = (gradient.double() - true_gradient).norm() / true_gradient.norm()
        # half precision rounds the gradient once, when it is written
        assert error < {torch.float64: 1e-12, torch.float32: 3e-6, torch.bfloat16: 4e-3, torch.float16: 1e-3}[dtype]


@every_divergence
@pytest.mark.parametrize("t", TEMPERATURES)
def test_soft_targets_that_are_nearly_met(case, t):
    """Where the gradient is the difference of two nearly equal numbers, float32 keeps most of its digits."""
    teacher = draw(10, 37, seed=1)
    student, teacher = (teacher + 0.03 * draw(10, 37, scale=1.0)).float(), teacher.float()
    (loss, gradient), truth = both(student, teacher, None, alpha=1, temperature=t, divergence=case.name, **case.options)
    torch.testing.assert_close(loss.double(), truth[0], rtol=2e-5, atol=2e-7 * t * t)
    assert (gradient.double() - truth[1]).norm() / truth[1].norm() < 2e-5 * max(1, t)


@every_divergence
def test_soft_targets_that_are_far_away(case):
    """Probabilities that are 0 in float32 on either side; no overflow, no NaN, nothing lost of what counts."""
    student, teacher = draw(10, 37, scale=60.0).float(), draw(10, 37, seed=1, scale=60.0).float()
    got, truth = both(student, teacher, None, alpha=1, temperature=0.5, divergence=case.name, **case.options)
    torch.testing.assert_close(got[0].double(), truth[0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(got[1].double(), truth[1], rtol=2e-5, atol=2e-5)


OPTIONS = {
    "soft only": dict(alpha=1.0),
    "hard only": dict(alpha=0.0),
    "uncompensated": dict(compensate=False),
    "curvature": dict(compensate="curvature"),
    "mask": dict(mask=MASK),
    "sum": dict(reduction="sum"),
    "num_items": dict(num_items=torch.tensor(40)),
    "pair": dict(temperature=(4.0, 1.0)),
    "per position": dict(temperature=torch.linspace(0.5, 5, 10, dtype=torch.float64)),
    "one for all, as a tensor": dict(temperature=torch.tensor(2.0, dtype=torch.float64)),
    "weight": dict(weight=torch.linspace(0.1, 2, 37, dtype=torch.float64)),
}


@every_divergence
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
def test_options(case, options):
    settings = dict(temperature=2.0, alpha=0.3, divergence=case.name, **case.options) | options
    got, truth = both(draw(10, 37), draw(10, 37, seed=1), LABELS, **settings)
    for ours, theirs in zip(got, truth, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


@every_divergence
def test_any_upstream_gradient(case):
    student, teacher = draw(10, 37), draw(10, 37, seed=1)
    for reduction, upstream in (("none", draw(10, seed=2)), ("mean", torch.tensor(-3.7)), ("sum", torch.tensor(0.0))):
        options = dict(reduction=reduction, upstream=upstream, divergence=case.name, **case.options)
        got, truth = both(student, teacher, LABELS, **options)
        torch.testing.assert_close(got[1], truth[1], rtol=1e-10, atol=1e-12)


def test_bfloat16_is_rounded_once_whatever_the_upstream_gradient():
    student, teacher = draw(10, 37, dtype=torch.bfloat16), draw(10, 37, seed=1, dtype=torch.bfloat16)
    _, once = run(student, teacher, LABELS, upstream=torch.tensor(0.3), backend="cpu")
    _, truth = run(student.double(), teacher.double(), LABELS, upstream=torch.tensor(0.3), backend="reference")
    assert ((once.double() - truth).abs() <= truth.abs() * 2**-8 + 1e-12).all()


@every_divergence
def test_gradients_of_the_parts(case):
    student, teacher = draw(10, 37), draw(10, 37, seed=1)
    gradients = []
    for backend in ("cpu", "reference"):
        leaf = student.clone().requires_grad_()
        parts = distillation_loss_parts(leaf, teacher, LABELS, divergence=case.name, backend=backend, **case.options)
        (2 * parts.soft - parts.hard + 0.5 * parts.total).backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-12)


@every_divergence
def test_a_second_backward_pass_gives_the_same_again(case):
    leaf = draw(10, 37).requires_grad_()
    loss = distillation_loss(leaf, draw(10, 37, seed=1), LABELS, divergence=case.name, backend="cpu", **case.options)
    (first,) = torch.autograd.grad(loss, leaf, retain_graph=True)
    kept = first.clone()
    first.zero_()  # what was handed over is the caller's
    (second,) = torch.autograd.grad(loss, leaf)
    assert torch.equal(second, kept)


@every_divergence
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_in_place_the_logits_become_their_gradient(case, dtype):
    student, teacher = draw(10, 37, dtype=dtype), draw(10, 37, seed=1, dtype=dtype)
    options = dict(divergence=case.name, **case.options)
    _, expected = run(student, teacher, LABELS, backend="cpu", **options)
    weight = torch.ones((), dtype=dtype, requires_grad=True)
    logits = student * weight
    logits.retain_grad()
    loss = distillation_loss(logits, teacher, LABELS, backend="cpu", inplace=True, **options)
    storage = logits.data_ptr()
    torch.autograd.backward(loss, inputs=[logits])
    assert torch.equal(logits.grad, expected)
    assert torch.equal(logits.detach(), expected)
    assert logits.data_ptr() == storage


class TestMisuse:
    def test_a_second_backward_pass_in_place(self):
        leaf = draw(10, 37).requires_grad_()
        loss = distillation_loss(leaf, draw(10, 37, seed=1), LABELS, backend="cpu", inplace=True)
        loss.backward(retain_graph=True)
        with pytest.raises(RuntimeError, match=r"inplace=True.*inplace=False"):
            loss.backward()

    def test_parts_in_place(self):
        leaf = draw(10, 37).requires_grad_()
        parts = distillation_loss_parts(leaf, draw(10, 37, seed=1), LABELS, backend="cpu", inplace=True)
        with pytest.raises(RuntimeError, match="inplace=False"):
            parts.soft.backward()

    def test_logits_that_another_gradient_needs(self):
        leaf = draw(10, 37).requires_grad_()
        logits = leaf * 1.0
        squares = (logits * logits).sum()  # keeps the logits for its gradient
        loss = distillation_loss(logits, draw(10, 37, seed=1), LABELS, backend="cpu", inplace=True)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            (loss + squares).backward()

    def test_what_the_kernel_cannot_do_is_said(self):
        weight = torch.ones(5, requires_grad=True)
        with pytest.raises(ValueError, match=r"backend: 'cpu'.*weight asks for gradient.*'auto'"):
            distillation_loss(draw(3, 5), draw(3, 5), torch.tensor([0, 1, 2]), weight=weight, backend="cpu")

    def test_twice_differentiated(self):
        leaf = draw(3, 5).requires_grad_()
        loss = distillation_loss(leaf, draw(3, 5, seed=1), alpha=1, backend="cpu")
        with pytest.raises(RuntimeError, match=r"first derivatives only.*backend='reference'"):
            torch.autograd.grad(loss, leaf, create_graph=True)


@every_divergence
def test_columns_and_rows_that_need_the_reference_in_their_chunk_only(case):
    student, teacher = draw(10, 37), draw(10, 37, seed=1)
    student[4:6, 30:] = teacher[4:6, 30:] = -math.inf  # absent in both
    student[2], teacher[8] = math.nan, math.inf  # positions that do not count
    options = dict(temperature=2.0, divergence=case.name, **case.options)
    (loss, gradient), (true_loss, true_gradient) = both(student, teacher, LABELS, **options)
    torch.testing.assert_close(loss, true_loss)
    torch.testing.assert_close(gradient, true_gradient, rtol=1e-10, atol=1e-12)
    assert gradient.isfinite().all()


def test_large_offsets_do_not_cost_precision():
    """The row maximum is taken off in one fused step; logits far from 0 must not make it lose digits."""
    base = torch.randint(-64, 64, (10, 37), generator=torch.Generator().manual_seed(0)) / 8
    other = torch.randint(-64, 64, (10, 37), generator=torch.Generator().manual_seed(1)) / 8
    labels = LABELS.clamp(min=0)
    _, near = run(base, other, labels, backend="cpu", alpha=0.5)
    _, far = run(base + 4096, other - 4096, labels, backend="cpu", alpha=0.5)  # exact in float32
    torch.testing.assert_close(far, near, rtol=2e-5, atol=1e-9)


def test_logits_that_are_not_contiguous():
    student, teacher = draw(37, 10).T, draw(37, 10, seed=1).T
    assert not student.is_contiguous()
    got, truth = both(student, teacher, LABELS)
    torch.testing.assert_close(got, truth)
    sliced = draw(10, 40)[:, :37]
    torch.testing.assert_close(*both(sliced, teacher, LABELS))
    consumed = sliced.clone()
    distillation_loss(consumed.requires_grad_(), teacher, LABELS, backend="cpu", inplace=True).backward()
    torch.testing.assert_close(consumed.grad, run(sliced, teacher, LABELS, backend="reference")[1])


@pytest.mark.parametrize("shape", [(5, 2), (1, 37), (0, 37), (2, 3, 37), (37,)])
def test_shapes(shape):
    student, teacher = draw(*shape), draw(*shape, seed=1)
    labels = torch.zeros(shape[:-1], dtype=torch.long)
    torch.testing.assert_close(*both(student, teacher, labels), rtol=1e-10, atol=1e-12)

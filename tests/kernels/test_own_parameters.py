"""A divergence with two parameters, by every kernel, against float64 autograd of its definition."""

import pytest
import torch

from limbeck import (
    DistillationLoss,
    SparseTargets,
    distillation_loss,
    linear_distillation_loss,
    sparse_distillation_loss,
)
from limbeck.kernels import cpu
from limbeck.losses import DIVERGENCES, register_divergence
from support.triton_device import DEVICE
from support.two_parameters import Blend

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning:triton")  # the interpreter computes what `where` drops
N, V, T = 5, 37, 2.0


@pytest.fixture(autouse=True)
def _registered():
    register_divergence("blend")(Blend)
    yield
    del DIVERGENCES["blend"]


def draw(*shape, seed=0):
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def truth(w, power):
    """The value and its gradient by autograd, from probabilities."""
    student, teacher = draw(N, V).requires_grad_(), draw(N, V, seed=1)
    p_s, p_t = (student / T).softmax(-1), (teacher / T).softmax(-1)
    size = (1 - w) * torch.tensor(power, dtype=torch.float64).exp()
    rows = (w * p_t * (p_t / p_s).log() + size * (p_t - p_s) ** 2 / 2).sum(-1)
    loss = T * T * rows.mean()
    return loss.detach(), torch.autograd.grad(loss, student)[0]


def agree(loss, leaf, w, power):
    gradient = torch.autograd.grad(loss, leaf)[0]
    for got, expected in zip((loss.detach(), gradient), truth(w, power), strict=True):
        torch.testing.assert_close(got.cpu(), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("parameters", [{}, {"w": 0.2}, {"power": 1.3}, {"w": 0.9, "power": 0.6}], ids=str)
@pytest.mark.parametrize("backend", ["reference", "cpu", "cpu in chunks", "triton"])
def test_named_parameters(backend, parameters, monkeypatch):
    if backend == "triton":
        pytest.importorskip("triton")
    if backend == "cpu in chunks":
        monkeypatch.setattr(cpu, "CHUNK_ELEMENTS", 4 * V)
        monkeypatch.setattr(cpu, "SMALL", 0)
    device = DEVICE if backend == "triton" else "cpu"
    leaf, teacher = draw(N, V).to(device).requires_grad_(), draw(N, V, seed=1).to(device)
    options = dict(alpha=1, temperature=T, backend=backend.split()[0])
    loss = distillation_loss(leaf, teacher, divergence={"name": "blend", **parameters}, **options)
    agree(loss, leaf, **{"w": 0.7, "power": -0.4} | parameters)
    if not parameters:
        agree(distillation_loss(leaf, teacher, divergence="blend", **options), leaf, 0.7, -0.4)


def test_an_object_needs_no_name():
    del DIVERGENCES["blend"]
    leaf = draw(N, V).requires_grad_()
    agree(
        distillation_loss(leaf, draw(N, V, seed=1), alpha=1, temperature=T, divergence=Blend(0.3, 0.2)), leaf, 0.3, 0.2
    )
    register_divergence("blend")(Blend)


def test_the_module_the_fused_loss_and_sparse_targets_take_them_too():
    chosen = {"name": "blend", "w": 0.2, "power": 1.3}
    leaf, teacher = draw(N, V).requires_grad_(), draw(N, V, seed=1)
    agree(DistillationLoss(alpha=1, temperature=T, divergence=chosen)(leaf, teacher), leaf, 0.2, 1.3)
    options = dict(alpha=1, temperature=T, divergence=chosen)
    eye = torch.eye(V, dtype=torch.float64)
    agree(linear_distillation_loss(leaf, eye, teacher, eye, chunk=2, **options), leaf, 0.2, 1.3)
    targets = SparseTargets.top_k(teacher, V, temperatures=[T])
    agree(sparse_distillation_loss(leaf, targets, **options), leaf, 0.2, 1.3)

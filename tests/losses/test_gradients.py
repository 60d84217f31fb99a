"""Gradients against finite differences and closed forms in float64; who receives them and who does not."""

import math

import pytest
import torch

from cases import CASES, SMOOTH
from limbeck import (
    DistillationLoss,
    SparseTargets,
    distillation_loss,
    linear_distillation_loss,
    logit_mse_loss,
    sparse_distillation_loss,
    sparse_linear_distillation_loss,
)


def draw(*shape, seed=0, scale=1.0):
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gradient(student, teacher, **options):
    student = student.clone().requires_grad_()
    distillation_loss(student, teacher, **options).backward()
    return student.grad


OPTIONS = {
    "plain": {},
    "uncompensated": {"compensate": False},
    "curvature": {"compensate": "curvature"},
    "soft only": {"alpha": 1.0},
    "hard only": {"alpha": 0.0},
    "pair": {"temperature": (3.0, 1.5)},
    "per position": {"temperature": torch.tensor([0.5, 1.0, 4.0], dtype=torch.float64)},
    "smoothing": {"label_smoothing": 0.1},
    "weight": {"weight": torch.tensor([0.1, 1.0, 2.0, 0.5, 3.0], dtype=torch.float64)},
    "ignored": {"labels": torch.tensor([0, -100, 3])},
    "unlabelled": {"labels": torch.tensor([0, -100, 3]), "mask": torch.tensor([True, True, False])},
    "sum": {"reduction": "sum"},
    "none": {"reduction": "none"},
    "num_items": {"num_items": 7},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradcheck(case, options):
    student, teacher = draw(3, 5, scale=2.0), draw(3, 5, seed=1, scale=2.0)
    settings = {"labels": torch.tensor([0, 1, 3]), "temperature": 2.0, "alpha": 0.4} | case.options | options

    def loss(logits):
        return distillation_loss(logits, teacher, divergence=case.name, **settings)

    assert torch.autograd.gradcheck(loss, student.requires_grad_(), eps=1e-6, atol=1e-7)


@pytest.mark.parametrize("case", [c for c in CASES if not c.on_logits], ids=str)
def test_gradcheck_of_a_learned_temperature(case):
    student, teacher = draw(3, 5), draw(3, 5, seed=1)
    t = torch.tensor(1.7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda t: distillation_loss(student, teacher, alpha=1, temperature=t, divergence=case.name, **case.options), t
    )


def test_the_exact_gradient_at_finite_temperature():
    student, teacher = draw(4, 7), draw(4, 7, seed=1)
    for t in (0.5, 1.0, 2.0, 8.0):
        got = gradient(student, teacher, alpha=1, temperature=t, compensate=False, reduction="sum")
        torch.testing.assert_close(got, ((student / t).softmax(-1) - (teacher / t).softmax(-1)) / t)


def test_the_soft_gradient_falls_like_one_over_t_squared_and_the_factor_restores_it():
    student, teacher = draw(4, 7), draw(4, 7, seed=1)
    student, teacher = (z - z.mean(-1, keepdim=True) for z in (student, teacher))
    limit = (student - teacher) / 7
    errors, norms = [], []
    for t in (10.0, 100.0, 1000.0):
        bare = gradient(student, teacher, alpha=1, temperature=t, compensate=False, reduction="sum")
        full = gradient(student, teacher, alpha=1, temperature=t, reduction="sum")
        norms.append(bare.norm().item())
        errors.append(((full - limit).norm() / limit.norm()).item())
    assert norms[0] / norms[1] == pytest.approx(100, rel=0.1)
    assert norms[1] / norms[2] == pytest.approx(100, rel=0.01)
    assert errors[0] > errors[1] > errors[2]  # a limit, not an identity: at T = 10 it is percents off
    assert errors[0] > 0.01
    assert errors[2] < 2e-3


@pytest.mark.parametrize("case", SMOOTH, ids=str)
def test_with_curvature_every_smooth_divergence_has_the_limit_of_logit_matching(case):
    student, teacher = draw(4, 7), draw(4, 7, seed=1)
    limit = logit_mse_loss(student, teacher)
    options = dict(alpha=1, divergence=case.name, compensate="curvature", **case.options)
    errors = [
        abs(distillation_loss(student, teacher, temperature=t, **options) / limit - 1).item() for t in (20.0, 2000.0)
    ]
    assert errors[0] < 0.06
    assert errors[1] < 6e-4
    got = gradient(student, teacher, temperature=2000.0, reduction="sum", **options)
    expected = torch.autograd.functional.jacobian(lambda s: logit_mse_loss(s, teacher, reduction="sum"), student)
    torch.testing.assert_close(got, expected, rtol=3e-3, atol=3e-4)


def test_the_teacher_never_receives_gradient():
    student, teacher = draw(3, 5).requires_grad_(), draw(3, 5, seed=1).requires_grad_()
    distillation_loss(student, teacher, torch.tensor([0, 1, 2])).backward()
    assert teacher.grad is None
    assert student.grad is not None


@pytest.mark.parametrize("case", CASES, ids=str)
def test_split_micro_batches_add_up_to_the_whole(case):
    """With num_items the gradients of unequal parts, unequally masked, are the whole batch's."""
    student, teacher = draw(16, 9).float(), draw(16, 9, seed=1).float()
    labels = torch.arange(16) % 9
    labels[[1, 2, 3, 11]] = -100
    options = dict(divergence=case.name, alpha=0.4, temperature=2.0, **case.options)
    whole = gradient(student, teacher, labels=labels, **options)
    parts = [
        gradient(student[part], teacher[part], labels=labels[part], num_items=torch.tensor(12), **options)
        for part in (slice(0, 5), slice(5, 6), slice(6, 16))
    ]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_no_gradient_at_columns_that_both_models_lack(case):
    student, teacher = draw(3, 5), draw(3, 5, seed=1)
    wide = [torch.cat([z, torch.full((3, 2), -math.inf, dtype=torch.float64)], -1) for z in (student, teacher)]
    options = dict(alpha=0.4, labels=torch.tensor([0, 1, 2]), temperature=2.0, divergence=case.name, **case.options)
    got = gradient(*wide, **options)
    torch.testing.assert_close(got[:, :5], gradient(student, teacher, **options))
    assert (got[:, 5:] == 0).all()


HIDDEN = torch.randn(4, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
HEAD = torch.randn(5, 3, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
TARGETS = SparseTargets.top_k(HIDDEN.flip(0) @ HEAD.T, 3, temperatures=[2.0])
SECOND = {
    "dense": lambda x, **o: distillation_loss(x @ HEAD.T, HIDDEN.flip(0) @ HEAD.T, LABELS, **o),
    "module": lambda x, **o: DistillationLoss(**o)(x @ HEAD.T, HIDDEN.flip(0) @ HEAD.T, LABELS),
    "sparse": lambda x, **o: sparse_distillation_loss(x @ HEAD.T, TARGETS, LABELS, **o),
}
FUSED = {
    "dense": lambda x: linear_distillation_loss(x, HEAD, HIDDEN, HEAD, LABELS, alpha=0.5),
    "sparse": lambda x: sparse_linear_distillation_loss(x, HEAD, TARGETS, LABELS, alpha=0.5),
}
LABELS = torch.tensor([0, 4, 2, 1])


@pytest.mark.parametrize("loss", SECOND.values(), ids=SECOND.keys())
def test_the_remedy_for_second_derivatives_is_right(loss):
    options = dict(alpha=0.5, temperature=2.0, backend="reference")
    leaf = HIDDEN.clone().requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x: loss(x, **options), leaf)
    with pytest.raises(RuntimeError, match=r"first derivatives only\. For second ones pass backend='reference'"):
        torch.autograd.grad(loss(leaf, **options | {"backend": "cpu"}), leaf, create_graph=True)


@pytest.mark.parametrize("loss", FUSED.values(), ids=FUSED.keys())
def test_a_fused_loss_names_the_loss_of_logits(loss):
    leaf = HIDDEN.clone().requires_grad_()
    with pytest.raises(
        RuntimeError, match=r"compute the logits, and pass them to .*sparse_distillation_loss with backend"
    ):
        torch.autograd.grad(loss(leaf), leaf, create_graph=True)

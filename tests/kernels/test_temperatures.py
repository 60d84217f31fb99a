"""Gradients of temperatures and scales by the row kernel, against autograd of the reference in float64."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cases import CASES
from limbeck import DistillationLoss
from limbeck.losses.divergence_base import resolve_divergence
from limbeck.losses.divergences import Divergence

SOFTENED = [case for case in CASES if not case.on_logits]


def draw(rows, classes, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(2, rows, classes, generator=generator, dtype=torch.float64)
    temperatures = 1 + 3 * torch.rand(3, rows, generator=generator, dtype=torch.float64)
    return *logits, temperatures


def loss_and_gradients(backend, dtype, case, student, teacher, numbers, labels, alpha, shared, upstream):
    leaves = [x.to(dtype).clone().requires_grad_() for x in (student, *numbers)]
    student, t_t, t_s, scale = leaves
    objective = DistillationLoss(alpha=alpha, divergence=case.name, backend=backend, **case.options)
    mask = torch.arange(len(student)) != 1
    parts = objective.parts(
        student, teacher.to(dtype), labels, mask=mask, temperature=t_s if shared else (t_t, t_s), scale=scale
    )
    loss = torch.stack([u * part for u, part in zip(upstream, parts, strict=True)]).sum()
    return [loss.detach().double(), *(x.double() for x in torch.autograd.grad(loss, leaves, materialize_grads=True))]


@settings(max_examples=15, deadline=None)
@given(
    case=st.sampled_from(SOFTENED),
    shape=st.sampled_from([(3, 4), (40, 500)]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    alpha=st.sampled_from([0.3, 1.0]),
    shared=st.booleans(),
    upstream=st.sampled_from([(1.0, 0.0, 0.0), (0.5, 0.7, -0.2)]),
    seed=st.integers(0, 99),
)
def test_they_are_those_of_the_reference(case, shape, dtype, alpha, shared, upstream, seed):
    student, teacher, numbers = draw(shape[0], shape[1], seed)
    student[0] = teacher[0] + 1e-3 * student[0]
    student[:, -1] = teacher[:, -1] = -math.inf
    labels = torch.arange(shape[0]) % (shape[1] - 1)
    labels[2] = -100
    got, expected = (
        loss_and_gradients(backend, d, case, student, teacher, numbers, labels, alpha, shared, upstream)
        for backend, d in (("cpu", dtype), ("reference", torch.float64))
    )
    for x, y in zip(got, expected, strict=True):
        assert (x - y).norm() <= (1e-4 if dtype == torch.float32 else 1e-10) * y.norm() + 1e-12


@pytest.mark.parametrize("case", SOFTENED, ids=str)
def test_the_mirrored_divergence_exchanges_both_distributions(case):
    student, teacher, _ = draw(3, 5, 0)
    divergence = resolve_divergence(case.name, **case.options)
    assert divergence.mirrored is not None
    values = [
        DistillationLoss(alpha=1, divergence=d, reduction="none")(*logits)
        for d, logits in ((divergence, (student, teacher)), (divergence.mirrored, (teacher, student)))
    ]
    torch.testing.assert_close(*values)
    assert Divergence().mirrored is None


def test_half_precision_and_a_second_derivative():
    student, teacher, numbers = draw(4, 6, 0)
    leaf = student.bfloat16().requires_grad_()
    temperature = numbers[0].float().requires_grad_()
    loss = DistillationLoss(alpha=1).parts(leaf, teacher.bfloat16(), temperature=temperature).total
    gradients = torch.autograd.grad(loss, (leaf, temperature), retain_graph=True)
    assert [x.dtype for x in gradients] == [torch.bfloat16, torch.float32]
    with pytest.raises(RuntimeError, match="backend='reference'"):
        torch.autograd.grad(loss, leaf, create_graph=True)


def test_labels_that_ask_for_gradient_too_go_to_the_reference():
    student, teacher, numbers = draw(4, 6, 0)
    temperature, labels = numbers[0].requires_grad_(), torch.softmax(teacher, -1).requires_grad_()
    results = []
    for backend in ("auto", "reference"):
        loss = DistillationLoss(alpha=0.5, backend=backend).parts(student, teacher, labels, temperature=temperature)
        results.append(torch.autograd.grad(loss.total, (temperature, labels)))
    torch.testing.assert_close(*results)

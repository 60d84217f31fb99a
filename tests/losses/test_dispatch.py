"""Which backend computes a call, and what a call knows of its rows."""

from dataclasses import dataclass

import pytest
import torch

from limbeck.errors import ArgumentError
from limbeck.kernels import cpu
from limbeck.losses import (
    DistillationLoss,
    Divergence,
    SparseTargets,
    distillation_loss,
    distillation_loss_parts,
    expectation,
    linear_distillation_loss,
    linear_distillation_loss_parts,
    sparse_distillation_loss,
    sparse_distillation_loss_parts,
    sparse_linear_distillation_loss,
)
from limbeck.losses.functional import prepare
from limbeck.losses.kernel_choice import fused_kernel, kernel_for


@dataclass(frozen=True)
class TermsOnly(Divergence):
    def terms(self, a, b):
        return (a.exp() - b.exp()) ** 2


def call_for(labels=None, **options):
    logits = torch.zeros(2, 3, 5)
    defaults = distillation_loss.__kwdefaults__ | {"with_parts": False, "alpha": 1.0} | options
    return prepare(logits, logits, labels, **defaults)


def test_auto_takes_the_kernel_of_the_device(backend):
    call, student, _ = call_for()
    assert kernel_for(call, student, "auto") is (cpu.row_kernel if backend == "auto" else None)
    assert kernel_for(call, student, "reference") is None
    assert kernel_for(call, student, "cpu") is cpu.row_kernel


@dataclass(frozen=True)
class Learned(Divergence):
    """Its weight is a field, as a user would have it; terms_and_slopes would give it no gradient."""

    weight: torch.Tensor

    def terms(self, a, b):
        return self.weight * expectation(b.exp(), b - a)

    @staticmethod
    def terms_and_slopes(d, p_s, p_t, weight):
        return weight * p_t * d, -weight * p_t


WEIGHT = torch.nn.Parameter(torch.tensor(3.0))


@dataclass(frozen=True)
class Hidden(Divergence):
    """Its weight is no field, but a parameter that its terms use."""

    def terms(self, a, b):
        return WEIGHT * expectation(b.exp(), b - a)


WITH_GRADIENT = {
    "temperature": torch.tensor(2.0, requires_grad=True),
    "scale": torch.tensor(2.0, requires_grad=True),
    "weight": torch.ones(5, requires_grad=True),
    "divergence": Learned(WEIGHT),
}


@pytest.mark.parametrize("name", WITH_GRADIENT)
def test_the_fused_projection_refuses_what_asks_for_gradient(name):
    call, student, _ = call_for(**{name: WITH_GRADIENT[name]})
    with pytest.raises(
        ArgumentError, match=rf"^{name}: it asks for gradient, which the fused projection does not give"
    ):
        fused_kernel(call, student, "auto")


@pytest.mark.parametrize("name", ["temperature", "scale"])
def test_temperatures_and_scales_that_ask_for_gradient_go_to_the_cpu_kernel(name):
    for divergence, kernel in (("forward_kl", cpu.row_kernel), ("logit_mse", None)):  # its temperature has no gradient
        call, student, _ = call_for(**{name: WITH_GRADIENT[name]}, divergence=divergence)
        assert kernel_for(call, student, "cpu" if kernel else "auto") is kernel


@pytest.mark.parametrize("name", ["weight", "divergence"])
def test_what_asks_for_gradient_goes_to_the_reference(name):
    call, student, _ = call_for(**{name: WITH_GRADIENT[name]})
    assert kernel_for(call, student, "auto") is None
    with pytest.raises(ArgumentError, match=rf"backend: 'cpu' cannot compute this call: the {name} asks for gradient"):
        kernel_for(call, student, "cpu")
    with torch.no_grad():
        assert kernel_for(call, student, "cpu") is cpu.row_kernel


@pytest.mark.parametrize("divergence", [Learned(WEIGHT), Hidden()], ids=["field", "hidden"])
def test_a_parameter_of_a_divergence_is_learned(divergence):
    """KL is linear in the weight, so its gradient is KL itself."""
    student, teacher = torch.randn(4, 5, requires_grad=True), torch.randn(4, 5)
    plain = distillation_loss(student, teacher, alpha=1)
    targets = SparseTargets.top_k(teacher, 5, temperatures=[4.0])
    for loss in (
        distillation_loss(student, teacher, alpha=1, divergence=divergence),
        DistillationLoss(alpha=1, divergence=divergence)(student, teacher),
        sparse_distillation_loss(student, targets, alpha=1, temperature=4.0, divergence=divergence),
    ):
        of_weight, of_student = torch.autograd.grad(loss, (WEIGHT, student))
        torch.testing.assert_close(of_weight, plain.detach())
        torch.testing.assert_close(of_student, 3 * torch.autograd.grad(plain, student, retain_graph=True)[0])
    hidden, weight = torch.randn(4, 3), torch.randn(5, 3)
    fused = dict(alpha=1, divergence=divergence)
    with pytest.raises(ArgumentError, match="divergence: it asks for gradient, which the fused projection"):
        linear_distillation_loss(hidden, weight, hidden, weight, **fused)
    with pytest.raises(ArgumentError, match="divergence: it asks for gradient, which the fused projection"):
        sparse_linear_distillation_loss(hidden, weight, targets, **fused)


def test_the_dtype_is_that_of_what_was_given_whatever_alpha_is():
    """float64 only when both are."""
    student, labels = torch.randn(4, 5, dtype=torch.float64), torch.tensor([0, 1, 2, 3])
    hidden, weight = torch.randn(4, 3, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64)
    for dtype in (torch.float32, torch.float64):
        teacher = torch.randn(4, 5, dtype=dtype)
        targets, own = SparseTargets.top_k(teacher, 3), (hidden.to(dtype), weight.to(dtype))
        for alpha in (0.0, 0.5):
            options = dict(alpha=alpha)
            found = [
                distillation_loss(student, teacher, labels, **options),
                distillation_loss_parts(student, teacher, labels, **options).total,
                DistillationLoss(**options)(student, teacher, labels),
                sparse_distillation_loss(student, targets, labels, **options),
                sparse_distillation_loss_parts(student, targets, labels, **options).hard,
                linear_distillation_loss(hidden, weight, *own, labels, **options),
                linear_distillation_loss_parts(hidden, weight, *own, labels, **options).hard,
                sparse_linear_distillation_loss(hidden, weight, targets, labels, **options),
            ]
            assert {value.dtype for value in found} == {dtype}
    assert distillation_loss(student, None, labels, alpha=0).dtype == torch.float64


def test_a_closed_form():
    assert call_for()[0].has_closed_form
    assert not call_for(divergence=TermsOnly())[0].has_closed_form
    assert not call_for(weight=torch.ones(5))[0].has_closed_form
    hard_only, *_ = call_for(torch.zeros(2, 3, dtype=torch.long), divergence=TermsOnly(), alpha=0.0)
    assert hard_only.has_closed_form
    assert not hard_only.has_soft_term


def test_positions_become_rows():
    labels = torch.tensor([[0, -100, 2], [3, 4, -100]])
    temperature = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    call, student, teacher = call_for(labels, alpha=0.5, temperature=temperature)
    assert student.shape == teacher.shape == (6, 5)
    assert call.labels.tolist() == [0, 0, 2, 3, 4, 0]
    assert call.labelled.tolist() == [True, False, True, True, True, False]
    assert call.weights.tolist() == [0.25, 0, 0.25, 0.25, 0.25, 0]
    assert call.student_temperature.squeeze(-1).tolist() == [1, 2, 3, 4, 5, 6]
    assert call.compensation.squeeze(-1).tolist() == [1, 1, 9, 16, 25, 1]  # 1 where a position does not count

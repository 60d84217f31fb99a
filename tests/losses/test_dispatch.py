"""Which backend computes a call, and what a call knows of its rows."""

from dataclasses import dataclass

import pytest
import torch

from limbeck.errors import ArgumentError
from limbeck.kernels import cpu
from limbeck.losses import Divergence, distillation_loss
from limbeck.losses.dispatch import kernel_for
from limbeck.losses.functional import prepare


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


@pytest.mark.parametrize("name", ["temperature", "scale"])
def test_what_asks_for_gradient_goes_to_the_reference(name):
    call, student, _ = call_for(**{name: torch.tensor(2.0, requires_grad=True)})
    assert kernel_for(call, student, "auto") is None
    with pytest.raises(ArgumentError, match=rf"backend: 'cpu' cannot compute this call: the {name} asks for gradient"):
        kernel_for(call, student, "cpu")


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

"""When the node of the graph asks its kernel for a gradient, and with which scales."""

import pytest
import torch

from limbeck.kernels import cpu
from limbeck.kernels.autograd import rows_loss, scales_for
from limbeck.losses import distillation_loss
from limbeck.losses.functional import prepare

LABELS = torch.tensor([0, 3, -100])


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def call_for(student, **options):
    defaults = distillation_loss.__kwdefaults__ | {"with_parts": False} | options
    return prepare(student, draw(3, 5, seed=1), LABELS, **defaults)


class Spy:
    """The CPU kernel, which remembers what it was given."""

    def __init__(self):
        self.gradients, self.scales = [], []

    def __call__(self, student, teacher, call, scales, gradient):
        self.gradients.append(gradient)
        self.scales.append(scales)
        return cpu.row_kernel(student, teacher, call, scales, gradient)


def test_evaluation_computes_no_gradient():
    spy, logits = Spy(), draw(3, 5).requires_grad_()
    call, student, teacher = call_for(logits, inplace=True)
    with torch.no_grad():
        rows_loss(student, teacher, call, spy)
    rows_loss(student.detach(), teacher, call, spy)
    assert spy.gradients == [None, None]
    assert torch.equal(logits, draw(3, 5))  # there is no gradient to become


def test_a_plain_backward_pass_runs_the_kernel_once():
    spy, logits = Spy(), draw(3, 5).requires_grad_()
    call, student, teacher = call_for(logits)
    total, soft, _ = rows_loss(student, teacher, call, spy)
    total.backward(retain_graph=True)
    assert len(spy.gradients) == 1
    soft.sum().backward()  # the gradient of a part needs another run
    assert len(spy.gradients) == 2
    torch.testing.assert_close(spy.scales[1][0], torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(spy.scales[1][1], torch.zeros(3, dtype=torch.float64))


def test_the_scales_are_the_derivatives_of_the_outputs():
    call, *_ = call_for(draw(3, 5), alpha=0.3)
    soft, hard = scales_for(call, torch.tensor(2.0), torch.ones(3), None)
    counted = torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64) / 2
    torch.testing.assert_close(soft, 2 * 0.3 * counted + 1)
    torch.testing.assert_close(hard, 2 * 0.7 * counted)


@pytest.mark.parametrize("rows", [slice(1, 3), torch.tensor([2, 0])])
def test_a_part_of_a_call_has_the_parts_of_its_rows(rows):
    call, *_ = call_for(draw(3, 5), temperature=torch.tensor([1.0, 2.0, 3.0]))
    part = call.part(rows)
    for name in ("labels", "labelled", "counted", "weights", "student_temperature", "compensation"):
        assert torch.equal(getattr(part, name), getattr(call, name)[rows])
    assert part.alpha == call.alpha

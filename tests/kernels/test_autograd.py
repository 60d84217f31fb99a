"""When the node of the graph asks its kernel for a gradient, and with which scales."""

import weakref
from functools import partial

import pytest
import torch

from limbeck.kernels import cpu
from limbeck.kernels.autograd import rows_loss, scales_for
from limbeck.losses import (
    DistillationLoss,
    SparseTargets,
    distillation_loss,
    distillation_loss_parts,
    linear_distillation_loss,
    sparse_distillation_loss,
)
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


def changed(x):
    """Change a tensor in place, as the next batch that is written into the same memory does."""
    x.logical_not_() if x.dtype == torch.bool else x.add_(1).remainder_(3)


GIVEN = {
    "labels": torch.tensor([0, 1, 2]),
    "mask": torch.tensor([True, True, False]),
    "temperature": torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64),
    "weight": torch.ones(5, dtype=torch.float64),
}


@pytest.mark.parametrize("name", ["teacher_logits", *GIVEN])
def test_a_change_in_place_before_the_gradient_is_computed_again_is_an_error(name):
    given = {key: value.clone() for key, value in GIVEN.items()} | {"teacher_logits": draw(3, 5, seed=1)}
    loss = distillation_loss(draw(3, 5).requires_grad_(), **given, backend="cpu")
    loss.backward(retain_graph=True)
    changed(given[name])
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize(
    "name", ["teacher_hidden", "teacher_weight", "teacher_bias", "labels", "temperature", "weight"]
)
def test_the_same_for_hidden_states(name):
    """There is no mask: with one, the positions that count are copied, and a change does not reach the gradient."""
    given = {key: value.clone() for key, value in GIVEN.items() if key != "mask"}
    given |= {
        "teacher_hidden": draw(3, 2, seed=1),
        "teacher_weight": draw(5, 2, seed=2),
        "teacher_bias": draw(5, seed=3),
    }
    loss = linear_distillation_loss(draw(3, 4).requires_grad_(), draw(5, 4, seed=4), **given)
    loss.backward(retain_graph=True)
    changed(given[name])
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("name", ["ids", "labels"])
def test_the_same_for_sparse_targets(name):
    targets = SparseTargets.top_k(draw(3, 5, seed=1), 2)
    given = {"ids": targets.ids, "labels": GIVEN["labels"].clone()}
    loss = sparse_distillation_loss(draw(3, 5).requires_grad_(), targets, given["labels"])
    loss.backward(retain_graph=True)
    changed(given[name])
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_a_gradient_that_is_there_already_is_handed_over():
    """The first plain backward pass reads nothing any more, so that a change before it is no fault."""
    labels, student = GIVEN["labels"].clone(), draw(3, 5).requires_grad_()
    expected = torch.autograd.grad(distillation_loss(student, draw(3, 5, seed=1), labels), student)
    loss = distillation_loss(student, draw(3, 5, seed=1), labels)
    changed(labels)
    torch.testing.assert_close(torch.autograd.grad(loss, student), expected)


class Output(torch.autograd.Function):
    """A model whose output lies in memory that shows when it is freed."""

    @staticmethod
    def forward(ctx, x, alive):
        memory = x.detach().numpy().copy()
        alive.append(weakref.ref(memory))
        return torch.from_numpy(memory)

    @staticmethod
    def backward(ctx, gradient):
        return gradient, None


LOSSES_TO_KEEP = {
    "plain": distillation_loss,
    "scaled": lambda *args: 0.25 * distillation_loss(*args),
    "reference": partial(distillation_loss, backend="reference"),
    "module": DistillationLoss(),
    "hard term": lambda *args: distillation_loss_parts(*args).hard,
    "hidden states": lambda s, t, y: linear_distillation_loss(s, draw(7, 5, seed=3), t, draw(7, 5, seed=4), y),
}


@pytest.mark.parametrize("name", LOSSES_TO_KEEP)
def test_a_loss_that_is_kept_after_its_backward_pass_keeps_no_logits(name):
    alive, inputs = [], draw(3, 5).requires_grad_()
    student, teacher = Output.apply(inputs, alive), Output.apply(draw(3, 5, seed=1), alive)
    loss = LOSSES_TO_KEEP[name](student, teacher, torch.tensor([0, 3, 1]))
    loss.backward()
    del student, teacher
    assert [memory() for memory in alive] == [None, None]
    assert loss.grad_fn is not None


def gradient_error(loss, student, upstream, dtype):
    """Return the norm of a gradient's error over its norm, against float64 on the same rounded logits."""
    student = student.to(dtype)
    leaves = student.clone().requires_grad_(), student.double().requires_grad_()
    got, truth = (torch.autograd.grad(upstream * loss(leaf * 1), leaf)[0].double() for leaf in leaves)
    return ((got - truth).norm() / truth.norm()).item()


HALF_PRECISION = {torch.float16: 4e-4, torch.bfloat16: 4e-3}


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("upstream", [65536.0, 50000.0])
@pytest.mark.parametrize("dtype", HALF_PRECISION)
def test_half_precision_is_rounded_once(dtype, upstream, inplace):
    """A loss scale keeps the small entries of a float16 gradient, as GradScaler means it to."""
    teacher, labels = draw(64, 500, seed=1), torch.arange(64)
    options = dict(teacher_logits=teacher.to(dtype), labels=labels, inplace=inplace, num_items=65536)
    assert gradient_error(partial(distillation_loss, **options), draw(64, 500), upstream, dtype) < HALF_PRECISION[dtype]


@pytest.mark.parametrize("upstream", [65536.0, 50000.0])
@pytest.mark.parametrize("dtype", HALF_PRECISION)
def test_the_same_for_the_fused_loss(dtype, upstream):
    weight, teacher = draw(500, 8, seed=2), draw(64, 500, seed=1)

    def loss(hidden):
        student = weight.to(hidden.dtype)
        given = teacher.to(dtype).to(hidden.dtype), torch.eye(500, dtype=hidden.dtype), torch.arange(64)
        return linear_distillation_loss(hidden, student, *given, num_items=65536)

    assert gradient_error(loss, draw(64, 8) / 3, upstream, dtype) < 2 * HALF_PRECISION[dtype]


def test_in_place_a_float16_gradient_takes_the_place_of_the_logits_in_the_backward_pass():
    leaf = draw(3, 5).half().requires_grad_()
    logits = leaf * 1
    loss = distillation_loss(logits, draw(3, 5, seed=1).half(), LABELS, inplace=True)
    (gradient,) = torch.autograd.grad(loss, logits, retain_graph=True)
    assert gradient.data_ptr() == logits.data_ptr()
    with pytest.raises(RuntimeError, match="use inplace=False"):
        torch.autograd.grad(loss, logits)


def test_a_power_of_two_scales_bfloat16_without_another_run():
    spy, logits = Spy(), draw(3, 5).bfloat16().requires_grad_()
    call, student, teacher = call_for(logits)
    total, *_ = rows_loss(student, teacher, call, spy)
    total.backward(torch.tensor(0.25))
    assert len(spy.gradients) == 1

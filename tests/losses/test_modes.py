"""Tensors and calls under ``torch.inference_mode()`` and ``FakeTensorMode``: what they leave behind, and what they give."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import func
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad

from limbeck import DistillationLoss, SparseTargets
from limbeck.errors import ArgumentError
from limbeck.losses import (
    distillation_loss,
    distillation_loss_parts,
    linear_distillation_loss,
    sparse_distillation_loss,
)

SHAPES = [(6, 10), (40, 500)]  # below and above the size from which the CPU kernel keeps memory


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def inputs(rows, classes):
    """Return everything beside the student's logits that a caller may have computed under inference mode."""
    labels = torch.arange(rows) % classes
    labels[1] = -100
    return {
        "teacher_logits": draw(rows, classes, seed=1),
        "labels": labels,
        "mask": torch.arange(rows) % 3 > 0,
        "weight": draw(classes, seed=2).exp(),
        "temperature": draw(rows, seed=3).exp(),
        "num_items": torch.tensor(5.0),
    }


def value_and_gradients(loss, student):
    student = student.clone().requires_grad_()
    total = loss(student)
    total.backward(retain_graph=True)
    total.backward()  # this one computes the gradient again, from what was saved
    return total.detach(), student.grad


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("left_out", [(), ("weight",), ("weight", "temperature", "mask", "num_items")], ids=str)
@pytest.mark.parametrize("divergence", ["forward_kl", "reverse_kl", "logit_mse"])
def test_what_was_made_under_inference_mode_is_taken(shape, left_out, divergence):
    plain = {name: value for name, value in inputs(*shape).items() if name not in left_out}
    with torch.inference_mode():
        made = {name: value.clone() for name, value in plain.items()}
    assert made["teacher_logits"].is_inference()
    found, expected = (
        value_and_gradients(lambda s, given=given: distillation_loss(s, **given, divergence=divergence), draw(*shape))
        for given in (made, plain)
    )
    torch.testing.assert_close(found, expected)


def test_views_of_what_was_made_there_are_taken():
    with torch.inference_mode():
        made = draw(10, 3, 6, seed=1).permute(1, 2, 0)[:, 1:]
    student = draw(3, 5, 10)
    found, expected = (
        value_and_gradients(lambda s, t=t: distillation_loss(s, t, alpha=1.0), student)
        for t in (made, made.clone().contiguous())
    )
    torch.testing.assert_close(found, expected)


def test_the_teacher_is_not_copied():
    with torch.inference_mode():
        made = draw(6, 10)
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(x.data_ptr()) or x, lambda x: x):
        distillation_loss(draw(6, 10, seed=1).requires_grad_(), made, alpha=1.0, backend="cpu")
    assert made.data_ptr() in saved


def test_a_learned_temperature_and_the_module_take_it():
    with torch.inference_mode():
        made = draw(6, 10, seed=1)
    results = []
    for teacher in (made, made.clone()):
        student, temperature = draw(6, 10).requires_grad_(), torch.tensor(2.0, requires_grad=True)
        loss = DistillationLoss(alpha=1.0).parts(student, teacher, temperature=temperature).total
        results.append([loss.detach(), *torch.autograd.grad(loss, (student, temperature))])
    torch.testing.assert_close(*results)


def test_sparse_targets_and_hidden_states_take_it():
    with torch.inference_mode():
        targets, labels = SparseTargets.top_k(draw(6, 10, seed=1), 4), torch.arange(6)
        hidden, weight = draw(6, 3, seed=2), draw(10, 3, seed=3)
    losses = {
        "sparse": lambda s, c: sparse_distillation_loss(s, targets.apply(c), c(labels)),
        "linear": lambda s, c: linear_distillation_loss(s, draw(10, 10, seed=4), c(hidden), c(weight), c(labels)),
    }
    for loss in losses.values():
        found, expected = (
            value_and_gradients(lambda s, loss=loss, c=c: loss(s, c), draw(6, 10))
            for c in (lambda x: x, torch.Tensor.clone)
        )
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("mode", [torch.inference_mode, FakeTensorMode])
@pytest.mark.parametrize("divergence", ["forward_kl", "jsd"])
def test_a_loss_under_a_mode_leaves_the_next_one_as_it_is(mode, divergence):
    shape = SHAPES[1]
    student, teacher = draw(*shape), draw(*shape, seed=1)

    def loss(s):
        return distillation_loss(s, teacher, alpha=1.0, divergence=divergence)

    def around_a_mode():
        with mode():
            s, t = torch.randn(*shape), torch.randn(*shape)
            assert distillation_loss(s, t, alpha=1.0, divergence=divergence).shape == ()
        return value_and_gradients(loss, student)

    expected = value_and_gradients(loss, student)
    torch.testing.assert_close(around_a_mode(), expected)
    with ThreadPoolExecutor(1) as fresh:  # each thread keeps memory of its own, and this one has none yet
        torch.testing.assert_close(fresh.submit(around_a_mode).result(), expected)


def test_values_without_gradient_of_logits_of_inference_mode():
    with torch.inference_mode():
        student, teacher = draw(6, 10), draw(6, 10, seed=1)
    found = distillation_loss_parts(student, teacher, torch.arange(6))
    expected = distillation_loss_parts(student.clone(), teacher.clone(), torch.arange(6))
    torch.testing.assert_close(found, expected)


def plain(s, t, temperature=2.0):
    """The forward KL of one row or several, as books write it."""
    a, b = torch.log_softmax(s / temperature, -1), torch.log_softmax(t / temperature, -1)
    return temperature**2 * (b.exp() * (b - a)).sum(-1).mean()


def loss(s, t):
    return distillation_loss(s, t, alpha=1.0, temperature=2.0)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # torch's own, at the first forward-mode call
@pytest.mark.parametrize("shape", [(3, 4), (40, 500)])
def test_transforms_of_torch_func_and_forward_mode_take_plain_operations(shape):
    student, teacher, tangent = (draw(*shape, seed=seed).double() for seed in range(3))

    def forward_mode(f):
        with forward_ad.dual_level():
            return forward_ad.unpack_dual(f(forward_ad.make_dual(student, tangent), teacher)).tangent

    def row_by_row(f):
        return func.vmap(func.grad(lambda s, t: f(s[None], t[None])))(student, teacher)

    def second(f):
        return func.jvp(func.grad(lambda s: f(s, teacher)), (student,), (tangent,))

    for transform in (
        forward_mode, row_by_row, second, lambda f: func.grad(f)(student, teacher),
        lambda f: func.jvp(lambda s: f(s, teacher), (student,), (tangent,)),
    ):  # fmt: skip
        torch.testing.assert_close(transform(loss), transform(plain))


def test_labels_under_vmap():
    student, teacher, labels = draw(5, 1, 4), draw(5, 1, 4, seed=1), torch.arange(5).unsqueeze(-1) % 4
    got = func.vmap(lambda s, t, y: distillation_loss(s, t, y))(student, teacher, labels)
    expected = torch.stack([distillation_loss(*x) for x in zip(student, teacher, labels, strict=True)])
    torch.testing.assert_close(got, expected)


def test_a_kernel_that_is_asked_for_refuses_them():
    with pytest.raises(ArgumentError, match=r"backend: 'cpu' cannot compute this call: torch\.func and forward"):
        func.grad(lambda s: distillation_loss(s, draw(2, 3, seed=1), alpha=1.0, backend="cpu"))(draw(2, 3))

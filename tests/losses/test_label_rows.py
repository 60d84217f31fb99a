"""Labels that are the probability of each class, against ``F.cross_entropy`` in float64."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from limbeck import (
    DistillationLoss,
    SparseTargets,
    distillation_loss,
    distillation_loss_parts,
    linear_distillation_loss,
    linear_distillation_loss_parts,
    sparse_distillation_loss_parts,
    sparse_linear_distillation_loss_parts,
)
from limbeck.errors import ArgumentError, ArgumentTypeError
from limbeck.kernels import cpu
from limbeck.losses.labels import mixed_labels, most_likely_classes

OF_DTYPE = {torch.float64: 1e-9, torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 3e-3}
dtypes, seeds = st.sampled_from(list(OF_DTYPE)), st.integers(0, 2**31)
shapes = st.lists(st.integers(1, 5), min_size=1, max_size=3)


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def rows(*shape, seed=5):
    return draw(*shape, seed=seed).softmax(-1)


def hard_of_torch(logits, labels, **options):
    """The mean over positions, and its gradient."""
    leaf = logits.detach().double().requires_grad_()
    loss = F.cross_entropy(leaf.flatten(0, -2), labels.double().flatten(0, -2), **options)
    return loss.detach(), torch.autograd.grad(loss, leaf)[0]


def value_and_gradient(loss, leaf):
    return loss.detach(), torch.autograd.grad(loss, leaf)[0]


def assert_close(got, truth, rtol=1e-9):
    for ours, theirs in zip(got, truth, strict=True):
        torch.testing.assert_close(ours.double(), theirs.double(), rtol=rtol, atol=rtol)


@settings(max_examples=20)
@given(shape=shapes, classes=st.sampled_from([2, 7, 3000]), dtype=dtypes, of_labels=dtypes, smoothing=st.sampled_from([0, 0.2]),
       weighted=st.booleans(), seed=seeds)  # fmt: skip
def test_the_hard_term_is_that_of_torch(shape, classes, dtype, of_labels, smoothing, weighted, seed):
    leaf, teacher = draw(*shape, classes, seed=seed, dtype=dtype).requires_grad_(), draw(*shape, classes, dtype=dtype)
    labels = rows(*shape, classes, seed=seed + 1).to(of_labels)
    options = dict(label_smoothing=smoothing, weight=rows(classes) * classes if weighted else None)
    truth = hard_of_torch(leaf, labels, **options)
    for t in (1.0, 2.5):
        parts = distillation_loss_parts(leaf, teacher, labels, alpha=0.5, temperature=t, **options)
        assert_close(
            value_and_gradient(parts.hard, leaf), truth, OF_DTYPE[dtype] + 1e-2 * (of_labels != torch.float64) * 1e-3
        )
        only_soft = distillation_loss(leaf, teacher, alpha=1.0, temperature=t)
        torch.testing.assert_close(parts.total, 0.5 * only_soft + 0.5 * parts.hard, check_dtype=False)


@pytest.mark.parametrize("divergence", ["forward_kl", "reverse_kl", "jsd", "logit_mse"])
@pytest.mark.parametrize("classes", [9, 5000])
def test_the_whole_gradient_whatever_the_soft_term(divergence, classes):
    leaf, teacher, labels = draw(6, classes).requires_grad_(), draw(6, classes, seed=1), rows(6, classes)
    options = dict(temperature=3.0, divergence=divergence, mask=torch.arange(6) % 3 > 0)
    got = value_and_gradient(distillation_loss(leaf, teacher, labels, alpha=0.3, **options), leaf)
    soft = value_and_gradient(distillation_loss(leaf, teacher, alpha=1.0, backend="reference", **options), leaf)
    hard = hard_of_torch(leaf[options["mask"]], labels[options["mask"]])
    whole = torch.zeros(6, classes, dtype=torch.float64).index_put((options["mask"],), hard[1])
    assert_close(got, (0.3 * soft[0] + 0.7 * hard[0], 0.3 * soft[1] + 0.7 * whole))


def test_one_hot_rows_are_the_integers(backend):
    for classes in (8, 4096):
        leaf, labels = draw(7, classes, dtype=torch.float32).requires_grad_(), torch.arange(7)
        teacher, one_hot = draw(7, classes, seed=1, dtype=torch.float32), F.one_hot(labels, classes).float()
        for options in ({}, dict(label_smoothing=0.1), dict(divergence="jsd"), dict(reduction="sum", inplace=False)):
            both = (distillation_loss(leaf, teacher, y, temperature=2.0, **options) for y in (labels, one_hot))
            assert_close(*(value_and_gradient(loss, leaf) for loss in both), rtol=1e-5)


def test_a_row_of_the_ignored_number_is_a_position_without_a_label():
    leaf, teacher, labels = draw(4, 5).requires_grad_(), draw(4, 5, seed=1), rows(4, 5)
    integers = torch.tensor([0, -100, 2, 3])
    labels = F.one_hot(integers.clamp(min=0), 5).double()
    labels[1] = -100
    for mask in (None, torch.tensor([True, True, False, True])):
        for y, other in (
            (labels, integers),
            (labels.masked_fill(labels < 0, 255), integers.masked_fill(integers < 0, 255)),
        ):
            options = dict(mask=mask, ignore_index=int(other[1]), label_smoothing=0.1)
            assert_close(
                *(value_and_gradient(distillation_loss(leaf, teacher, y, **options), leaf) for y in (y, other))
            )
    outside = labels.clone()
    outside[2] = math.nan
    options = dict(mask=torch.tensor([True, True, False, True]))
    both = (distillation_loss(leaf, teacher, y, **options) for y in (outside, labels))
    torch.testing.assert_close(*both)


def test_zero_is_a_probability_where_it_is_the_ignored_number():
    labels, s, t = F.one_hot(torch.tensor([1, 0, 2]), 3).double(), draw(3, 3), draw(3, 3, seed=1)
    torch.testing.assert_close(distillation_loss(s, t, labels, ignore_index=0), distillation_loss(s, t, labels))


@pytest.mark.parametrize("classes", [6, 6000])
def test_a_class_that_is_absent_has_no_probability(classes):
    leaf, teacher, labels = draw(3, classes), draw(3, classes, seed=1), rows(3, classes)
    for x in (leaf, teacher):
        x[:, 1] = -math.inf
    labels[:, 1] = 0
    labels = (labels / labels.sum(-1, keepdim=True)).requires_grad_(False)
    present = torch.arange(classes) != 1
    leaf.requires_grad_()
    for weight in (None, rows(classes)):
        parts = distillation_loss_parts(leaf, teacher, labels, weight=weight)
        value, gradient = value_and_gradient(parts.hard, leaf)
        of_present = None if weight is None else weight[present]
        truth = hard_of_torch(leaf[:, present], labels[:, present], weight=of_present)
        assert_close((value, gradient[:, present]), truth)
        assert not gradient[:, 1].any()
    assert distillation_loss(leaf, teacher, rows(3, classes), alpha=0.5).isposinf()


def test_classes_in_another_dimension():
    s, t, labels = draw(2, 5, 3, 4), draw(2, 5, 3, 4, seed=1), draw(2, 5, 3, 4, seed=2).softmax(1)
    truth = distillation_loss(s.movedim(1, -1), t.movedim(1, -1), labels.movedim(1, -1))
    for loss in (distillation_loss, DistillationLoss(class_dim=1)):
        options = {} if isinstance(loss, DistillationLoss) else dict(class_dim=1)
        torch.testing.assert_close(loss(s, t, labels, **options), truth)
    targets = SparseTargets.top_k(t.movedim(1, -1), k=2, temperatures=[4.0])
    sparse = DistillationLoss(class_dim=1).parts(s, targets, labels)
    torch.testing.assert_close(sparse.hard, F.cross_entropy(s, labels))
    hard = distillation_loss(s, None, labels, class_dim=1, alpha=0.0)
    torch.testing.assert_close(hard, F.cross_entropy(s, labels))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weighted", [False, True])
def test_sparse_and_fused_losses(smoothing, weighted):
    hidden, weight, teacher = draw(6, 4).requires_grad_(), draw(9, 4, seed=1).requires_grad_(), draw(6, 9, seed=2)
    labels, targets = rows(6, 9), SparseTargets.top_k(teacher, k=3, temperatures=[2.0])
    labels[4] = -100
    options = dict(label_smoothing=smoothing, weight=rows(9) * 9 if weighted else None, temperature=2.0)
    logits = hidden @ weight.T
    counted = torch.arange(6) != 4
    truth = F.cross_entropy(logits[counted], labels[counted], label_smoothing=smoothing, weight=options["weight"])
    truth = (truth.detach(), *torch.autograd.grad(truth, (hidden, weight), retain_graph=True))
    found = (
        sparse_distillation_loss_parts(logits, targets, labels, **options),
        sparse_linear_distillation_loss_parts(hidden, weight, targets, labels, chunk=2, **options),
        linear_distillation_loss_parts(hidden, weight, hidden.detach(), weight.detach(), labels, chunk=2, **options),
        DistillationLoss(**options).parts(logits, targets, labels),
    )
    for parts in found:
        assert_close(
            (parts.hard.detach(), *torch.autograd.grad(parts.hard, (hidden, weight), retain_graph=True)), truth
        )


def test_labels_may_ask_for_gradient_where_it_can_be_given():
    labels = rows(3, 4).requires_grad_()
    s, t = draw(3, 4).requires_grad_(), draw(3, 4, seed=1)
    loss = distillation_loss(s, t, labels, alpha=0.25, label_smoothing=0.1)
    truth = 0.75 * F.cross_entropy(s, labels, label_smoothing=0.1)
    torch.testing.assert_close(torch.autograd.grad(loss, labels)[0], torch.autograd.grad(truth, labels)[0])
    with pytest.raises(ArgumentError, match="backend: 'cpu' cannot compute this call: the labels asks for gradient"):
        distillation_loss(s, t, labels, backend="cpu")
    with pytest.raises(ArgumentError, match="labels: it asks for gradient, which the fused projection"):
        linear_distillation_loss(s, torch.eye(4), t, torch.eye(4), labels)


S, T = draw(2, 3), draw(2, 3, seed=1)


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (
            [[0.5, 0.5, 0.0], [1.0, 1.0, 0.0]],
            ArgumentError,
            r"labels: the row \(1, 1, 0\) sums to 2\. .*torch.float32 are",
        ),
        ([[1.5, -0.5, 0.0], [1.0, 0.0, 0.0]], ArgumentError, r"labels: the row \(1.5, -0.5, 0\) sums to 1"),
        ([[0.0, math.nan, 1.0], [1.0, 0.0, 0.0]], ArgumentError, r"labels: the row \(0, nan, 1\)"),
        ([[-100.0, 0.0, 1.0], [1.0, 0.0, 0.0]], ArgumentError, "-100 in every class of a position without"),
        (
            [[0.5, 0.5], [0.0, 1.0]],
            ArgumentError,
            r"labels: expected integers.*\(2, 3\); got torch.float32 of shape \(2, 2\)",
        ),
        ([0.0, 1.0], ArgumentTypeError, r"labels: expected integers.*got torch.float32 of shape \(2,\)"),
    ],
)
def test_what_are_no_probabilities(labels, error, message):
    with pytest.raises(error, match=message):
        distillation_loss(S, T, torch.tensor(labels))
    with pytest.raises(error, match=message):
        DistillationLoss()(S, T, torch.tensor(labels))


def test_they_are_the_same_in_a_compiled_graph():
    labels = rows(2, 3)
    compiled = torch.compile(lambda s, y: distillation_loss(s, T, y), backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(S, labels), distillation_loss(S, T, labels))


def test_large_rows_are_not_copied_by_the_kernel(monkeypatch):
    """The kernel takes the labels in chunks too."""
    monkeypatch.setattr(cpu, "CHUNK_ELEMENTS", 1 << 10)
    leaf, labels = draw(64, 300, dtype=torch.float32).requires_grad_(), rows(64, 300).float()
    assert_close(
        value_and_gradient(distillation_loss(leaf, None, labels, alpha=0.0), leaf), hard_of_torch(leaf, labels), 1e-5
    )


@pytest.mark.parametrize("share", [0.3, torch.tensor([0.3, 0.9, 0.5])])
def test_labels_are_mixed(share):
    logits, a, b = draw(3, 4), torch.tensor([0, 1, -100]), torch.tensor([2, 1, 3])
    column = share if isinstance(share, float) else share[:, None]
    expected = column * F.one_hot(a.clamp(min=0), 4) + (1 - column) * F.one_hot(b, 4)
    expected[2] = -100
    got = mixed_labels(a, b, share, logits)
    torch.testing.assert_close(got, expected.double())
    assert most_likely_classes(got).tolist()[1:] == [1, -100]
    a, b = rows(3, 4), rows(3, 4, seed=6)
    torch.testing.assert_close(mixed_labels(a, b, 0.25, logits), 0.25 * a + 0.75 * b)
    a, b = torch.tensor([[1, 0, 1, -100]] * 3), torch.tensor([[0, 1, 0, 1]] * 3)  # a number for each class
    assert mixed_labels(a, b, 0.25, logits)[0].tolist() == [0.25, 0.75, 0.25, -100.0]

"""Several labels at once, against the formulas in float64 and against the two-column softmax."""

import math

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

from limbeck import distillation_loss
from limbeck.errors import ArgumentError
from limbeck.losses import (
    DIVERGENCES,
    SigmoidDistillationLoss,
    SparseTargets,
    sigmoid_distillation_loss,
    sigmoid_distillation_loss_parts,
)

CLASSES = 5


def batch(*positions, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    student, teacher = (3 * torch.randn(*positions, CLASSES, dtype=dtype, generator=generator) for _ in range(2))
    labels = torch.randint(0, 2, student.shape, generator=generator)
    return student.requires_grad_(), teacher, labels


def by_hand(student, teacher, temperature):
    """The forward KL of each class and position, as books write it."""
    q = (teacher / temperature).sigmoid()
    yes = q * (q.log() - logsigmoid(student / temperature))
    no = (1 - q) * ((1 - q).log() - logsigmoid(-student / temperature))
    return temperature**2 * (yes + no)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_formula_in_float64(temperature):
    student, teacher, labels = batch(7)
    weight = torch.rand(CLASSES, dtype=torch.float64)
    parts = sigmoid_distillation_loss_parts(
        student, teacher, labels, temperature=temperature, alpha=0.3, weight=weight, label_smoothing=0.1
    )
    soft = by_hand(student, teacher, temperature).sum(-1).mean()
    smoothed = 0.9 * labels.double() + 0.05
    hard = (weight * binary_cross_entropy_with_logits(student, smoothed, reduction="none")).sum(-1).mean()
    for got, expected in zip(parts, (0.3 * soft + 0.7 * hard, soft, hard), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=0)
    got, expected = (
        torch.autograd.grad(loss, student, retain_graph=True)[0] for loss in (parts.total, 0.3 * soft + 0.7 * hard)
    )
    torch.testing.assert_close(got, expected, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("divergence", DIVERGENCES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_it_is_the_softmax_of_no_and_yes(divergence, dtype):
    """For every divergence, as the sum over classes of ``distillation_loss`` in float64, which other tests hold."""
    student, teacher, labels = batch(4, 3, dtype=dtype)
    mask = torch.tensor([[True, True, False]]).expand(4, 3)
    got = sigmoid_distillation_loss(
        student, teacher, labels, temperature=3.0, alpha=0.6, divergence=divergence, mask=mask, num_items=10
    )
    two = [torch.stack([torch.zeros_like(z), z], -1).double().detach().requires_grad_() for z in (student, teacher)]
    expected = distillation_loss(
        *two, labels, temperature=3.0, alpha=0.6, divergence=divergence, num_items=10,
        mask=mask.unsqueeze(-1).expand(student.shape), backend="reference",
    )  # fmt: skip
    tolerance = dict(rtol=1e-9, atol=1e-12) if dtype == torch.float64 else dict(rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(got.double(), expected, **tolerance)
    (gradient,) = torch.autograd.grad(got, student)
    (of_two,) = torch.autograd.grad(expected, two[0])
    torch.testing.assert_close(gradient.double(), of_two[..., 1], **tolerance)


@pytest.mark.parametrize("divergence", DIVERGENCES)
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_the_gradient_keeps_its_digits_where_one_model_is_sure(divergence, temperature):
    """In float32 as in float64, for a sure "yes" as for a sure "no", right or wrong."""
    backend = "cpu" if divergence == "jsd" else "auto"  # autograd of the reference subtracts 1 from 1 for it
    z = torch.tensor([-30.0, -17.5, -5.0, -1.0, 0.0, 0.3, 4.0, 17.5, 30.0])
    teacher = (z + 0.01).repeat(len(z)).unsqueeze(-1)
    gradients = []
    for dtype in (torch.float32, torch.float64):
        student = z.repeat_interleave(len(z)).unsqueeze(-1).to(dtype).requires_grad_()
        loss = sigmoid_distillation_loss(
            student, teacher.to(dtype), alpha=1.0, temperature=temperature, divergence=divergence, reduction="sum",
            backend=backend,
        )  # fmt: skip
        gradients.append(torch.autograd.grad(loss, student)[0].double())
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-12)


def test_the_gradient_where_the_student_cannot_decide():
    student, teacher = torch.zeros(3, 1, requires_grad=True), torch.tensor([[2.0], [0.0], [-2.0]])
    sigmoid_distillation_loss(student, teacher, alpha=1.0, temperature=1.0, reduction="sum").backward()
    torch.testing.assert_close(student.grad, 0.5 - teacher.sigmoid())


def test_labels_that_are_not_known_have_no_hard_term():
    student, teacher, labels = batch(6)
    labels[0], labels[1, 2] = -100, -100
    rows = sigmoid_distillation_loss(student, teacher, labels, alpha=0.0, reduction="none")
    terms = binary_cross_entropy_with_logits(student, labels.double().clamp(min=0), reduction="none")
    torch.testing.assert_close(rows, terms.masked_fill(labels == -100, 0).sum(-1))
    mean = sigmoid_distillation_loss(student, teacher, labels, alpha=0.0)
    torch.testing.assert_close(mean, rows.sum() / 5)  # a position without any label does not count
    everywhere = torch.ones(6, dtype=torch.bool)
    unlabelled = sigmoid_distillation_loss(student, teacher, labels, alpha=0.5, temperature=2.0, mask=everywhere)
    torch.testing.assert_close(unlabelled, (0.5 * rows + 0.5 * by_hand(student, teacher, 2.0).sum(-1)).mean())


def test_what_does_not_count_reaches_nothing():
    student, teacher, labels = batch(3)
    mask = torch.tensor([True, False, True])
    with torch.no_grad():
        student[1], teacher[1] = math.nan, math.inf
    loss = sigmoid_distillation_loss(student, teacher, labels, mask=mask)
    loss.backward()
    assert loss.isfinite()
    assert student.grad[1].tolist() == [0.0] * CLASSES
    nothing = sigmoid_distillation_loss(student, teacher, labels, mask=~torch.ones(3, dtype=torch.bool))
    assert nothing.item() == 0


@pytest.mark.parametrize("pair", [False, True])
def test_one_temperature_for_each_position(pair):
    student, teacher, _ = batch(3)
    several = torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64)
    got = sigmoid_distillation_loss(
        student, teacher, alpha=1.0, temperature=(several, several) if pair else several, reduction="none"
    )
    torch.testing.assert_close(got, by_hand(student, teacher, several.unsqueeze(-1)).sum(-1))


def test_one_column_and_another_class_axis():
    student, teacher, labels = batch(3, 2)
    one = sigmoid_distillation_loss(student[..., :1], teacher[..., :1], labels[..., :1])
    assert one > 0
    moved = (t.movedim(-1, 1) for t in (student, teacher, labels))
    torch.testing.assert_close(
        sigmoid_distillation_loss(*moved, class_dim=1), sigmoid_distillation_loss(student, teacher, labels)
    )


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, r"labels: needed for the hard term when alpha = 0.9"),
        (
            torch.tensor([1, 0]),
            r"labels: expected one for each class, shape \(2, 5\), got \(2,\)\. .*distillation_loss",
        ),
        (torch.full((2, CLASSES), 3), r"labels: 3 is not between 0 and 1, nor ignore_index = -100"),
        ([[1, 0]], r"labels: expected a tensor of numbers between 0 and 1, got list"),
    ],
)
def test_wrong_labels(labels, message):
    student, teacher, _ = batch(2)
    with pytest.raises((ValueError, TypeError), match=message):
        sigmoid_distillation_loss(student, teacher, labels)


class TestModule:
    def test_it_has_the_settings_of_the_function(self):
        student, teacher, labels = batch(4)
        weight = torch.rand(CLASSES)
        settings = dict(temperature=2.0, alpha=0.4, divergence="jsd", beta=0.2, label_smoothing=0.1, weight=weight)
        objective = SigmoidDistillationLoss(**settings)
        expected = sigmoid_distillation_loss_parts(student, teacher, labels, **settings)
        for got, part in zip(objective.parts(student, teacher, labels), expected, strict=True):
            assert torch.equal(got, part)
        assert torch.equal(objective(student, teacher, labels), expected.total)

    def test_it_refuses_what_it_cannot_compute(self):
        student, teacher, labels = batch(4)
        for given, message in (
            (teacher.sigmoid(), r"teacher_logits: all lie between 0 and 1.*teacher\.logit\(\)"),
            (teacher * math.nan, "teacher_logits: NaN"),
            (SparseTargets(torch.zeros(4, 2, dtype=torch.long), torch.zeros(4, 2)), "need all logits"),
        ):
            with pytest.raises(ArgumentError, match=message):
                SigmoidDistillationLoss()(student, given, labels)
        objective = SigmoidDistillationLoss()
        objective(student, teacher.sigmoid() / 2, labels)  # as the logits of a teacher that has learned little
        with pytest.raises(ArgumentError, match="all lie between 0 and 1"):
            objective(student, teacher.sigmoid(), labels)
        with pytest.raises(ArgumentError, match="inplace: the loss of several labels"):
            SigmoidDistillationLoss(inplace=True)
        with pytest.raises(ArgumentError, match="temperature: expected a positive"):
            SigmoidDistillationLoss(temperature=-1.0)

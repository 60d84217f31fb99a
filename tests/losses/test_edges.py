"""Edges: nothing to count, one class, NaN, classes that one model lacks, reductions, masks."""

import math

import pytest
import torch

from cases import CASES
from limbeck import (
    DistillationLoss,
    SparseTargets,
    distillation_loss,
    distillation_loss_parts,
    linear_distillation_loss,
    logit_mse_loss,
    sparse_distillation_loss,
    sparse_linear_distillation_loss,
)
from limbeck.errors import ArgumentError
from limbeck.losses.divergences import LogitMSE

every_divergence = pytest.mark.parametrize("case", CASES, ids=str)


def options(case, **more):
    return dict(divergence=case.name, **case.options, **more)


@every_divergence
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_no_counted_position_gives_zero_attached_to_the_graph(case, reduction):
    student = torch.randn(3, 4, requires_grad=True)
    labels = torch.full((3,), -100)
    loss = distillation_loss(student, torch.randn(3, 4), labels, reduction=reduction, **options(case))
    loss.backward()
    assert loss == 0
    assert (student.grad == 0).all()


@every_divergence
def test_an_empty_batch(case):
    student = torch.randn(0, 4, requires_grad=True)
    labels = torch.zeros(0, dtype=torch.long)
    loss = distillation_loss(student, torch.randn(0, 4), labels, **options(case))
    loss.backward()
    assert loss == 0
    assert student.grad.shape == (0, 4)


def test_num_items_of_zero_gives_zero():
    student = torch.randn(3, 4, requires_grad=True)
    labels = torch.full((3,), -100)
    for none in (0, torch.tensor(0)):
        loss = distillation_loss(student, torch.randn(3, 4), labels, num_items=none)
        assert loss == 0


ONE = torch.randn(3, 1, dtype=torch.float64), torch.randn(3, 1, dtype=torch.float64)
ONE_COLUMN = (
    r"student_logits: one output column.*torch\.cat.*For regression use limbeck\.losses\.distance_distillation_loss"
)


@every_divergence
def test_one_column_is_refused(case):
    """Softmax over it is 1: the loss and its gradient would be 0, whatever the models say."""
    for labels, alpha in ((None, 1.0), (torch.tensor([0, 1, 0]), 0.5), (torch.zeros(3), 0.5)):
        with pytest.raises(ArgumentError, match=ONE_COLUMN):
            distillation_loss(*ONE, labels, alpha=alpha, **options(case))
        with pytest.raises(ArgumentError, match=ONE_COLUMN):
            DistillationLoss(alpha=alpha, **options(case))(*ONE, labels)


def test_one_column_is_refused_without_a_teacher_and_with_hidden_or_sparse_ones():
    labels, targets = torch.zeros(3, dtype=torch.long), SparseTargets(torch.zeros(3, 1).long(), torch.zeros(3, 1))
    hidden, weight = torch.randn(3, 4), torch.randn(1, 4)
    for call in (
        lambda: distillation_loss(ONE[0], None, labels, alpha=0),
        lambda: linear_distillation_loss(hidden, weight, hidden, weight, labels),
        lambda: sparse_distillation_loss(ONE[0], targets, labels),
        lambda: sparse_linear_distillation_loss(hidden, weight, targets, labels),
    ):
        with pytest.raises(ArgumentError, match=ONE_COLUMN):
            call()


def test_one_column_of_logits_as_they_are_has_a_meaning():
    torch.testing.assert_close(logit_mse_loss(*ONE, center=False), (ONE[0] - ONE[1]).square().mean() / 2)
    with pytest.raises(ArgumentError, match=ONE_COLUMN):
        logit_mse_loss(*ONE)
    with pytest.raises(ArgumentError, match=ONE_COLUMN):
        DistillationLoss(alpha=0.5, divergence=LogitMSE(center=False))(*ONE, torch.zeros(3, dtype=torch.long))


def test_the_remedy_for_a_single_sigmoid_is_right():
    s, t = ONE
    two = (torch.cat([torch.zeros_like(z), z], -1) for z in (s, t))
    p_t, log_odds = t.sigmoid(), torch.nn.functional.logsigmoid
    truth = p_t * (log_odds(t) - log_odds(s)) + (1 - p_t) * (log_odds(-t) - log_odds(-s))
    torch.testing.assert_close(distillation_loss(*two, alpha=1, temperature=1.0), truth.mean())


@every_divergence
@pytest.mark.parametrize("side", [0, 1])
def test_nan_stays_nan_in_its_own_row(case, side):
    pair = torch.randn(2, 3, 4)
    pair[side, 1, 2] = math.nan
    loss = distillation_loss(pair[0], pair[1], alpha=1, reduction="none", **options(case))
    assert loss.isnan().tolist() == [False, True, False]


def test_a_class_that_only_the_student_lacks_is_infinitely_wrong_and_pulls_at_nothing():
    student = torch.tensor([[0.0, 1.0, -math.inf]], requires_grad=True)
    loss = distillation_loss(student, torch.tensor([[0.0, 1.0, 2.0]]), alpha=1)
    loss.backward()
    assert loss == math.inf
    assert student.grad.isfinite().all()
    assert student.grad[0, 2] == 0
    # a skewed divergence stays finite there
    skewed = distillation_loss(student.detach(), torch.tensor([[0.0, 1.0, 2.0]]), alpha=1, divergence="skew_kl")
    assert skewed.isfinite()


def test_a_class_that_only_the_teacher_lacks_is_no_term_of_forward_kl():
    student = torch.tensor([[0.0, 1.0, 2.0]], requires_grad=True)
    loss = distillation_loss(student, torch.tensor([[0.0, 1.0, -math.inf]]), alpha=1, temperature=1.0)
    loss.backward()
    p_s, p_t = torch.tensor([0.0, 1.0, 2.0]).softmax(0), torch.tensor([0.0, 1.0, -math.inf]).softmax(0)
    torch.testing.assert_close(loss, (p_t[:2] * (p_t[:2] / p_s[:2]).log()).sum())
    torch.testing.assert_close(student.grad[0], p_s - p_t)


def test_alpha_zero_ignores_an_infinite_soft_term():
    student, labels = torch.tensor([[0.0, -math.inf]]), torch.tensor([0])
    assert distillation_loss(student, torch.zeros(1, 2), labels, alpha=0).isfinite()


def test_mask_counts_unlabelled_positions_in_the_soft_term_alone():
    student, teacher = torch.randn(4, 5), torch.randn(4, 5)
    labels, mask = torch.tensor([0, -100, 2, -100]), torch.tensor([True, True, True, False])
    parts = distillation_loss_parts(student, teacher, labels, mask=mask)
    soft = distillation_loss(student, teacher, alpha=1, reduction="none")
    hard = torch.nn.functional.cross_entropy(student, labels, reduction="none")
    torch.testing.assert_close(parts.soft, soft[:3].mean())
    torch.testing.assert_close(parts.hard, hard[[0, 2]].sum() / 3)  # one denominator for both terms


def test_reductions():
    student, teacher = torch.randn(4, 5), torch.randn(4, 5)
    labels = torch.tensor([0, -100, 2, 3])
    none = distillation_loss(student, teacher, labels, reduction="none")
    assert none[1] == 0
    torch.testing.assert_close(distillation_loss(student, teacher, labels, reduction="sum"), none.sum())
    torch.testing.assert_close(distillation_loss(student, teacher, labels), none.sum() / 3)
    torch.testing.assert_close(distillation_loss(student, teacher, labels, num_items=6), none.sum() / 6)


def test_another_ignore_index_may_be_a_class():
    student, teacher = torch.randn(3, 5), torch.randn(3, 5)
    loss = distillation_loss(student, teacher, torch.tensor([0, 4, 2]), ignore_index=4)
    rows = [0, 2]
    torch.testing.assert_close(loss, distillation_loss(student[rows], teacher[rows], torch.tensor([0, 2])))


def test_the_given_tensors_are_left_as_they_are():
    student, teacher, labels = torch.randn(3, 5), torch.randn(3, 5), torch.tensor([0, -100, 2])
    before = student.clone(), teacher.clone(), labels.clone()
    leaf = student.requires_grad_()
    distillation_loss(leaf, teacher, labels).backward()
    for tensor, copy in zip((leaf.detach(), teacher, labels), before, strict=True):
        assert torch.equal(tensor, copy)


def test_it_compiles_without_graph_breaks():
    compiled = torch.compile(lambda s, t, y: distillation_loss(s, t, y), fullgraph=True, backend="eager")
    student, teacher, labels = torch.randn(3, 5), torch.randn(3, 5), torch.tensor([0, -100, 2])
    torch.testing.assert_close(compiled(student, teacher, labels), distillation_loss(student, teacher, labels))
    parts = torch.compile(lambda s, t, y: distillation_loss_parts(s, t, y), fullgraph=True, backend="eager")
    torch.testing.assert_close(parts(student, teacher, labels), distillation_loss_parts(student, teacher, labels))

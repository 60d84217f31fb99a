"""The loss between sorted probabilities: its closed form, its gradient, a formula of a peer, and its positions."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from limbeck.errors import ArgumentError
from limbeck.losses import UniversalLogitLoss


def by_hand(student, teacher, temperature):
    """Return the sum that Boizard et al. write, for each position, in plain torch."""
    ours, theirs = ((z / temperature).softmax(-1).sort(-1, descending=True).values for z in (student, teacher))
    width = max(ours.shape[-1], theirs.shape[-1])
    ours, theirs = (torch.cat([p, p.new_zeros(*p.shape[:-1], width - p.shape[-1])], -1) for p in (ours, theirs))
    return (ours - theirs).abs().sum(-1)


def logits(*shape, seed=0):
    return 2 * torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("ours", "theirs"), [(7, 5), (5, 7), (6, 6)])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_values_and_gradients_are_those_of_the_formula(ours, theirs, temperature):
    student, teacher = logits(2, 4, ours).requires_grad_(), logits(2, 4, theirs, seed=1)
    labels = torch.tensor([[1, 2, 0, -100], [3, -100, 1, 4]])
    mask = torch.tensor([[True, True, False, True], [True, False, True, True]])
    loss = UniversalLogitLoss(temperature=temperature, alpha=0.7)(student, teacher, labels, mask=mask)
    soft = temperature * by_hand(student, teacher, temperature)[mask].mean()
    hard = cross_entropy(student[mask], labels[mask], reduction="sum") / mask.sum()
    expected = 0.7 * soft + 0.3 * hard
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(
        *(torch.autograd.grad(value, student, retain_graph=True)[0] for value in (loss, expected))
    )


def test_the_gradient_is_that_of_finite_differences():
    student, teacher = logits(3, 5).requires_grad_(), logits(3, 6, seed=1)
    objective = UniversalLogitLoss(temperature=2.0, alpha=1.0)
    torch.autograd.gradcheck(lambda z: objective(z, teacher), student)


def test_closed_forms():
    soft = UniversalLogitLoss(temperature=1.0, alpha=1.0)
    sure, even = torch.tensor([[40.0, 0.0]], dtype=torch.float64), torch.zeros(1, 4, dtype=torch.float64)
    assert soft(sure, even).item() == pytest.approx(0.75 + 3 * 0.25)
    assert soft(even, even[:, [2, 0, 1, 3]]).item() == 0
    shuffled = logits(1, 6)
    assert soft(shuffled, shuffled[:, torch.randperm(6)]).item() == pytest.approx(0, abs=1e-12)  # it knows no names


def test_a_position_without_a_partner_has_the_hard_term_alone():
    student, teacher = logits(3, 5), logits(3, 6, seed=1)
    teacher[1] = -torch.inf
    labels = torch.tensor([0, 1, 2])
    objective = UniversalLogitLoss(temperature=1.0, alpha=0.5)
    parts = objective.parts(student, teacher, labels)
    rows = by_hand(student, teacher.nan_to_num(neginf=0.0), 1.0)
    torch.testing.assert_close(parts.soft, (rows[0] + rows[2]) / 3)
    torch.testing.assert_close(parts.hard, cross_entropy(student, labels))
    alone = objective.parts(student.requires_grad_(), torch.full_like(teacher, -torch.inf), labels)
    assert alone.soft == 0
    (gradient,) = torch.autograd.grad(alone.total, student)
    torch.testing.assert_close(gradient, 0.5 * torch.autograd.grad(cross_entropy(student, labels), student)[0])


def test_splitting_a_batch_leaves_the_loss():
    student, teacher, labels = logits(6, 5), logits(6, 7, seed=1), torch.arange(6) % 5
    objective = UniversalLogitLoss(temperature=2.0, alpha=0.5)
    parts = [objective.parts(student[i], teacher[i], labels[i], num_items=6).total for i in (slice(0, 2), slice(2, 6))]
    torch.testing.assert_close(sum(parts), objective(student, teacher, labels))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"divergence": "jsd"}, "divergence: alignment 'uld' has its own distance"),
        ({"class_dim": 1}, "class_dim: alignment 'uld' sorts whole logits"),
        ({"temperature": 0.0}, "temperature"),
    ],
)
def test_settings_that_it_has_not(settings, message):
    with pytest.raises(ArgumentError, match=message):
        UniversalLogitLoss(**settings)


def test_what_it_cannot_compare():
    objective = UniversalLogitLoss()
    with pytest.raises(ArgumentError, match="teacher: needed for the soft term"):
        objective(logits(2, 3), None, torch.tensor([0, 1]))
    with pytest.raises(ArgumentError, match="teacher_logits: NaN"):
        objective(logits(2, 3), torch.full((2, 3), torch.nan), torch.tensor([0, 1]))

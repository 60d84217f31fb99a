"""``DistillationLoss``: its parts, a scale in the place of C(T), and what it documents."""

import inspect
import math

import pytest
import torch

from limbeck import CollapsedTeacherWarning, DistillationLoss, SparseTargets, distillation_loss, distillation_loss_parts
from limbeck.errors import ArgumentError, ArgumentTypeError
from limbeck.temperature import policy_from

LABELS = torch.tensor([0, 4, -100, 2, 1, 3])


def draw(*shape, seed=0):
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


STUDENT, TEACHER = draw(6, 5), draw(6, 5, seed=1)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_a_scale_takes_the_place_of_the_compensation(reduction):
    objective = DistillationLoss(temperature=2.0, alpha=0.4, reduction=reduction)
    usual = distillation_loss_parts(STUDENT, TEACHER, LABELS, temperature=2.0, alpha=0.4, reduction=reduction)
    for scale in (4, 4.0, torch.tensor(4.0), torch.full((6,), 4.0)):
        for got, expected in zip(objective.parts(STUDENT, TEACHER, LABELS, scale=scale), usual, strict=True):
            torch.testing.assert_close(got, expected)


def test_a_scale_for_each_position_of_any_shape():
    scale = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    objective = DistillationLoss(temperature=2.0, alpha=1.0, compensate=False, reduction="none")
    student, teacher = draw(2, 3, 5), draw(2, 3, 5, seed=1)
    plain = objective(student, teacher)
    torch.testing.assert_close(objective.parts(student, teacher, scale=scale).total, plain * scale)
    sparse = SparseTargets.top_k(teacher, 5, temperatures=[2.0])
    torch.testing.assert_close(objective.parts(student, sparse, scale=scale).total, plain * scale)


def test_gradient_flows_through_a_scale():
    scale = torch.linspace(1, 2, 6, dtype=torch.float64, requires_grad=True)
    objective = DistillationLoss(temperature=2.0, alpha=0.4)
    rows = distillation_loss(STUDENT, TEACHER, alpha=1, temperature=2.0, compensate=False, reduction="none")
    for teacher in (TEACHER, SparseTargets.top_k(TEACHER, TEACHER.shape[-1], temperatures=[2.0])):
        (got,) = torch.autograd.grad(objective.parts(STUDENT, teacher, LABELS, scale=scale).total, scale)
        torch.testing.assert_close(got, 0.4 * rows * (LABELS >= 0) / 5)


@pytest.mark.parametrize(
    ("scale", "error"),
    [("4", ArgumentTypeError), (torch.ones(6).int(), ArgumentTypeError), (torch.ones(3), ArgumentError)],
)
def test_a_wrong_scale(scale, error):
    with pytest.raises(error, match="scale: expected"):
        DistillationLoss().parts(STUDENT, TEACHER, LABELS, scale=scale)


@pytest.mark.parametrize("num_items", [None, 0, torch.tensor(0)], ids=str)
@pytest.mark.parametrize("policy", ["sharpness", "standardized", "max_logit"])
def test_a_step_in_which_no_position_counts_leaves_the_weights_alone(policy, num_items):
    """A policy gives a T and a scale for each position; nothing of a batch without targets may become NaN."""
    student = draw(6, 5).requires_grad_()
    softening = policy_from({"policy": policy, "temperature": 2.0} if policy != "max_logit" else {"policy": policy})
    softening = softening(student, TEACHER)
    parts = DistillationLoss().parts(
        student, TEACHER, torch.full((6,), -100), num_items=num_items,
        temperature=softening.temperature, scale=softening.scale,
    )  # fmt: skip
    parts.total.backward()
    assert parts.total == 0
    assert (student.grad == 0).all()


def test_the_scale_of_a_position_that_does_not_count_may_be_anything():
    scale = torch.ones(6, dtype=torch.float64)
    usual = DistillationLoss().parts(STUDENT, TEACHER, LABELS, scale=scale)
    scale[2] = math.nan
    leaf = STUDENT.clone().requires_grad_()
    parts = DistillationLoss().parts(leaf, TEACHER, LABELS, scale=scale)
    torch.testing.assert_close(parts.total, usual.total)
    parts.total.backward()
    assert leaf.grad.isfinite().all()


def test_calling_it_is_the_total_of_its_parts():
    objective = DistillationLoss(temperature=2.0, alpha=0.4, divergence="jsd")
    torch.testing.assert_close(
        objective(STUDENT, TEACHER, LABELS), objective.parts(STUDENT, TEACHER, LABELS).total, rtol=0, atol=0
    )


def test_every_setting_is_documented_and_is_a_setting_of_the_function():
    settings = inspect.signature(DistillationLoss).parameters
    function = inspect.signature(distillation_loss).parameters
    documented = DistillationLoss.__doc__.partition("Args:")[2].partition("Raises:")[0]
    for name, parameter in settings.items():
        assert f"        {name}: " in documented, name
        assert parameter.default == function[name].default, name
    per_batch = {"student_logits", "teacher_logits", "labels", "mask", "num_items"}
    assert set(function) - set(settings) == per_batch


def test_a_group_is_checked_at_construction():
    with pytest.raises(ArgumentTypeError, match=r"group: expected a torch\.distributed process group"):
        DistillationLoss(group=3)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("labels", LABELS[:4]),
        ("labels", LABELS.float()),
        ("mask", LABELS[:4] == 0),
        ("mask", LABELS),
        ("num_items", -1),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_first_batch_is_checked_as_the_function_checks_it(argument, value):
    arguments = {"labels": LABELS} | {argument: value}
    for call in (DistillationLoss(), DistillationLoss().parts, distillation_loss):
        with pytest.raises((ArgumentError, ArgumentTypeError), match=f"^{argument}: "):
            call(STUDENT, TEACHER, **arguments)


def test_the_teacher_is_looked_at_with_the_temperature_of_the_call(recwarn):
    teacher = torch.tensor([[20.0, 0.0, 0.0], [0.0, 20.0, 0.0]])
    DistillationLoss(alpha=1.0, temperature=1.0).parts(torch.zeros(2, 3), teacher, temperature=8.0)
    assert len(recwarn) == 0
    with pytest.warns(CollapsedTeacherWarning, match="At T = 1 "):
        DistillationLoss(alpha=1.0, temperature=8.0).parts(torch.zeros(2, 3), teacher, temperature=1.0)


def test_the_warning_points_at_the_users_line():
    teacher, objective = torch.tensor([[90.0, 0.0, 0.0]]), dict(alpha=1.0, temperature=1.0)
    for call in (DistillationLoss(**objective), DistillationLoss(**objective).parts):
        with pytest.warns(CollapsedTeacherWarning) as seen:
            call(torch.zeros(1, 3), teacher)
        assert [warning.filename for warning in seen] == [__file__]


@pytest.mark.filterwarnings("error::limbeck.CollapsedTeacherWarning")
@pytest.mark.parametrize("labels", [None, torch.tensor(1), torch.tensor(-100)], ids=str)
def test_one_position_without_a_batch(labels):
    alpha = 1.0 if labels is None else 0.4
    expected = distillation_loss(STUDENT[0], TEACHER[0], labels, alpha=alpha)
    torch.testing.assert_close(DistillationLoss(alpha=alpha)(STUDENT[0], TEACHER[0], labels), expected)
    one_row = None if labels is None else labels.reshape(1)
    torch.testing.assert_close(expected, distillation_loss(STUDENT[:1], TEACHER[:1], one_row, alpha=alpha))


def test_labels_with_a_column_are_told_alike():
    for call in (DistillationLoss(), DistillationLoss().parts, distillation_loss):
        with pytest.raises(ArgumentError, match=r"^labels: expected one per position, shape \(6,\).*got \(6, 1\)"):
            call(STUDENT, TEACHER, LABELS.unsqueeze(-1))
        with pytest.raises(ArgumentError, match=r"^labels: expected one per position, shape \(\).*got \(1,\)"):
            call(STUDENT[0], TEACHER[0], LABELS[:1])

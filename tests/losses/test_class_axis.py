"""Classes in another dimension than the last: every loss, its gradient, and the errors for shapes that fit another axis."""

import inspect

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from limbeck import DistillationLoss, SparseTargets, distillation_loss, distillation_loss_parts, logit_mse_loss
from limbeck.errors import ArgumentError, ArgumentTypeError


@st.composite
def batches(draw, dtype=torch.float64):
    """Return (student, teacher, labels, mask, class_dim): 2 to 5 dimensions, the classes in any of them."""
    positions = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    classes, place = draw(st.integers(2, 6)), draw(st.integers(0, len(positions)))
    shape = [*positions[:place], classes, *positions[place:]]
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    student, teacher = 3 * torch.randn(2, *shape, generator=generator, dtype=dtype)
    labels = torch.randint(classes, positions, generator=generator)
    labels = labels.masked_fill(torch.rand(positions, generator=generator) < 0.2, -100)
    mask = torch.rand(positions, generator=generator) < 0.8
    return student, teacher, labels, mask, draw(st.sampled_from((place, place - len(shape))))


@given(batch=batches(), alpha=st.sampled_from((0.0, 0.3, 1.0)), t=st.sampled_from((1.0, 2.5)), inplace=st.booleans())
def test_value_and_gradient_are_those_of_torch_over_the_axis(batch, alpha, t, inplace):
    given_student, teacher, labels, _, dim = batch
    expected_student = given_student.clone().requires_grad_()
    kl = F.kl_div((expected_student / t).log_softmax(dim), (teacher / t).softmax(dim), reduction="none").sum(dim)
    counted = labels != -100
    count = max(int(counted.sum()), 1)
    # cross_entropy takes its classes in dimension 1
    hard = F.cross_entropy(expected_student.movedim(dim, 0)[None], labels[None], reduction="sum")
    expected = (alpha * t * t * kl[counted].sum() + (1 - alpha) * hard) / count
    expected.backward()

    leaf = given_student.clone().requires_grad_()
    options = dict(alpha=alpha, temperature=t, class_dim=dim, inplace=inplace)
    # A leaf cannot be overwritten; a model's output can.
    loss = distillation_loss(leaf * 1.0, teacher, labels, **options)
    loss.backward()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(leaf.grad, expected_student.grad)
    torch.testing.assert_close(distillation_loss_parts(given_student, teacher, labels, **options).total, expected)


@given(batch=batches(torch.float32), divergence=st.sampled_from(("reverse_kl", "jsd", "tvd", "logit_mse")))
def test_it_is_the_call_with_the_classes_moved_last(batch, divergence):
    student, teacher, labels, mask, dim = batch
    options = dict(mask=mask, reduction="none", temperature=2.0 + torch.rand(mask.shape), divergence=divergence)
    got = distillation_loss(student, teacher, labels, class_dim=dim, **options)
    moved = distillation_loss(
        student.movedim(dim, -1).contiguous(), teacher.movedim(dim, -1).contiguous(), labels, **options
    )
    assert got.shape == labels.shape
    torch.testing.assert_close(got, moved)


@pytest.mark.filterwarnings("ignore::limbeck.CollapsedTeacherWarning")
@given(batch=batches())
def test_the_module_and_logit_matching_take_it_too(batch):
    student, teacher, labels, mask, dim = batch
    objective = DistillationLoss(temperature=2.0, alpha=0.4, class_dim=dim)
    usual = distillation_loss(student, teacher, labels, mask=mask, temperature=2.0, alpha=0.4, class_dim=dim)
    torch.testing.assert_close(objective(student, teacher, labels, mask=mask), usual)
    torch.testing.assert_close(objective.parts(student, teacher, labels, mask=mask).total, usual)
    last = teacher.movedim(dim, -1)
    targets = SparseTargets.top_k(last, last.shape[-1], temperatures=[2.0])
    torch.testing.assert_close(objective(student, targets, labels, mask=mask), usual)

    difference = student - teacher
    difference = difference - difference.mean(dim, keepdim=True)
    truth = (difference.square().mean(dim) / 2)[mask].sum() / max(int(mask.sum()), 1)
    torch.testing.assert_close(logit_mse_loss(student, teacher, mask=mask, class_dim=dim), truth)


def test_the_module_looks_at_the_teacher_over_the_axis():
    student, teacher = torch.zeros(2, 3, 4, 4), torch.randn(2, 3, 4, 4).softmax(1)
    with pytest.raises(ArgumentError, match="probabilities"):
        DistillationLoss(alpha=1.0, class_dim=1)(student, teacher)


def test_one_column_is_seen_in_its_own_dimension():
    with pytest.raises(ArgumentError, match="one output column"):
        distillation_loss(torch.zeros(2, 1, 4, 4), torch.zeros(2, 1, 4, 4), alpha=1, class_dim=1)
    assert distillation_loss(torch.zeros(2, 4, 4, 1), torch.zeros(2, 4, 4, 1), alpha=1, class_dim=1) == 0


IMAGES = torch.zeros(8, 5, 6, 7), torch.zeros(8, 5, 6, 7)
LABELS = torch.zeros(8, 6, 7, dtype=torch.long)


@pytest.mark.parametrize(
    "call", [distillation_loss, lambda s, t, y, **k: DistillationLoss(**k)(s, t, y)], ids=["function", "module"]
)
def test_a_shape_that_would_fit_another_axis_names_it(call):
    message = r"labels: shape \(8, 6, 7\), which fits logits of shape \(8, 5, 6, 7\) .* dimension 1: pass class_dim=1"
    with pytest.raises(ArgumentError, match=message):
        call(*IMAGES, LABELS)
    channels_last = [x.movedim(1, -1) for x in IMAGES]
    with pytest.raises(ArgumentError, match=r"fits logits of shape \(8, 6, 7, 5\).*pass class_dim=3"):
        call(*channels_last, LABELS, class_dim=1)
    with pytest.raises(
        ArgumentError, match=r"labels: expected one per position, shape \(8, 6, 7\) for .*\(8, 5, 6, 7\)"
    ):
        call(*IMAGES, LABELS[:4], class_dim=1)


def test_a_mask_names_the_axis_too_and_the_batch_is_guessed_last():
    with pytest.raises(ArgumentError, match=r"mask: shape .* pass class_dim=1"):
        logit_mse_loss(*IMAGES, mask=LABELS == 0)
    square = torch.zeros(8, 8, 5, 5)
    with pytest.raises(ArgumentError, match=r"pass class_dim=1"):
        distillation_loss(square, square, torch.zeros(8, 5, 5, dtype=torch.long))
    with pytest.raises(ArgumentError, match=r"pass class_dim=0"):
        distillation_loss(square[0], square[0], torch.zeros(5, 5, dtype=torch.long))


def test_models_that_do_not_fit_are_told_in_the_shapes_that_were_given():
    wider, taller = torch.zeros(8, 9, 6, 7), torch.zeros(8, 5, 9, 7)
    with pytest.raises(ArgumentError, match=r"9 classes, but student_logits have 5.*teacher_logits\.narrow\(1, 0, 5\)"):
        distillation_loss(IMAGES[0], wider, LABELS, class_dim=1)
    with pytest.raises(ArgumentError, match=r"shape \(8, 5, 9, 7\), but student_logits have \(8, 5, 6, 7\)"):
        distillation_loss(IMAGES[0], taller, LABELS, class_dim=1)


@pytest.mark.parametrize(
    ("class_dim", "error"),
    [("1", ArgumentTypeError), (True, ArgumentTypeError), (None, ArgumentTypeError), (4, ArgumentError)],
)
def test_a_wrong_axis(class_dim, error):
    with pytest.raises(error, match="class_dim: "):
        distillation_loss(*IMAGES, LABELS, class_dim=class_dim)
    with pytest.raises(error, match="class_dim: "):
        DistillationLoss(class_dim=class_dim)(*IMAGES, LABELS)


def test_it_compiles_without_graph_breaks():
    student, teacher = torch.randn(2, 2, 5, 3, 3)
    labels = torch.randint(5, (2, 3, 3))
    compiled = torch.compile(lambda s, t, y: distillation_loss(s, t, y, class_dim=1), fullgraph=True, backend="eager")
    torch.testing.assert_close(
        compiled(student, teacher, labels), distillation_loss(student, teacher, labels, class_dim=1)
    )


def test_the_last_axis_is_the_default():
    for function in (distillation_loss, distillation_loss_parts, logit_mse_loss, DistillationLoss):
        assert inspect.signature(function).parameters["class_dim"].default == -1

"""Small and simple calls take a shorter way to the same loss, gradient and errors."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cases import CASES
from limbeck import distillation_loss, distillation_loss_parts
from limbeck.errors import ArgumentError
from limbeck.losses import dispatch
from limbeck.losses.plain import plain_loss


@pytest.fixture(autouse=True)
def backend():
    """In the place of the fixture that runs every test on the reference too."""


def draw(rows, classes, seed, dtype=torch.float32):
    return (3 * torch.randn(rows, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)).to(
        dtype
    )


STUDENT, TEACHER, LABELS = draw(4, 5, 0), draw(4, 5, 1), torch.tensor([0, 4, 2, 2])


def is_plain(student=STUDENT, teacher=TEACHER, labels=LABELS, **options):
    defaults = distillation_loss.__kwdefaults__ | {"with_parts": False} | options
    return plain_loss(student.clone(), teacher, labels, defaults) is not None


def loss_and_gradient(student, teacher, labels, upstream=1.0, **options):
    leaf = student.clone().requires_grad_()
    loss = distillation_loss(leaf * 1, teacher, labels, **options)
    return loss.detach().double(), torch.autograd.grad(upstream * loss, leaf)[0].double()


@given(
    case=st.sampled_from(CASES),
    shape=st.tuples(st.integers(1, 6), st.integers(2, 12)),
    dtype=st.sampled_from((torch.float32, torch.float64)),
    temperature=st.sampled_from((1, 2.0, 5.0)),
    alpha=st.sampled_from((0.3, 1)),
    masked=st.booleans(),
    num_items=st.sampled_from((None, 7, torch.tensor(7))),
    compensate=st.sampled_from((True, False, "curvature")),
    inplace=st.booleans(),
    upstream=st.sampled_from((1.0, 0.3)),
    seed=st.integers(0, 2**20),
)
def test_it_is_the_reference(
    case, shape, dtype, temperature, alpha, masked, num_items, compensate, inplace, upstream, seed
):
    student, teacher = draw(*shape, seed, dtype), draw(*shape, seed + 1, dtype)
    labels = torch.arange(shape[0]) % shape[1] if alpha < 1 else None
    mask = torch.arange(shape[0]) % 3 != 1 if masked else None
    if masked:  # a position that does not count may hold anything that is finite
        student[~mask], teacher[~mask] = 7.0, -1e4
    options = dict(
        temperature=temperature, alpha=alpha, mask=mask, num_items=num_items, compensate=compensate,
        divergence=case.name, upstream=upstream, **case.options,
    )  # fmt: skip
    got = loss_and_gradient(student, teacher, labels, inplace=inplace, **options)
    truth = loss_and_gradient(student.double(), teacher.double(), labels, backend="reference", **options)
    tolerance = dict(rtol=1e-4, atol=1e-5) if dtype == torch.float32 else dict(rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(got, truth, **tolerance)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_divergence_takes_it(case):
    assert is_plain(divergence=case.name, **case.options)
    assert is_plain(divergence=case.name, **case.options, with_parts=True, num_items=torch.tensor(4))
    assert is_plain(divergence=case.name, **case.options, mask=torch.tensor([True, False, True, True]), num_items=9)


@pytest.mark.parametrize(
    "options",
    [
        dict(labels=torch.tensor([0, 4, -100, 2])),
        dict(labels=torch.tensor([0, 4, 5, 2])),
        dict(labels=LABELS.int()),
        dict(labels=None),
        dict(mask=torch.zeros(4, dtype=torch.bool)),
        dict(mask=torch.ones(4)),
        dict(num_items=3),
        dict(num_items=float("nan")),
        dict(num_items=torch.tensor(3)),
        dict(num_items=torch.tensor([4, 4])),
        dict(temperature=0),
        dict(temperature=(1.0, 2.0)),
        dict(temperature=torch.tensor(2.0)),
        dict(alpha=0.0),
        dict(alpha=1),
        dict(alpha=1.5),
        dict(alpha=True),
        dict(label_smoothing=0.1),
        dict(compensate=1),
        dict(reduction="sum"),
        dict(ignore_index=0),
        dict(weight=torch.ones(5)),
        dict(divergence="of nobody"),
        dict(labels=None, alpha=1, with_parts=True),
        dict(student=draw(4, 5, 0, torch.float64)),
        dict(student=STUDENT.half(), teacher=TEACHER.half()),
        dict(student=torch.full((4, 5), torch.nan)),
        dict(teacher=STUDENT + 1e-3),
        dict(teacher=TEACHER[:, :4]),
        dict(student=draw(1 << 8, 1 << 8, 0), teacher=draw(1 << 8, 1 << 8, 1), labels=torch.zeros(1 << 8).long()),
    ],
    ids=str,
)
def test_what_is_wrong_or_not_simple_takes_the_usual_way(options):
    assert not is_plain(**options)


@given(case=st.sampled_from(CASES), masked=st.booleans(), upstream=st.tuples(*[st.sampled_from((0.0, 1.0, -0.4))] * 3))
def test_its_parts_are_those_of_the_reference(case, masked, upstream):
    mask, results = torch.tensor([True, not masked, True, True]), []
    for options in (dict(backend="reference"), dict(num_items=torch.tensor(6))):
        leaf = STUDENT.double().requires_grad_()
        parts = distillation_loss_parts(
            leaf, TEACHER.double(), LABELS, mask=mask, temperature=2.0, alpha=0.4, divergence=case.name,
            **{"num_items": 6} | case.options | options,
        )  # fmt: skip
        weighted = sum(u * part for u, part in zip(upstream, parts, strict=True))
        results.append((torch.stack(parts).detach(), torch.autograd.grad(weighted, leaf)[0]))
    torch.testing.assert_close(*results)


def test_a_second_backward_pass_computes_the_gradient_again():
    leaf = STUDENT.clone().requires_grad_()
    loss = distillation_loss(leaf, TEACHER, LABELS)
    first, second = (torch.autograd.grad(loss, leaf, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)
    with pytest.raises(RuntimeError, match="backend='reference'"):
        torch.autograd.grad(loss, leaf, create_graph=True)


@pytest.mark.parametrize("changed", ["teacher", "labels", "student"])
def test_a_change_in_place_before_a_second_backward_pass_is_an_error(changed):
    given = {"student": STUDENT.clone().requires_grad_(), "teacher": TEACHER.clone(), "labels": LABELS.clone()}
    loss = distillation_loss(given["student"], given["teacher"], given["labels"])
    loss.backward(retain_graph=True)
    given[changed].detach().zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_in_place():
    leaf = STUDENT.clone().requires_grad_()
    logits = leaf * 1
    address, expected = logits.data_ptr(), loss_and_gradient(STUDENT, TEACHER, LABELS)[1]
    loss = distillation_loss(logits, TEACHER, LABELS, inplace=True)
    (gradient,) = torch.autograd.grad(loss, logits, retain_graph=True)
    assert gradient.data_ptr() == address
    torch.testing.assert_close(gradient.double(), expected)
    with pytest.raises(RuntimeError, match="use inplace=False"):
        torch.autograd.grad(loss, logits)
    squares = leaf * 1
    kept = squares.square().sum()  # it saves the logits for its own gradient
    distillation_loss(squares, TEACHER, LABELS, inplace=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        kept.backward()


def test_a_teacher_of_inference_mode():
    with torch.inference_mode():
        teacher = TEACHER.clone()
    got = loss_and_gradient(STUDENT, teacher, LABELS)
    torch.testing.assert_close(got, loss_and_gradient(STUDENT, TEACHER, LABELS))


def test_without_a_gradient_there_is_no_graph():
    assert distillation_loss(STUDENT, TEACHER, LABELS).grad_fn is None
    with torch.no_grad():
        assert not distillation_loss(STUDENT.clone().requires_grad_(), TEACHER, LABELS).requires_grad


def test_a_wrong_label_is_told_as_ever():
    with pytest.raises(ArgumentError, match="labels: 5 is out of range for 5 classes"):
        distillation_loss(STUDENT, TEACHER, torch.tensor([0, 1, 5, 2]))


def test_few_operations(monkeypatch):
    """The row kernel, with its many, is not called."""
    monkeypatch.setattr(dispatch, "rows_loss", None)
    assert distillation_loss(STUDENT, TEACHER, LABELS) > 0

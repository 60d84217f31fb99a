"""Absent classes and positions that do not count: no policy, and no gradient, sees what stands there."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import log_softmax

from limbeck.errors import ArgumentError
from limbeck.losses import DistillationLoss
from limbeck.temperature import POLICIES, policy_from
from limbeck.temperature.policies.rows import counted_positions, is_absent, largest, sharpness, variance

JUNK = (math.nan, math.inf, -math.inf, 1e30, -1e30)
READERS = ["max_logit", "sharpness", "standardized", "weighted_teacher_only"]


@st.composite
def batches(draw, dtypes=(torch.float32, torch.float64), least=2):
    """Draw clean student and teacher logits and labels, and the same with absent classes and junk in uncounted rows."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    rows, classes, absent = draw(st.integers(1, 4)), draw(st.integers(least, 6)), draw(st.integers(0, 3))
    dtype = draw(st.sampled_from(dtypes))
    clean = [(3 * torch.randn(rows, classes, generator=generator)).to(dtype) for _ in range(2)]
    labels = torch.randint(classes, (rows,), generator=generator)
    counted = torch.tensor(draw(st.lists(st.booleans(), min_size=rows, max_size=rows)))
    places = (
        torch.randperm(classes + absent, generator=generator)[:classes].sort().values
    )  # of the classes that are known
    noisy = []
    for logits in clean:
        fill = draw(st.sampled_from([-math.inf, torch.finfo(dtype).min]))
        wide = torch.full((rows, classes + absent), fill, dtype=dtype)
        wide[:, places] = logits
        wide[~counted] = draw(st.sampled_from(JUNK))
        noisy.append(wide)
    return clean, noisy, labels, places[labels], places, counted


def softened(name, student, teacher, labels, mask, train=True):
    policy = policy_from({"policy": name}).train(train)
    softening = policy(student, teacher, labels, 0.3, mask=mask)
    rows = student.shape[0]
    values = (softening.teacher_temperature, softening.student_temperature, softening.scale)
    return [None if v is None else torch.as_tensor(v).double().expand(rows) for v in values]


@pytest.mark.parametrize("name", sorted(POLICIES))
@given(batch=batches(), by_label=st.booleans())
def test_no_policy_sees_them(name, batch, by_label):
    (student, teacher), (wide_student, wide_teacher), labels, wide_labels, places, counted = batch
    student, wide_student = student.clone().requires_grad_(), wide_student.clone().requires_grad_()
    mask = None if by_label else counted
    if by_label:
        labels, wide_labels = labels.masked_fill(~counted, -100), wide_labels.masked_fill(~counted, -100)
    expected = softened(name, student, teacher, labels, mask)
    found = softened(name, wide_student, wide_teacher, wide_labels, mask)
    for one, other in zip(found, expected, strict=True):
        if other is None:
            assert one is None
            continue
        assert one.isfinite().all()
        assert (one > 0).all()
        torch.testing.assert_close(one[counted], other[counted], rtol=1e-5, atol=1e-6)
    if not found[1].requires_grad or name == "learned":
        return
    weights = torch.linspace(1, 2, len(counted), dtype=torch.float64)
    gradients = [
        torch.autograd.grad(sum((weights * v).sum() for v in values if v is not None), z)[0]
        for values, z in ((found, wide_student), (expected, student))
    ]
    torch.testing.assert_close(gradients[0][:, places][counted], gradients[1][counted], rtol=1e-4, atol=1e-5)
    gradients[0][:, places] = gradients[0][:, places].masked_fill(counted[:, None], 0.0)
    assert (gradients[0] == 0).all()


@pytest.mark.parametrize("name", sorted(set(POLICIES) - {"learned"}))
@given(batch=batches(dtypes=[torch.float64]))
def test_the_loss_of_a_policy_does_not_see_them_either(name, batch):
    (student, teacher), (wide_student, wide_teacher), labels, wide_labels, places, counted = batch

    def loss_and_gradient(student, teacher, labels):
        student = student.clone().requires_grad_()
        softening = policy_from({"policy": name})(student, teacher, labels, 0.3, mask=counted)
        parts = DistillationLoss(alpha=0.9).parts(
            student, teacher, labels, mask=counted, temperature=softening.temperature, scale=softening.scale
        )
        return parts.total, torch.autograd.grad(parts.total, student)[0]

    if not counted.any():
        return
    value, gradient = loss_and_gradient(wide_student, wide_teacher, wide_labels)
    expected, expected_gradient = loss_and_gradient(student, teacher, labels)
    torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(gradient[:, places], expected_gradient, rtol=1e-7, atol=1e-10)
    assert gradient.sum().isfinite()


@pytest.mark.parametrize("name", READERS)
@given(batch=batches(dtypes=[torch.float16, torch.bfloat16]))
def test_half_precision_has_its_own_lowest_number(name, batch):
    (student, teacher), (wide_student, wide_teacher), labels, wide_labels, _, counted = batch
    found = softened(name, wide_student, wide_teacher, wide_labels, counted)
    for one, other in zip(found, softened(name, student, teacher, labels, counted), strict=True):
        torch.testing.assert_close(one[counted], other[counted], rtol=1e-5, atol=1e-6)
        assert one.isfinite().all()


@pytest.mark.parametrize("name", READERS)
def test_compiled_code_does_the_same(name):
    """Nothing branches on a value: a graph that is traced on one batch is right for any other."""
    policy = policy_from({"policy": name})

    def temperatures(student, teacher, mask):
        found = policy(student, teacher, mask=mask)
        return tuple(torch.as_tensor(x) for x in (found.teacher_temperature, found.student_temperature, found.scale))

    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(3, 5, generator=generator) for _ in range(2))
    everything, two = torch.tensor([True] * 3), torch.tensor([True, False, True])
    compiled = torch.compile(temperatures, backend="eager", fullgraph=True)
    compiled(student, teacher, everything)
    noisy = [z.clone() for z in (student, teacher)]
    for z in noisy:
        z[1], z[:, 2] = math.nan, -math.inf
    expected = temperatures(*(z[:, [0, 1, 3, 4]] for z in (student, teacher)), two)
    noisy[0].requires_grad_()
    found = compiled(*noisy, two)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)
    if found[1].requires_grad:
        gradient = torch.autograd.grad(found[1].sum(), noisy[0])[0]
        assert gradient.isfinite().all()
        assert (gradient[1] == 0).all()
        assert (gradient[:, 2] == 0).all()


@pytest.mark.parametrize("name", READERS)
def test_a_row_of_one_class_and_a_teacher_of_one_class(name):
    """One class leaves nothing to soften; its temperature must only be a positive number with a finite gradient."""
    for student, teacher in (([0.0, -math.inf, -math.inf],) * 2, ([1.0, 2.0, 3.0], [0.0, -math.inf, -math.inf])):
        student = torch.tensor([student], requires_grad=True)
        found = softened(name, student, torch.tensor([teacher]), None, None)
        for value in found:
            assert 0 < value.item() < math.inf
        if found[1].requires_grad:
            assert torch.autograd.grad(found[1].sum(), student)[0].isfinite().all()


@pytest.mark.parametrize("name", READERS)
def test_an_empty_batch_and_a_teacher_of_inference_mode(name):
    with torch.inference_mode():
        teacher = torch.randn(3, 4)
    student = torch.randn(3, 4, requires_grad=True)
    found = softened(name, student, teacher, None, None)
    if found[1].requires_grad:
        assert torch.autograd.grad(sum(value.sum() for value in found), student)[0].isfinite().all()
    assert [value.shape for value in softened(name, student[:0], teacher[:0], None, None)] == [(0,)] * 3


def test_a_nan_that_counts_stays_visible():
    for name in READERS:
        broken = torch.tensor([[0.0, math.nan, 1.0]])
        assert any(value.isnan().any() for value in softened(name, broken, broken, None, None))


def test_the_gap_is_that_of_the_positions_that_count():
    generator = torch.Generator().manual_seed(0)
    student, teacher = (5 * torch.randn(4, 3, generator=generator) for _ in range(2))
    labels, mask = torch.tensor([0, 1, 2, 0]), torch.tensor([True, False, True, True])
    policy = policy_from({"policy": "gap", "momentum": 0.0})
    entropy = [-log_softmax(z, -1).gather(-1, labels[:, None])[mask].mean().item() for z in (student, teacher)]
    gap = entropy[0] - entropy[1]
    expected = min(max(8 * (gap / (gap - 1) if gap > 1 else 1), 1.0), 8.0)
    assert policy(student, teacher, labels, 0.0, mask=mask).temperature == pytest.approx(expected)


def test_the_gap_of_a_batch_without_labels_moves_nothing():
    policy = policy_from({"policy": "gap"})
    logits = torch.randn(2, 3)
    assert policy(logits, logits, torch.tensor([-100, -100]), 0.9).temperature == 8.0
    assert policy(logits, logits, torch.tensor([0, 1]), 0.9, mask=torch.tensor([False, False])).temperature == 8.0
    assert policy(logits, logits, torch.tensor([0, 1], dtype=torch.uint8), 0.9).temperature < 8.0


def test_statistics_by_hand():
    logits = torch.tensor([[1.0, -math.inf, 2.0, 6.0], [5.0, 5.0, 5.0, 5.0]]), torch.tensor([True, False])
    for statistic, expected in ((largest, 3.0), (variance, 7.0)):
        found, sizes = statistic(*logits)
        assert sizes.tolist() == [3, 0]
        assert found[0] == expected
    assert sharpness(*logits)[0][0].item() == pytest.approx(math.log(math.exp(-2) + math.exp(-1) + math.exp(3)))


@pytest.mark.parametrize("shape", [(7,), (300, 1000), (3, 40, 1000), (2, 3, 5, 7)], ids=str)
@pytest.mark.parametrize("statistic", [sharpness, variance])
def test_blocks_of_rows_are_the_formula(statistic, shape):
    """Value and gradient, over several blocks, for rows with a stride between sequences too."""
    logits = torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for rows in (logits, logits[:, :-1] if logits.dim() > 2 else logits):
        rows = rows.detach().requires_grad_()
        found = statistic(rows)[0]
        truth = rows.var(-1) if statistic is variance else (rows - rows.mean(-1, keepdim=True)).logsumexp(-1)
        torch.testing.assert_close(found, truth)
        weights = torch.linspace(1, 2, found.numel(), dtype=torch.float64).reshape(found.shape)
        gradients = [torch.autograd.grad((weights * value).sum(), rows)[0] for value in (found, truth)]
        torch.testing.assert_close(*gradients)


class Unread(torch.Tensor):
    """A tensor whose values are not read, as those of an accelerator or of FakeTensorMode are not."""

    def __bool__(self):
        raise AssertionError("a value was read")

    __int__ = __float__ = item = __bool__


@pytest.mark.parametrize("statistic", [largest, sharpness, variance])
def test_one_block_whose_values_are_not_read_gives_the_same(statistic):
    logits = torch.randn(5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    logits[1], logits[:, 2] = math.nan, -math.inf
    counted = torch.tensor([True, False, True, True, True])
    results = []
    for given_logits in (logits.clone().requires_grad_(), logits.clone().as_subclass(Unread).requires_grad_()):
        found, sizes = statistic(given_logits, counted)
        values = [found[counted], sizes]
        if found.requires_grad:
            values += torch.autograd.grad(torch.where(counted, found, 0.0).sum(), given_logits)
        results.append([value.as_subclass(torch.Tensor) for value in values])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)
        assert other.isfinite().all()


def test_what_is_absent():
    assert is_absent(torch.tensor([-math.inf, -2e30, -1e29, math.nan, math.inf])).tolist() == [True, True, *[False] * 3]
    assert is_absent(torch.tensor([-65504.0, -65000.0], dtype=torch.float16)).tolist() == [True, False]


def test_positions_that_count_are_those_of_the_loss():
    logits, labels, mask = torch.zeros(2, 3), torch.tensor([1, -100]), torch.tensor([False, True])
    assert counted_positions(logits, None, None) is None
    assert counted_positions(logits, labels, None).tolist() == [True, False]
    assert counted_positions(logits, labels, mask).tolist() == [False, True]
    assert counted_positions(logits, labels.clamp(min=0).to(torch.uint8), None).tolist() == [True, True]
    for name, wrong in (("labels", {"labels": labels[:, None]}), ("mask", {"mask": mask[:1]})):
        with pytest.raises(ArgumentError, match=rf"{name}: expected one for each position of the logits, \(2,\), got"):
            policy_from({"policy": "sharpness"})(logits, logits, **wrong)

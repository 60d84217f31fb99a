"""The analysis of soft targets, compared with closed forms and autograd."""

import inspect
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from limbeck import distillation_loss
from limbeck.temperature.analysis import Rank, Softness, analyze, noise_temperature, steady_ranks

TEACHER = 4 * torch.randn(200, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
STUDENT = 2 * torch.randn(200, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
LABELS = torch.distributions.Categorical(logits=TEACHER / 2).sample()


def test_the_numbers_of_two_classes_by_hand():
    """For logits (a, 0), p is 1 / (1 + exp(-a / T)); an untrained student gives 1/2 to both classes."""
    a, t = 3.0, 2.0
    row = analyze(torch.tensor([[a, 0.0]]), torch.tensor([0]), temperatures=[t]).softness[0]
    p = 1 / (1 + math.exp(-a / t))
    entropy = -p * math.log(p) - (1 - p) * math.log(1 - p)
    assert row.entropy == pytest.approx(entropy)
    assert row.effective_classes == pytest.approx(math.exp(entropy))
    assert row.top_probability == pytest.approx(p)
    assert row.fraction_on_negatives == pytest.approx(0.5)  # the gradients of the two classes sum to zero
    assert row.soft_over_hard == pytest.approx((p - 0.5) / t / 0.5)
    assert row.compensated_over_hard == pytest.approx(t * (p - 0.5) / 0.5)
    assert row.limit_over_hard == pytest.approx(a / 2 / 2 / 0.5)


@pytest.mark.parametrize("t", [0.5, 1.0, 3.0, 12.0])
def test_gradients_are_those_of_the_loss(t):
    def gradient(**settings):
        student = STUDENT.clone().requires_grad_()
        loss = distillation_loss(student, TEACHER, LABELS, temperature=t, reduction="sum", **settings)
        return torch.autograd.grad(loss, student)[0]

    row = analyze(TEACHER, LABELS, student_logits=STUDENT, temperatures=[t]).softness[0]
    hard, soft = gradient(alpha=0.0), gradient(alpha=1.0, compensate=False)
    norm = hard.norm(dim=-1).mean()
    assert row.soft_over_hard == pytest.approx((soft.norm(dim=-1).mean() / norm).item(), rel=1e-9)
    assert row.compensated_over_hard == pytest.approx((gradient(alpha=1.0).norm(dim=-1).mean() / norm).item(), rel=1e-9)
    of_label = soft.gather(-1, LABELS[:, None]).squeeze(-1).square() / soft.square().sum(-1)
    assert row.fraction_on_negatives == pytest.approx(1 - of_label.mean().item())
    lowest = 0.0
    for g, z, y in zip(soft, TEACHER, LABELS, strict=True):  # the lowest 3 of 6 negative labels
        negative = sorted((z[c].item(), c) for c in range(7) if c != y)[:3]
        lowest += (sum(g[c] ** 2 for _, c in negative) / g.square().sum()).item() / 200
    assert row.fraction_on_lowest == pytest.approx(lowest)


def test_the_soft_gradient_falls_like_1_over_t_squared_in_the_limit():
    rows = analyze(TEACHER, LABELS, student_logits=STUDENT, temperatures=[1, 20, 300]).softness
    assert rows[2].compensated_over_hard == pytest.approx(rows[2].limit_over_hard, rel=0.01)
    assert abs(rows[0].compensated_over_hard / rows[0].limit_over_hard - 1) > 0.05
    assert rows[1].soft_over_hard / rows[2].soft_over_hard == pytest.approx(15**2, rel=0.05)


def test_an_overconfident_teacher_is_calibrated():
    """If labels are drawn from softmax(z / 2), the calibrated temperature is 2."""
    logits = TEACHER.repeat(60, 1)
    torch.manual_seed(0)
    labels = torch.distributions.Categorical(logits=logits / 2).sample()
    found = analyze(logits, labels).calibration
    assert found.temperature == pytest.approx(2.0, rel=0.05)
    assert found.error_after < 0.02 < found.error_before
    assert found.nll_after < found.nll_before
    held = analyze(logits, labels, held_out=(2 * logits, labels)).calibration
    assert held.temperature == pytest.approx(4.0, rel=0.05)


def test_without_labels_there_is_no_calibration():
    assert analyze(TEACHER).calibration is None
    assert analyze(TEACHER, torch.full((200,), -100)).calibration is None


def test_the_reliability_of_ranks():
    """From view to view, one class moves by a known amount and the others stay."""
    base = torch.tensor([[9.0, 6.0, 3.0, 0.0]], dtype=torch.float64).repeat(5, 1)
    views = torch.stack([base, base.clone()])
    views[0, :, 2] += 0.5
    views[1, :, 2] -= 0.5
    ranks = analyze(base, views=views).ranks
    assert [r.rank for r in ranks] == [1, 2, 3]
    assert [r.gap for r in ranks] == pytest.approx([3, 6, 9])
    assert [r.spread for r in ranks] == pytest.approx([0, math.sqrt(0.5), 0])
    assert [r.agreement for r in ranks] == [1, 1, 1]
    views[0, :, 2] += 4  # moves it past its neighbour in one of the views
    assert [r.agreement for r in analyze(base, views=views).ranks] == [0, 0, 1]


@pytest.mark.parametrize("fill", [-math.inf, torch.finfo(torch.float64).min, -1e31], ids=str)
@given(seed=st.integers(0, 2**32), absent=st.integers(1, 4), with_student=st.booleans())
def test_absent_classes_change_nothing(fill, seed, absent, with_student):
    """Columns that neither model can choose, anywhere between the others, against the logits without them."""
    generator = torch.Generator().manual_seed(seed)
    places = torch.randperm(7 + absent, generator=generator)[:7].sort().values

    def wide(logits):
        padded = torch.full((*logits.shape[:-1], 7 + absent), fill, dtype=torch.float64)
        padded[..., places] = logits
        return padded

    student = STUDENT[:20] if with_student else None
    views = torch.stack([TEACHER[:20], TEACHER[20:40]])
    expected = analyze(TEACHER[:20], LABELS[:20], student_logits=student, views=views, temperatures=[1, 4])
    found = analyze(
        wide(TEACHER[:20]),
        places[LABELS[:20]],
        student_logits=None if student is None else wide(student),
        views=wide(views),
        temperatures=[1, 4],
    )
    assert (found.classes, found.conclusion) == (7, expected.conclusion)
    measured, truth = ([x.calibration, *x.softness, *x.ranks] for x in (found, expected))
    for one, other in zip(measured, truth, strict=True):
        assert vars(one) == pytest.approx(vars(other), rel=1e-6)


def test_the_half_of_the_classes_that_each_row_has():
    """Rows that lack different classes, by hand: of four negative labels the two lowest, of two the lowest."""
    inf = math.inf
    rows = [[4.0, 3.0, 2.0, 1.0, 0.0], [4.0, -inf, 2.0, -inf, 0.0]]
    found = analyze(
        torch.tensor(rows), torch.tensor([0, 0]), student_logits=torch.tensor(rows) * 0.5, temperatures=[2.0]
    ).softness[0]
    fractions = []
    for row in rows:
        z = torch.tensor([x for x in row if x > -inf], dtype=torch.float64)
        squares = ((z / 4).softmax(0) - (z / 2).softmax(0)).square()
        fractions.append((squares[1 + (len(z) - 1) // 2 :].sum() / squares.sum()).item())
    assert found.fraction_on_lowest == pytest.approx(sum(fractions) / 2)


def test_a_probability_of_zero_has_no_limit():
    """A class that the teacher rules out and the student does not: T² times the gradient grows without end."""
    row = analyze(torch.tensor([[1.0, -math.inf, 0.0], [0.0, 1.0, 2.0]]), temperatures=[1.0, 100.0]).softness[1]
    assert row.limit_over_hard == math.inf
    assert row.compensated_over_hard > 20
    assert all(math.isfinite(x) for name, x in vars(row).items() if name != "limit_over_hard")


def test_every_field_is_explained():
    """The explanation stands under each field; a reader of the class needs no other page."""
    source = inspect.getsource(Softness)
    for name in Softness.__dataclass_fields__:
        assert f'    {name}: float\n    """' in source


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="temperatures: expected positive numbers"):
        analyze(TEACHER, temperatures=[1, 0])
    with pytest.raises(ValueError, match=r"expected logits of one shape \(N, V\), got \(200, 7\) and \(3, 7\)"):
        analyze(TEACHER, student_logits=STUDENT[:3])
    with pytest.raises(ValueError, match=r"views: expected \(M, N, V\) with at least two views"):
        analyze(TEACHER, views=TEACHER[None])


def test_the_ranks_before_the_first_that_changes_are_steady():
    ranks = [Rank(1, 1.0, 0.5, 0.9), Rank(2, 2.0, 0.9, 0.8), Rank(3, 3.0, 1.0, 0.5), Rank(4, 4.0, 0.1, 0.9)]
    assert steady_ranks(ranks) == 2  # the third changes by as much as the step to the fourth
    assert steady_ranks(ranks[:2]) == 2
    assert steady_ranks([]) == 0


@pytest.mark.parametrize("others", [2, 5])
def test_above_which_temperature_negative_labels_are_noise(others):
    logits = torch.cat([torch.tensor([9.0, 2.0]), torch.zeros(others)])[None]
    logits = torch.cat([logits, torch.tensor([[-torch.inf]])], -1)  # an absent class changes nothing
    assert noise_temperature(logits, 1) == pytest.approx(2 / math.log(others))  # e^(2/T) = others
    assert noise_temperature(logits, 1, highest=1.0) is None
    assert noise_temperature(logits, others) is None
    assert noise_temperature(logits, 0, lowest=0.5) == pytest.approx(0.5)

"""Specialists: their formula is the minimum that a numerical optimiser finds, and ensembles use it."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.errors import ArgumentError
from limbeck.models import forward_logits
from limbeck.teachers import Ensemble, EnsembleModel
from limbeck.teachers.specialists import Weighted, with_specialists

SETS = [(0, 3), (1, 2, 5)]


def distributions(seed, sets, classes=7):
    draw = torch.Generator().manual_seed(seed)
    sizes = [classes, *map(len, sets)]
    return [(2 * torch.randn(3, n, generator=draw, dtype=torch.float64)).log_softmax(-1) for n in sizes]


def objective(log_q, log_probs, sets, weights):
    """Return w_g KL(p_g, q) + sum w_m KL(p_m, q_m), each row's sum, written as the definition says."""
    total = 0.0
    for log_p, numbers, weight in zip(log_probs, [range(log_q.shape[-1]), *sets], weights, strict=True):
        restricted = log_q[:, list(numbers)].log_softmax(-1)
        total = total + weight * (log_p.exp() * (log_p - restricted)).sum(-1)
    return total


@pytest.mark.parametrize("sets", [SETS[:1], SETS, [(0, 1, 2), (2, 3), (3, 5, 0)]], ids=str)
@given(st.integers(0, 2**20), st.lists(st.floats(0.1, 10), min_size=4, max_size=4))
@settings(max_examples=5, deadline=None)
def test_no_optimiser_finds_less(sets, seed, weights):
    log_probs, weights = distributions(seed, sets), weights[: 1 + len(sets)]
    generalist, *others = map(Weighted, log_probs, weights)
    found = with_specialists(generalist, list(zip(sets, others, strict=True)))
    torch.testing.assert_close(found.exp().sum(-1), torch.ones(3, dtype=torch.float64))
    z = log_probs[0].clone().requires_grad_()
    optimiser = torch.optim.LBFGS(
        [z], max_iter=200, line_search_fn="strong_wolfe", tolerance_grad=1e-10, tolerance_change=0
    )

    def closure():
        optimiser.zero_grad()
        loss = objective(z.log_softmax(-1), log_probs, sets, weights).sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    torch.testing.assert_close(found.exp(), z.detach().softmax(-1), atol=1e-5, rtol=0)
    least = objective(found, log_probs, sets, weights)
    assert bool((least <= objective(z.detach().log_softmax(-1), log_probs, sets, weights) + 1e-12).all())


def test_classes_that_cannot_be():
    generalist = Weighted(torch.tensor([[0.0, -math.inf, -math.inf]]), 1.0)
    found = with_specialists(generalist, [((1, 2), Weighted(torch.tensor([[0.0, -math.inf]]), 1.0))])
    assert found.tolist() == [[0.0, -math.inf, -math.inf]]


@pytest.mark.parametrize("sharpness", [1, 30])
def test_overlapping_sets_meet_the_conditions_of_a_minimum(sharpness):
    """At the minimum, w_g (q - p_g) + sum of w_m (q_m - p_m) = 0 for each class, also if it is next to impossible."""
    sets, weights = [(0, 1, 2), (2, 3), (4, 5), (5, 6)], [1.0, 4.0, 0.5, 2.0, 1.0]
    log_probs = [(sharpness * p).log_softmax(-1) for p in distributions(3, sets)]
    generalist, *others = map(Weighted, log_probs, weights)
    found = with_specialists(generalist, list(zip(sets, others, strict=True)))
    slope = found.exp() - log_probs[0].exp()
    for numbers, log_p, weight in zip(sets, log_probs[1:], weights[1:], strict=True):
        slope[:, list(numbers)] += weight * (found[:, list(numbers)].softmax(-1) - log_p.exp())
    assert slope.abs().max() < 1e-8
    assert found[:, :4].exp().sum(-1).sub(log_probs[0][:, :4].exp().sum(-1)).abs().max() < 1e-12


def test_overlapping_sets_of_which_a_class_or_all_cannot_be():
    generalist = Weighted(
        torch.tensor([[0.0, -math.inf, -math.inf, -math.inf], [0.5, 0.5, 0.0, 0.0]]).log_softmax(-1), 1.0
    )
    others = [Weighted(torch.tensor([[0.0, -math.inf]] * 2), 1.0), Weighted(torch.tensor([[0.5, 0.5]] * 2).log(), 1.0)]
    found = with_specialists(generalist, [((1, 2), others[0]), ((2, 3), others[1])])
    assert found[0].tolist() == [0.0, -math.inf, -math.inf, -math.inf]
    torch.testing.assert_close(found[1].exp().sum(), torch.tensor(1.0))


class TestEnsemble:
    @pytest.mark.parametrize("t", [1.0, 4.0])
    def test_it_is_the_formula_at_the_temperature_of_the_loss(self, t):
        logits = [torch.randn(6, 5), torch.randn(6, 5), torch.randn(6, 2), torch.randn(6, 2)]
        weights = [1.0, 2.0, 3.0, 0.5]
        teachers = [lambda batch, z=z: z for z in logits]
        ensemble = Ensemble(teachers, weights, temperature=t, classes=[None, None, (4, 1), (1, 4)])
        found = (ensemble({}).logits / t).softmax(-1)
        p = [(z / t).softmax(-1) for z in logits]
        general = p[0] + 2 * p[1]
        inside = general[:, [4, 1]] + 3 * p[2] + 0.5 * p[3].flip(-1)
        mass = general[:, [4, 1]].sum(-1, keepdim=True) / 3
        expected = general / 3
        expected[:, [4, 1]] = mass * inside / inside.sum(-1, keepdim=True)
        torch.testing.assert_close(found, expected)

    def test_pixels_have_their_classes_in_axis_1(self):
        logits, own = torch.randn(2, 4, 3, 3), torch.randn(2, 2, 3, 3)
        found = Ensemble([lambda b: logits, lambda b: own], temperature=2.0, classes=[None, (0, 2)])({}).logits
        flat = [z.movedim(1, -1).reshape(-1, z.shape[1]) for z in (logits, own)]
        rows = Ensemble([lambda b: flat[0], lambda b: flat[1]], temperature=2.0, classes=[None, (0, 2)])({}).logits
        torch.testing.assert_close(found.movedim(1, -1).reshape(-1, 4), rows)

    @pytest.mark.parametrize(
        ("classes", "message"),
        [
            ([(0, 1), (2, 3)], "classes: all teachers are specialists"),
            ([None], "classes: expected an entry for each of 2 teachers, got 1"),
            ([None, (2,)], "classes: expected two or more class numbers|two or more different"),
            ([None, (2, 2)], "two or more"),
        ],
        ids=str,
    )
    def test_sets_that_cannot_be_combined(self, classes, message):
        with pytest.raises(ArgumentError, match=message):
            Ensemble([torch.nn.Identity()] * 2, classes=classes)

    def test_overlapping_sets_whatever_their_order(self):
        logits = [torch.randn(6, 5), torch.randn(6, 2), torch.randn(6, 2)]
        first = Ensemble([lambda b, z=z: z for z in logits], temperature=2.0, classes=[None, (1, 2), (2, 3)])({})
        logits[2] = logits[2].flip(-1)
        second = Ensemble([lambda b, z=z: z for z in logits], temperature=2.0, classes=[None, (1, 2), (3, 2)])({})
        torch.testing.assert_close(first.logits, second.logits)

    def test_logits_and_other_widths(self):
        three = [torch.nn.Identity()] * 3
        with pytest.raises(ArgumentError, match="average: 'logits' is for teachers that all know the same"):
            Ensemble(three, classes=[None, None, (2, 3)], average="logits")
        for own, classes in ((torch.zeros(6, 3), (0, 1)), (torch.zeros(6, 2), (0, 9))):
            ensemble = Ensemble(
                [lambda b: torch.zeros(6, 5), lambda b, z=own: z], temperature=1.0, classes=[None, classes]
            )
            with pytest.raises(ArgumentError, match="A specialist has a column for each of its classes"):
                ensemble({})

    def test_a_model_of_them_predicts_and_is_told_from_another(self):
        members, rows = [torch.nn.Linear(4, 5), torch.nn.Linear(4, 2)], torch.randn(6, 4)
        ensemble = EnsembleModel(members, [1, 1], classes=[None, (1, 3)])
        expected = Ensemble(members, temperature=1.0, classes=[None, (1, 3)])({"x": rows}).logits
        torch.testing.assert_close(forward_logits(ensemble, {"x": rows}), expected)
        other = EnsembleModel(members, [1, 1], classes=[None, (1, 4)])
        assert not torch.equal(ensemble.get_extra_state(), other.get_extra_state())

"""Ensembles: how they average, and what they refuse."""

import pytest
import torch

from limbeck.errors import ArgumentError
from limbeck.losses import SparseTargets
from limbeck.models import forward_logits
from limbeck.teachers import Ensemble, EnsembleModel, InMemoryTeacher, LiveTeacher, TeacherOutput, as_teacher


def members():
    torch.manual_seed(0)
    return [torch.nn.Linear(4, 5), *(LiveTeacher(torch.nn.Linear(4, 5)) for _ in range(2))]


def test_probabilities_are_averaged_at_the_temperature():
    teachers, batch = members(), {"x": torch.randn(6, 4)}
    weights = [1.0, 2.0, 5.0]
    got = Ensemble(teachers, weights, temperature=3.0)(batch).logits
    average = sum(
        w / 8 * (t(batch).logits / 3).softmax(-1) for w, t in zip(weights, Ensemble(teachers).teachers, strict=True)
    )
    torch.testing.assert_close((got / 3).softmax(-1), average)


def test_logits_are_averaged():
    teachers, batch = members(), {"x": torch.randn(6, 4)}
    got = Ensemble(teachers, average="logits")(batch).logits
    torch.testing.assert_close(got, sum(t(batch).logits for t in Ensemble(teachers).teachers) / 3)


def test_an_ensemble_of_one_teacher_is_that_teacher():
    (teacher, *_), batch = members(), {"x": torch.randn(6, 4)}
    for average in ("logits", "probabilities"):
        got = Ensemble([teacher], average=average, temperature=2.0)(batch).logits
        torch.testing.assert_close(got.softmax(-1), teacher(batch["x"]).softmax(-1))


def test_it_has_a_single_view_if_any_of_its_teachers_has():
    assert not Ensemble(members()).single_view
    assert Ensemble([*members(), InMemoryTeacher(torch.zeros(6, 5))]).single_view
    assert Ensemble([Ensemble([InMemoryTeacher(torch.zeros(6, 5))]), torch.nn.Linear(4, 5)]).single_view


def test_wrong_arguments_are_refused():
    for wrong, message in (([], "at least one Teacher"), ([3], "expected a module, a Teacher or a callable, got int")):
        with pytest.raises(TypeError, match=f"^teachers: .*{message}"):
            Ensemble(wrong)
    for options, message in (
        (dict(weights=[1.0]), "weights: expected 3 positive numbers"),
        (dict(weights=[1.0, -1.0, 1.0]), "weights: expected 3 positive numbers"),
        (dict(average="votes"), "average: expected 'logits'"),
        (dict(temperature=0.0), "temperature: expected a positive number"),
    ):
        with pytest.raises(ValueError, match=message):
            Ensemble(members(), **options)


def test_sparse_targets_are_refused():
    targets = SparseTargets.top_k(torch.zeros(6, 5), k=2)
    ensemble = Ensemble([*members(), lambda batch: TeacherOutput(targets=targets)])
    with pytest.raises(TypeError, match="teachers: an ensemble averages logits"):
        ensemble({"x": torch.randn(6, 4)})


def test_without_a_temperature_probabilities_wait_for_one():
    batch = {"x": torch.randn(6, 4)}
    ensemble = Ensemble(members())
    with pytest.raises(ValueError, match=r"temperature: .*Ensemble\(teachers, temperature=4\.0\)"):
        ensemble(batch)
    expected = Ensemble(ensemble.teachers, temperature=2.0)(batch).logits
    torch.testing.assert_close(ensemble.at_temperature(2.0)(batch).logits, expected)
    assert Ensemble(members(), average="logits")(batch).logits.shape == (6, 5)


def test_logits_of_two_shapes_are_refused():
    ensemble = Ensemble([torch.nn.Linear(4, 3), torch.nn.Linear(4, 2)], average="logits")
    with pytest.raises(ArgumentError, match=r"teachers: .* of one shape, and these gave \(5, 3\), \(5, 2\)"):
        ensemble({"x": torch.zeros(5, 4)})


class TestEnsembleModel:
    @pytest.mark.parametrize("average", ["probabilities", "logits"])
    def test_it_predicts_at_1_and_teaches_at_the_temperature_of_the_loss(self, average):
        models, rows = [torch.nn.Linear(4, 5) for _ in range(2)], torch.randn(6, 4)
        ensemble = EnsembleModel(models, [1.0, 3.0], average)
        logits = [model(rows).detach() for model in models]
        batch = {"x": rows, "labels": torch.zeros(6)}
        for t, found in (
            (1.0, forward_logits(ensemble, batch)),
            (5.0, as_teacher(ensemble).at_temperature(5.0)(batch).logits),
        ):
            if average == "logits":
                expected = ((logits[0] + 3 * logits[1]) / 4 / t).softmax(-1)
            else:
                expected = ((logits[0] / t).softmax(-1) + 3 * (logits[1] / t).softmax(-1)) / 4
            torch.testing.assert_close((found / t).softmax(-1), expected)

    def test_its_members_are_given_the_entries_that_they_take(self):
        class Named(torch.nn.Module):
            def forward(self, first, second):
                return first - second

        ensemble = EnsembleModel([Named(), Named()], [1, 1], "logits")
        batch = {"first": torch.full((1, 2), 3.0), "second": torch.ones(1, 2)}
        assert forward_logits(ensemble, batch).tolist() == [[2.0, 2.0]]

    def test_its_weights_tell_it_from_another(self):
        models = [torch.nn.Linear(4, 5) for _ in range(2)]
        states = [EnsembleModel(models, weights).state_dict() for weights in ([1, 1], [1, 2])]
        assert not torch.equal(*(state["_extra_state"] for state in states))

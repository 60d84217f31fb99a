"""Ensembles: how they average, and what they refuse."""

import pytest
import torch

from limbeck.errors import ArgumentError
from limbeck.losses import SparseTargets
from limbeck.teachers import Ensemble, InMemoryTeacher, LiveTeacher, TeacherOutput


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

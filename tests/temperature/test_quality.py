"""The quality of a student: its number against a plain calculation in float64, and what a judge needs of it."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from torch.nn.functional import one_hot

from limbeck.errors import ArgumentError
from limbeck.temperature import Quality


def logits_and_labels(seed=0, n=400, classes=5):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (n,), generator=generator)
    logits = 3 * torch.randn(n, classes, generator=generator)
    logits[torch.arange(n), labels] += 4
    return logits, labels


def calibrated(logits, labels):
    """Return log-probabilities at the temperature with the smallest NLL, which SciPy finds."""
    z, rows = logits.double().numpy(), np.arange(len(labels))
    found = minimize_scalar(
        lambda t: -log_softmax(z / np.exp(t), axis=1)[rows, labels.numpy()].mean(), bounds=(-3, 4), method="bounded"
    )
    return log_softmax(z / np.exp(found.x), axis=1)


def test_the_value_of_a_classifier():
    logits, labels = logits_and_labels()
    teacher = logits + torch.randn(logits.shape, generator=torch.Generator().manual_seed(9))
    ours, theirs, rows = calibrated(logits, labels), np.exp(calibrated(teacher, labels)), np.arange(len(labels))
    predicted = logits.argmax(-1).numpy()
    brier = ((np.exp(ours) - np.eye(5)[labels.numpy()]) ** 2).sum(-1)
    accuracy = (predicted == labels.numpy()).mean()
    assert Quality.of_logits(logits, labels).value == pytest.approx(accuracy - 0.3 * brier.mean(), abs=1e-5)
    found = Quality.of_logits(logits, labels, teacher)
    trust = (theirs.argmax(1) == labels.numpy()).mean()
    judged = trust * theirs[rows, predicted].mean() + (1 - trust) * accuracy
    assert found.value == pytest.approx(judged - 0.3 * brier.mean(), abs=1e-5)
    assert found.scores.tolist() == (predicted == labels.numpy()).tolist()
    assert found.score == pytest.approx((logits.argmax(-1) == labels).float().mean().item())
    np.testing.assert_allclose(found.brier, brier, atol=1e-4)


def test_the_size_of_the_logits_does_not_count():
    """A student that is ten times as sure of the same ranking is as good after its own calibration."""
    logits, labels = logits_and_labels()
    sure, unsure = (Quality.of_logits(factor * logits, labels, logits) for factor in (10, 0.3))
    assert sure.value == pytest.approx(unsure.value, abs=1e-5)


def test_a_class_that_the_student_rules_out_decides_no_search():
    logits, labels = logits_and_labels()
    before = Quality.of_logits(logits, labels, logits).value
    logits[0, labels[0]] = -torch.inf
    assert abs(Quality.of_logits(logits, labels, logits).value - before) < 0.01


def test_a_bad_teacher_is_not_followed():
    """A student that learned the teacher's confusion of a third of the classes is worse than one that knows the labels."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(6, (600,), generator=generator)
    confused = torch.where(labels % 3 == 0, (labels + 1) % 6, labels)
    noise = torch.randn(3, 600, 6, generator=generator)
    teacher, follower = (6 * one_hot(confused, 6) + noise[i] for i in (0, 1))
    knower = 5 * one_hot(labels, 6) + noise[2]
    values = [Quality.of_logits(student, labels, teacher).value for student in (follower, knower)]
    assert values[0] < values[1]


def test_of_scores():
    for scores in ([True, False, True, True], np.array([1, 0, 1, 1]), torch.tensor([True, False, True, True])):
        quality = Quality.of_scores(scores)
        assert (quality.value, quality.score, quality.examples) == (0.75, 0.75, 4)
    assert Quality(0.5).examples is None
    assert Quality(0.5).score == 0.5


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda: Quality.of_scores([]), "scores"),
        (lambda: Quality.of_scores([[True]]), "scores"),
        (lambda: Quality(0.5, np.ones(3), np.ones(2)), "brier"),
        (lambda: Quality.of_logits(torch.zeros(0, 3), torch.zeros(0).long()), "logits"),
        (lambda: Quality.of_logits(torch.zeros(2, 3), torch.zeros(3).long()), "logits"),
        (lambda: Quality.of_logits(torch.zeros(2, 3), torch.zeros(2).long(), torch.zeros(2, 4)), "teacher_logits"),
    ],
)
def test_faults(make, argument):
    with pytest.raises(ArgumentError) as caught:
        make()
    assert caught.value.argument == argument

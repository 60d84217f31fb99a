"""Metrics against scikit-learn, by hand, and on probabilities that are calibrated by construction."""

import pytest
import torch

from limbeck.data import IGNORE_INDEX
from limbeck.errors import ArgumentError
from limbeck.tasks.metrics import calibration_error, classification_metrics


def test_metrics_against_scikit_learn():
    from sklearn.metrics import accuracy_score, log_loss

    logits, labels = torch.randn(200, 5), torch.randint(0, 5, (200,))
    metrics = classification_metrics(logits, labels, teacher_logits=logits.roll(1, -1))
    assert metrics.accuracy == pytest.approx(accuracy_score(labels, logits.argmax(-1)))
    assert metrics.nll == pytest.approx(log_loss(labels, logits.double().softmax(-1), labels=range(5)))
    assert metrics.agreement == 0


def test_unlabelled_examples_are_not_measured():
    logits, labels = torch.randn(4, 3), torch.tensor([0, IGNORE_INDEX, 2, IGNORE_INDEX])
    assert classification_metrics(logits, labels) == classification_metrics(logits[[0, 2]], labels[[0, 2]])
    with pytest.raises(ArgumentError, match="no example has one") as caught:
        classification_metrics(logits[1:2], labels[1:2])
    assert caught.value.argument == "labels"
    with pytest.raises(ArgumentError, match="expected one for each of 4 rows of logits, got 3"):
        classification_metrics(logits, labels[:3])


def test_labels_that_are_probabilities():
    logits, labels = torch.randn(6, 3), torch.tensor([0, 1, IGNORE_INDEX, 2, 1, 0])
    rows = torch.nn.functional.one_hot(labels.clamp(min=0), 3).float()
    rows[2] = IGNORE_INDEX
    ours, theirs = classification_metrics(logits, rows), classification_metrics(logits, labels)
    assert ours.as_dict() == pytest.approx(theirs.as_dict())
    smoothed = torch.where(rows >= 0, 0.8 * rows + 0.2 / 3, rows)
    ours = classification_metrics(logits, smoothed)
    assert (ours.accuracy, ours.calibration_error) == (theirs.accuracy, pytest.approx(theirs.calibration_error))
    entropy = torch.nn.functional.cross_entropy(logits.double(), labels, label_smoothing=0.2)
    assert ours.nll == pytest.approx(entropy.item(), rel=1e-6)


def test_calibration_error_by_hand():
    # bin (0.6, 0.667]: two at 0.65, one right; bin (0.933, 1]: one at 0.95, right
    probabilities = torch.tensor([[0.65, 0.35], [0.65, 0.35], [0.95, 0.05]], dtype=torch.float64)
    error = calibration_error(probabilities, torch.tensor([0, 1, 0]))
    assert error == pytest.approx((abs(0.5 - 0.65) * 2 + abs(1 - 0.95)) / 3)


def test_a_calibrated_model_has_a_small_calibration_error():
    generator = torch.Generator().manual_seed(0)
    probabilities = (2 * torch.randn(20000, 4, generator=generator)).double().softmax(-1)
    labels = torch.multinomial(probabilities, 1, generator=generator).squeeze(-1)
    assert calibration_error(probabilities, labels) < 0.02
    sharper = probabilities.pow(3) / probabilities.pow(3).sum(-1, keepdim=True)
    assert calibration_error(sharper, labels) > 0.1


def test_what_was_not_measured_is_left_out():
    metrics = classification_metrics(torch.randn(4, 3), torch.zeros(4, dtype=torch.long))
    assert set(metrics.as_dict()) == {"accuracy", "nll", "calibration_error"}

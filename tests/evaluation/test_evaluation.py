import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from limbeck.data import IGNORE_INDEX, Examples
from limbeck.data.examples import TensorRows
from limbeck.evaluation import (
    ArmResult,
    Estimate,
    best_bias,
    classification_metrics,
    difference,
    predict_logits,
    train_arms,
)
from limbeck.evaluation.metrics import calibration_error


def test_measure_against_scikit_learn():
    from sklearn.metrics import accuracy_score, log_loss

    logits, labels = torch.randn(200, 5), torch.randint(0, 5, (200,))
    metrics = classification_metrics(logits, labels, teacher_logits=logits.roll(1, -1))
    assert metrics.accuracy == pytest.approx(accuracy_score(labels, logits.argmax(-1)))
    assert metrics.nll == pytest.approx(log_loss(labels, logits.double().softmax(-1), labels=range(5)))
    assert metrics.agreement == 0


def test_unlabelled_examples_are_not_measured():
    logits, labels = torch.randn(4, 3), torch.tensor([0, IGNORE_INDEX, 2, IGNORE_INDEX])
    assert classification_metrics(logits, labels) == classification_metrics(logits[[0, 2]], labels[[0, 2]])
    with pytest.raises(ValueError, match="no example has one"):
        classification_metrics(logits[1:2], labels[1:2])


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


def test_predict_logits_keeps_order_and_leaves_randomness_alone():
    examples = Examples(TensorRows("pixel_values", torch.arange(20.0).reshape(10, 2)), torch.zeros(10))
    before = torch.random.get_rng_state()
    logits = predict_logits(nn.Identity(), examples, batch_size=3)
    assert torch.equal(logits, torch.arange(20.0).reshape(10, 2))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_estimates_and_differences():
    values = [0.9, 0.92, 0.95, 0.91]
    estimate = Estimate.of(values)
    assert estimate.error == pytest.approx(np.std(values, ddof=1) / 2)
    assert math.isnan(Estimate.of([0.9]).error)
    assert not Estimate.of([0.9]).is_clear
    shifted = [v - 0.1 for v in values]
    paired = difference(ArmResult("a", {"x": values}), ArmResult("b", {"x": shifted}), "x")
    assert paired.mean == pytest.approx(0.1)
    assert paired.error == pytest.approx(0, abs=1e-12)


@given(count=st.integers(2, 8), shift=st.floats(-3, 3), seed=st.integers(0, 10**6))
def test_a_difference_is_clear_when_a_t_test_says_so(count, shift, seed):
    from scipy.stats import ttest_1samp

    values = np.random.default_rng(seed).normal(shift, 1, count)
    assert Estimate.of(values.tolist()).is_clear == (ttest_1samp(values, 0).pvalue < 0.05)


def test_compare_runs_every_arm_with_every_seed():
    calls = []

    def run(arm, seed):
        calls.append((arm, seed))
        return {"accuracy": seed + len(arm)}

    results = train_arms(["a", "bb"], [1, 2], run)
    assert sorted(calls) == [("a", 1), ("a", 2), ("bb", 1), ("bb", 2)]
    assert results["bb"].metrics == {"accuracy": [3, 4]}


@given(rows=st.integers(1, 30), classes=st.integers(2, 5), seed=st.integers(0, 10**6))
def test_best_bias_is_as_good_as_any(rows, classes, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, classes, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, classes, (rows,), generator=generator)
    wanted = seed % classes

    def right(bias):
        shifted = logits.clone()
        shifted[:, wanted] += bias
        return (shifted.argmax(-1) == labels).sum().item()

    found = right(best_bias(logits, labels, wanted))
    others = logits.clone()
    others[:, wanted] = -math.inf
    thresholds = (others.amax(-1) - logits[:, wanted]).sort().values
    candidates = [thresholds[0] - 1, thresholds[-1] + 1, *((thresholds[1:] + thresholds[:-1]) / 2)]
    assert found == max(right(float(bias)) for bias in candidates)

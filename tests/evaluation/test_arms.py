"""Arms over seeds, and how sure a difference is."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.evaluation import ArmResult, Estimate, difference, train_arms


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


def test_every_arm_is_trained_with_every_seed():
    calls = []

    def run(arm, seed):
        calls.append((arm, seed))
        return {"accuracy": seed + len(arm)}

    results = train_arms(["a", "bb"], [1, 2], run)
    assert sorted(calls) == [("a", 1), ("a", 2), ("bb", 1), ("bb", 2)]
    assert results["bb"].metrics == {"accuracy": [3, 4]}


def test_what_is_recorded_is_not_trained_again(tmp_path):
    record, calls = tmp_path / "arms.jsonl", []

    def run(arm, seed):
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append((arm, seed))
        return {"accuracy": seed + len(arm)}

    with pytest.raises(KeyboardInterrupt):
        train_arms(["a", "bb"], [1, 2], run, record=record)
    rest = []
    results = train_arms(["a", "bb"], [1, 2], lambda *a: rest.append(a) or {"accuracy": 0.5}, record=record)
    assert calls == [("a", 1), ("bb", 1), ("a", 2)]
    assert rest == [("bb", 2)]
    assert results["bb"].metrics == {"accuracy": [3, 0.5]}

"""Standard errors over seeds and test examples, against closed forms and by simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.evaluation import Estimate


def test_an_estimate_over_seeds():
    values = [0.9, 0.92, 0.95, 0.91]
    assert Estimate.of(values).error == pytest.approx(np.std(values, ddof=1) / 2)
    assert math.isnan(Estimate.of([0.9]).error)
    assert not Estimate.of([0.9]).is_clear


@given(count=st.integers(2, 8), shift=st.floats(-3, 3), seed=st.integers(0, 10**6))
def test_a_mean_is_clear_when_a_t_test_says_so(count, shift, seed):
    from scipy.stats import ttest_1samp

    values = np.random.default_rng(seed).normal(shift, 1, count)
    assert Estimate.of(values.tolist()).is_clear == (ttest_1samp(values, 0).pvalue < 0.05)


@given(seeds=st.integers(2, 6), examples=st.integers(2, 40), seed=st.integers(0, 10**6))
def test_where_seeds_or_examples_alone_vary_the_error_is_that_of_their_mean(seeds, examples, seed):
    from scipy.stats import sem

    generator = np.random.default_rng(seed)
    of_seeds, of_examples = generator.normal(size=(seeds, 1)), generator.normal(size=(1, examples))
    found = Estimate.of_examples(of_seeds + np.zeros((1, examples)))
    assert found.error == pytest.approx(sem(of_seeds[:, 0]))
    assert found.margin == pytest.approx(Estimate.of(of_seeds[:, 0].tolist()).margin)
    assert Estimate.of_examples(of_examples + np.zeros((seeds, 1))).error == pytest.approx(sem(of_examples[0]))


@pytest.mark.parametrize(
    ("seeds", "examples", "of_seed", "of_example", "rest"),
    [(3, 200, 0.02, 0.3, 0.2), (5, 200, 0.0, 0.3, 0.3), (5, 40, 0.1, 0.0, 0.3), (10, 100, 0.05, 0.2, 0.2)],
)
def test_the_interval_covers_the_mean_of_crossed_seeds_and_examples(seeds, examples, of_seed, of_example, rest):
    generator, covered, squares = np.random.default_rng(1), 0, []
    for _ in range(400):
        found = Estimate.of_examples(
            of_seed * generator.normal(size=(seeds, 1))
            + of_example * generator.normal(size=(1, examples))
            + rest * generator.normal(size=(seeds, examples))
        )
        covered += not found.is_clear  # the true mean is 0
        squares.append(found.error**2)
    exact = of_seed**2 / seeds + of_example**2 / examples + rest**2 / (seeds * examples)
    assert covered / 400 > 0.92  # three standard deviations below 95 %
    assert 0.9 < np.mean(squares) / exact < 1.25  # a part that would be negative counts as 0


def test_seeds_that_agree_by_chance_are_not_certain():
    lost = np.zeros((2, 40))
    lost[:, :5] = -1  # two seeds of 40 images, 5 fewer right in both
    found = Estimate.of_examples(lost)
    assert (found.mean, found.count) == (-0.125, 2)
    assert found.error == pytest.approx(math.sqrt(0.125 * 0.875 / 39))
    assert math.isnan(Estimate.of_examples(lost[:1]).error)

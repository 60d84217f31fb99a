"""The fitted curve, compared with scikit-learn's Gaussian process, and its choice where the best temperature is known."""

import numpy as np
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

from limbeck.temperature import TEMPERATURES, Curve, Observation, fit_curve

X = np.log(TEMPERATURES)


def observed(truth, rng, *, noise, seed_effect=0.0, seeds=(0, 1), temperatures=TEMPERATURES):
    effects = {seed: seed_effect * rng.standard_normal() for seed in seeds}
    return [
        Observation(t, seed, truth(np.log(t)) + effects[seed] + noise * rng.standard_normal())
        for seed in seeds
        for t in temperatures
    ]


def hill(x):
    return 0.9 - 0.01 * (x - np.log(3)) ** 2


def test_the_curve_is_that_of_scikit_learn():
    """Without seed effects, and with the same kernel, mean and covariance agree up to the level."""
    seen = observed(hill, np.random.default_rng(0), noise=0.002, seeds=(0, 1, 2))
    curve = fit_curve(seen, TEMPERATURES)
    y = np.array([o.value for o in seen])
    size = (y - y.mean()).std()
    x = np.log([[o.temperature] for o in seen])
    level = ConstantKernel((30 * size) ** 2, "fixed")
    candidates = []
    for length in (0.7, 1.2, 2.0):
        for amplitude in (0.5, 1.0, 2.0):
            for noise in (0.1, 0.2, 0.4, 0.8):
                smooth = ConstantKernel((amplitude * size) ** 2, "fixed") * RBF(length, "fixed")
                kernel = level + smooth + WhiteKernel((noise * size) ** 2, "fixed")
                process = GaussianProcessRegressor(kernel, optimizer=None, alpha=1e-9 * size**2).fit(x, y - y.mean())
                candidates.append((process.log_marginal_likelihood_value_, process))
    best = max(candidates, key=lambda candidate: candidate[0])[1]
    mean, covariance = best.predict(X[:, None], return_cov=True)
    covariance -= np.diag(np.full(len(X), best.kernel_.k2.noise_level))
    i = int(np.argmax(mean))
    assert curve.best == TEMPERATURES[i]
    behind, error = curve.behind_best()
    np.testing.assert_allclose(behind, mean[i] - mean, atol=2e-6)
    truth = np.sqrt(np.maximum(0, np.diag(covariance) + covariance[i, i] - 2 * covariance[i]))
    np.testing.assert_allclose(error, truth, atol=2e-5)


def test_the_top_of_a_hill_is_found_if_there_is_little_noise():
    for top in (1.0, 3.0, 8.0):
        seen = observed(lambda x, top=top: 0.9 - 0.02 * (x - np.log(top)) ** 2, np.random.default_rng(1), noise=1e-4)
        curve = fit_curve(seen, TEMPERATURES)
        assert curve.best == top
        low, high = curve.interval
        assert low <= top <= high


def test_seed_effects_do_not_bend_the_curve():
    """The seeds differ by far more than the temperatures do."""
    found = [
        fit_curve(observed(hill, np.random.default_rng(s), noise=0.002, seed_effect=0.05), TEMPERATURES)
        for s in range(20)
    ]
    regrets = [hill(np.log(3)) - hill(np.log(curve.best)) for curve in found]
    assert np.mean(regrets) < 0.001


def test_on_a_plateau_the_choice_is_on_the_plateau():
    """Noise decides which point of the plateau looks best, but no point of the slope beyond it may."""
    for seed in range(10):
        seen = observed(lambda x: 0.9 - 0.05 * max(0.0, x - np.log(4)), np.random.default_rng(seed), noise=0.002)
        curve = fit_curve(seen, TEMPERATURES)
        low, high = curve.interval
        assert low <= curve.best <= high <= 4.0
        assert curve.nearest_to_middle(TEMPERATURES) <= 4.0


def test_the_temperature_nearest_to_the_middle_of_the_interval():
    curve = Curve((1.0, 2.0, 4.0, 8.0), np.array([0.0, 1.0, 0.99, 0.0]), np.diag([0.01] * 4))
    assert curve.interval == (2.0, 4.0)
    assert curve.nearest_to_middle((1.0, 4.0)) == 4.0
    assert curve.nearest_to_middle((2.0, 4.0)) == 2.0  # 2 and 4 are equally near, and the lower one is chosen


def test_the_noise_is_estimated():
    seen = observed(hill, np.random.default_rng(4), noise=0.004, seed_effect=0.02, seeds=range(6))
    assert 0.002 < fit_curve(seen, TEMPERATURES).noise < 0.008


def test_equal_qualities_give_a_flat_curve():
    curve = fit_curve([Observation(t, 0, 0.5) for t in TEMPERATURES], TEMPERATURES)
    assert np.isfinite(curve.mean).all()
    assert curve.behind_best()[0] == pytest.approx(np.zeros(10))

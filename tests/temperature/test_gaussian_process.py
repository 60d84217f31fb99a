"""The fitted curve, compared with scikit-learn's Gaussian process, and its choice where the best temperature is known."""

import numpy as np
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

from limbeck.temperature import TEMPERATURES, Curve, Observation, fit_curve
from limbeck.temperature.gaussian_process import fit_gain

X = np.log2(TEMPERATURES)


def observed(truth, rng, *, noise, seed_effect=0.0, seeds=(0, 1), temperatures=TEMPERATURES):
    effects = {seed: seed_effect * rng.standard_normal() for seed in seeds}
    return [
        Observation(t, seed, truth(np.log(t)) + effects[seed] + noise * rng.standard_normal())
        for seed in seeds
        for t in temperatures
    ]


def hill(x):
    return 0.9 - 0.01 * (x - np.log(3)) ** 2


def test_the_curve_is_the_weighted_mean_of_scikit_learns():
    """Without seed effects, mean and covariance are those of scikit-learn's processes, weighted by their likelihood."""
    seen = observed(hill, np.random.default_rng(0), noise=0.002, seeds=(0, 1, 2))
    curve = fit_curve(seen, TEMPERATURES)
    y = np.array([o.value for o in seen])
    size = (y - y.mean()).std()
    x = np.log2([[o.temperature] for o in seen])
    level = ConstantKernel((30 * size) ** 2, "fixed")
    likelihoods, means, covariances = [], [], []
    for length in (1.2, 2.0, 3.0):
        for amplitude in (0.5, 1.0, 2.0):
            for noise in (0.1, 0.2, 0.4, 0.8):
                smooth = ConstantKernel((amplitude * size) ** 2, "fixed") * RBF(length, "fixed")
                kernel = level + smooth + WhiteKernel((noise * size) ** 2, "fixed")
                process = GaussianProcessRegressor(kernel, optimizer=None, alpha=1e-9 * size**2).fit(x, y - y.mean())
                mean, covariance = process.predict(X[:, None], return_cov=True)
                likelihoods.append(process.log_marginal_likelihood_value_)
                means.append(mean + y.mean())
                covariances.append(covariance - np.diag(np.full(len(X), process.kernel_.k2.noise_level)))
    weights = np.exp(np.array(likelihoods) - max(likelihoods))
    weights[weights < np.exp(-4)] = 0
    weights /= weights.sum()
    mean = weights @ np.array(means)
    spread = sum(w * np.outer(m - mean, m - mean) for w, m in zip(weights, means, strict=True))
    covariance = np.tensordot(weights, covariances, 1) + spread
    i = int(np.argmax(mean))
    assert curve.best == TEMPERATURES[i]
    np.testing.assert_allclose(curve.mean, mean, atol=2e-5)
    _, error = curve.behind_best()
    truth = np.sqrt(np.maximum(0, np.diag(covariance) + covariance[i, i] - 2 * covariance[i]))
    np.testing.assert_allclose(error, truth, atol=5e-5)


def students(gain, rng, noise=0.003, t=(0.25, 1.0, 3.0, 8.0, 20.0)):
    """Return ten students with a teacher, whose curve is flat, and two without."""
    alone = [Observation(None, seed, 0.8 + noise * rng.standard_normal()) for seed in (0, 1)]
    return alone + observed(lambda x: 0.8 + gain, rng, noise=noise, temperatures=t)


def test_the_gain_and_its_error_over_many_trainings():
    found = [fit_gain(students(0.02, np.random.default_rng(i)), 2.0) for i in range(60)]
    values = np.array([g.value for g in found])
    assert values.mean() == pytest.approx(0.02, abs=0.0012)
    assert np.mean([g.training_error for g in found]) == pytest.approx(values.std(), rel=0.4)
    assert {g.validation_error for g in found} == {0.0}


def test_students_without_a_teacher_do_not_move_the_curve():
    seen = observed(hill, np.random.default_rng(2), noise=0.002)
    both = fit_curve([*seen, Observation(None, 0, 0.1)], TEMPERATURES)
    np.testing.assert_array_equal(both.mean, fit_curve(seen, TEMPERATURES).mean)


def test_what_all_students_share_adds_no_error_of_the_validation_set():
    seen = students(0.02, np.random.default_rng(3))
    n = len(seen)
    shared = fit_gain(seen, 3.0, np.full((n, n), 0.01**2))
    assert shared.validation_error == pytest.approx(0, abs=1e-5)
    apart = fit_gain(seen, 3.0, np.diag(np.full(n, 0.01**2)))  # as if each had a validation set of its own
    assert apart.validation_error > 0.005
    assert np.hypot(apart.training_error, apart.validation_error) > shared.training_error


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


def test_the_interval():
    curve = Curve((1.0, 2.0, 4.0, 8.0), np.array([0.0, 1.0, 0.99, 0.0]), np.diag([0.01] * 4))
    assert curve.interval == (2.0, 4.0)


def test_the_noise_is_estimated():
    seen = observed(hill, np.random.default_rng(4), noise=0.004, seed_effect=0.02, seeds=range(6))
    assert 0.002 < fit_curve(seen, TEMPERATURES).noise < 0.008


def test_equal_qualities_give_a_flat_curve():
    curve = fit_curve([Observation(t, 0, 0.5) for t in TEMPERATURES], TEMPERATURES)
    assert np.isfinite(curve.mean).all()
    assert curve.behind_best()[0] == pytest.approx(np.zeros(len(TEMPERATURES)))

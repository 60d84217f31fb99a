"""The scale of a student's logits that fits validation labels best, on scikit-learn's digits."""

import json
import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression

import limbeck
from limbeck.data import DataConfig, load_splits
from limbeck.errors import ConfigError, DataError
from limbeck.inference.calibration import CALIBRATION, calibrate_student
from limbeck.models import ModelConfig, save_model
from support.untrained import SHAPE, write_run


@pytest.fixture(scope="module")
def splits():
    return load_splits(DataConfig("digits"), seed=0)


def numpy_of(examples):
    batch = examples.as_one_batch()
    return batch["pixel_values"].flatten(1).double().numpy(), batch["labels"].numpy()


def write_student(folder, weight, bias):
    """Write a run whose student is linear."""
    student = write_run(folder, settings={"hidden": []})
    student[-1].weight.data, student[-1].bias.data = torch.tensor(weight).float(), torch.tensor(bias).float()
    save_model(student, folder / "student", ModelConfig("mlp", {"hidden": []}), SHAPE)


@pytest.mark.parametrize("factor", [0.2, 5.0])
def test_the_scale_is_that_of_scipy(tmp_path, splits, factor):
    pixels, labels = numpy_of(splits.train)
    regression = LogisticRegression(max_iter=200).fit(pixels[:300], labels[:300])
    write_student(tmp_path, factor * regression.coef_, factor * regression.intercept_)

    def nll(scale, examples):
        given, truth = numpy_of(examples)
        logits = scale * factor * regression.decision_function(given)
        return -log_softmax(logits, axis=1)[np.arange(len(truth)), truth].mean()

    best = minimize_scalar(lambda scale: nll(scale, splits.validation), bounds=(0.02, 20), method="bounded")
    found = calibrate_student(tmp_path)
    assert found.logit_scale == pytest.approx(best.x, rel=1e-2)
    assert found.validation.nll_after == pytest.approx(best.fun, rel=1e-4)
    assert found.test.nll_before == pytest.approx(nll(1.0, splits.test), rel=1e-4)
    assert found.test.nll_after == pytest.approx(nll(found.logit_scale, splits.test), rel=1e-4)
    saved = json.loads((tmp_path / CALIBRATION).read_text())
    assert saved["logit_scale"] == found.logit_scale
    assert "temperature" not in saved

    # it is applied where it is asked for, and nowhere else
    images = [(pixels[0].reshape(8, 8) * 255).round()]
    plain, scaled = (limbeck.load(tmp_path, calibrated=c).predict_proba(images)[0] for c in (False, True))
    logits = factor * regression.decision_function(np.round(pixels[:1] * 255) / 255)[0]
    np.testing.assert_allclose(plain, np.exp(log_softmax(logits)), atol=1e-4)
    np.testing.assert_allclose(scaled, np.exp(log_softmax(found.logit_scale * logits)), atol=1e-4)


@pytest.mark.parametrize("factor", [0.0, -5.0])
def test_a_scale_at_the_edge_is_not_written(tmp_path, splits, factor):
    pixels, labels = numpy_of(splits.train)
    means = np.stack([pixels[labels == label].mean(0) for label in range(10)])
    write_student(tmp_path, factor * means, np.zeros(10))
    with pytest.raises(DataError, match=r"the smallest that was tried, 0\.0183: the student's logits say nothing"):
        calibrate_student(tmp_path)
    assert not (tmp_path / CALIBRATION).exists()
    with pytest.raises(ConfigError, match="Make it with: limbeck calibrate"):
        limbeck.load(tmp_path, calibrated=True)


def test_a_student_that_rules_a_true_label_out(tmp_path):
    write_student(tmp_path, np.zeros((10, 64)), [-math.inf] + [0.0] * 9)
    with pytest.raises(DataError, match="a probability of 0 to some true labels"):
        calibrate_student(tmp_path)

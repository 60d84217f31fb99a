"""From a run's folder to a predictor."""

import json

import numpy as np
import pytest
import torch

import limbeck
from limbeck.data import Preprocessing
from limbeck.data.images import ImageFormat
from limbeck.errors import ConfigError
from limbeck.inference.calibration import CALIBRATION
from limbeck.models import MLP, DataShape, ModelConfig, save_model
from limbeck.store.fingerprints import fingerprint_of_model

CONFIG = "data: {name: digits}\nteacher: {model: mlp, training: {max_steps: 1}}\nstudent: {model: mlp}\n"
IMAGES = np.arange(2 * 8 * 8, dtype=np.uint8).reshape(2, 8, 8)


@pytest.fixture
def run(tmp_path):
    """The folder of a run whose student was never trained, and the student."""
    student = MLP(64, 10, [4])
    save_model(student, tmp_path / "student", ModelConfig("mlp", {"hidden": [4]}), DataShape(10, (1, 8, 8)))
    Preprocessing([f"n{i}" for i in range(10)], ImageFormat((8, 8), 1)).save(tmp_path / "student")
    (tmp_path / "config.yaml").write_text(CONFIG)
    return tmp_path, student


def test_a_run_predicts_with_the_plain_softmax_of_its_student(run):
    folder, student = run
    expected = student(torch.from_numpy(IMAGES).float() / 255).softmax(-1).detach().numpy()
    np.testing.assert_allclose(limbeck.load(folder).predict_proba(IMAGES), expected, rtol=1e-5)


def test_a_calibration_is_asked_for_and_belongs_to_the_weights(run):
    folder, student = run
    with pytest.raises(ConfigError, match=r"calibration.json: no such file. Make it with: limbeck calibrate"):
        limbeck.load(folder, calibrated=True)
    saved = {"logit_scale": 0.25, "student": fingerprint_of_model(student)}
    (folder / CALIBRATION).write_text(json.dumps(saved))
    assert limbeck.load(str(folder)).logit_scale == 1.0
    assert limbeck.load(folder, calibrated=True).logit_scale == 0.25
    (folder / CALIBRATION).write_text(json.dumps({**saved, "student": "0" * 32}))
    with pytest.raises(ConfigError, match="other weights"):
        limbeck.load(folder, calibrated=True)


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"no config\.yaml here"):
        limbeck.load(tmp_path)

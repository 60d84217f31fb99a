"""``limbeck calibrate`` and ``limbeck predict --calibrated``. What is fitted is tested in tests/inference."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from limbeck.errors import ConfigError
from limbeck.inference.calibration import check_task
from limbeck.tasks import task_named
from support.command_line import limbeck


def test_calibrate_and_predict(finished_run, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(finished_run.folder, run)
    Image.fromarray(np.full((8, 8), 90, np.uint8)).save(tmp_path / "grey.png")

    def probabilities(*options):
        status, out, err = limbeck(capsys, "predict", run, tmp_path / "grey.png", "--json", *options)
        return status, np.array(list(json.loads(out)["probabilities"].values())) if out else err

    assert probabilities("--calibrated")[0] == 2
    status, out, err = limbeck(capsys, "calibrate", run)
    assert status == 0, err
    scale = json.loads((run / "calibration.json").read_text())["logit_scale"]
    assert f"Logits times {scale:.3f}" in out
    assert "No decision changes with the scale" in out
    plain, scaled = probabilities()[1], probabilities("--calibrated")[1]
    powers = plain**scale
    np.testing.assert_allclose(scaled, powers / powers.sum(), rtol=1e-4)
    assert abs(scaled - plain).max() > 1e-3


def test_what_is_refused(tmp_path, capsys):
    status, _, err = limbeck(capsys, "calibrate", tmp_path)
    assert status == 2
    assert "no config.yaml here" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("task", "told"),
    [
        ("multi_label", "has a sigmoid for each class"),
        ("regression", "has no probabilities"),
        ("causal_lm", "which no scale changes"),
    ],
)
def test_tasks_without_such_probabilities(task, told):
    with pytest.raises(ConfigError, match=f"task: {task} .*{told}"):
        check_task(task_named(task))

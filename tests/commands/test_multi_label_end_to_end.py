"""Every command with several labels at once: images of two digits."""

import json

import pytest
from PIL import Image

from support.command_line import limbeck, run_limbeck
from support.runs import options
from support.two_digits import save_two_digits

CONFIG = """\
data: {name: DATA, labelled: 40}
teacher:
  model: mlp
  training: {max_steps: 80, per_device_train_batch_size: 32, learning_rate: 1e-2}
student: {model: mlp, settings: {hidden: [8]}}
distillation: {temperature: 2}
training: {max_steps: 10, per_device_train_batch_size: 16, learning_rate: 1e-2, save_strategy: "no", logging_steps: 5}
compare: {seeds: 1, temperatures: [2]}
search: {temperatures: [1, 2, 4], seeds: 1}
"""


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("several")
    save_two_digits(folder / "data")
    config = folder / "config.yaml"
    config.write_text(CONFIG.replace("DATA", str(folder / "data")))
    return config, folder / "run", run_limbeck("compare", config, "--out", folder / "run")


def test_compare(compared):
    _, run, printed = compared
    told = json.loads((run / "metrics.json").read_text())
    assert told["teacher"]["mean_average_precision"] > 0.8
    assert told["teacher"]["class_accuracy"] > told["teacher"]["accuracy"]
    alone = told["arms"]["labels alone"]
    assert set(alone) >= {
        "accuracy",
        "class_accuracy",
        "mean_average_precision",
        "nll",
        "agreement",
        "validation_accuracy",
    }
    for header in ("accuracy, %", "accuracy per class, %", "mAP, %", "NLL", "agreement, %"):
        assert header in printed
    assert "calibration error" not in printed
    assert "transfer set, teacher's hard labels" in told["arms"]
    assert "sets of labels that the soft target spreads over" in (run / "report.html").read_text()


def test_evaluate_and_predict(compared, tmp_path, capsys):
    _, run, _ = compared
    status, out, _ = limbeck(capsys, "evaluate", run)
    assert status == 0
    assert "mAP, %" in out
    Image.new("L", (16, 8)).save(tmp_path / "empty.png")
    status, out, _ = limbeck(capsys, "predict", run, tmp_path / "empty.png", "--json")
    assert status == 0
    told = json.loads(out)
    likely = [name for name, probability in told["probabilities"].items() if probability > 0.5]
    assert told["label"] == (", ".join(likely) or "none")
    assert list(told["probabilities"]) == ["zero", "one", "two", "three"]


def test_distill_from_a_store_and_search(compared, tmp_path, capsys):
    config, run, _ = compared
    teacher = options(f"teacher={{model: {run / 'teacher'}}}", f"out={tmp_path / 'run'}", "training.max_steps=4")
    assert limbeck(capsys, "cache", "build", config, "--out", tmp_path / "store", *teacher)[0] == 0
    cached = options(f"teacher={{cache: {tmp_path / 'store'}}}", "task=multi_label", "training.max_steps=4")
    status, _, err = limbeck(capsys, "distill", config, "--out", tmp_path / "distilled", *cached)
    assert status == 0, err
    assert json.loads((tmp_path / "distilled" / "student" / "inputs.json").read_text())["task"] == "multi_label"
    status, _, err = limbeck(capsys, "temperature", "search", config, "--out", tmp_path / "search", *teacher)
    assert status == 0, err


def test_what_does_not_fit_is_refused(compared, tmp_path, capsys):
    config, _, _ = compared
    out = options(f"out={tmp_path / 'run'}")
    status, _, err = limbeck(capsys, "distill", config, *out, *options("task=classification"))
    assert status == 2
    assert "task: classification, but the labels of the data are for multi_label" in err
    status, _, err = limbeck(capsys, "distill", config, *out, *options("task=tagging"))
    assert status == 2
    assert "should be auto, or one of classification, multi_label" in err
    status, _, err = limbeck(capsys, "temperature", "analyze", config, *out)
    assert status == 2
    assert "knows one class out of all" in err
    status, _, err = limbeck(
        capsys, "cache", "build", config, "--out", tmp_path / "store", *out, *options("cache={format: topk, k: 2}")
    )
    assert status == 2
    assert "cache.format: topk; dense serves all tasks) knows one class out of all" in err
    assert not (tmp_path / "store").exists()
    assert not (tmp_path / "run").exists()

"""Whole runs through the command line: distil, evaluate, predict, compare; interrupted, broken and in two processes."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

from limbeck.commands import cli
from limbeck.commands.distill import distill
from limbeck.config import load_config
from support.command_line import limbeck

CONFIG = """\
data: {name: digits, labelled: 100}
teacher:
  model: cnn
  settings: {width: 8}
  training: {max_steps: 60, per_device_train_batch_size: 64, learning_rate: 5e-3}
student:
  model: mlp
  settings: {hidden: [16]}
distillation: {temperature: 4, alpha: 0.9}
training: {max_steps: 60, per_device_train_batch_size: 64, learning_rate: 1e-2, save_steps: 10, logging_steps: 10}
compare: {seeds: 2, temperatures: [1, 4]}
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG)
    return path


def test_distil_evaluate_predict(config, tmp_path, capsys, monkeypatch):
    run = tmp_path / "run"
    status, out, _ = limbeck(capsys, "distill", config, "--out", run, "--set", "training.max_steps=120")
    assert status == 0
    assert re.search(r"^student +1,210", out, re.MULTILINE)
    present = {path.name for path in run.iterdir()}
    assert present == {"config.yaml", "teacher", "student", "checkpoints", "metrics.json", "report.html"}
    told = json.loads((run / "metrics.json").read_text())
    assert told["results"]["student"]["accuracy"] > 0.8
    assert any("gradient_ratio" in entry for entry in told["log"])
    page = (run / "report.html").read_text()
    assert page.count("<svg") == 2
    assert "<script" not in page
    assert not re.search(r"(src|href)=\"https?://", page)

    status, out, _ = limbeck(capsys, "evaluate", run)
    assert status == 0
    assert f"{100 * told['results']['student']['accuracy']:.1f}" in out

    from PIL import Image
    from sklearn.datasets import load_digits

    images = tmp_path / "images"
    images.mkdir()
    digits = load_digits().images[:5]
    for i, pixels in enumerate(digits):
        Image.fromarray((pixels * 255 / 16).round().astype("uint8")).save(images / f"{i}.png")
    status, out, _ = limbeck(capsys, "predict", run, images, "--json")
    predictions = [json.loads(line) for line in out.splitlines()]
    weights = load_file(run / "student" / "model.safetensors")
    plain = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 16), torch.nn.ReLU(), torch.nn.Linear(16, 10))
    plain.load_state_dict(weights)
    # plain softmax of the logits: no temperature anywhere
    expected = plain(torch.from_numpy(digits).float() / 16).softmax(-1)
    for prediction, row in zip(predictions, expected, strict=True):
        got = torch.tensor(list(prediction["probabilities"].values()))
        torch.testing.assert_close(got, row.detach(), rtol=0.05, atol=0.01)  # pixels of a PNG are bytes
        assert prediction["label"] == str(int(row.argmax()))
    # the student is fed as it was trained, without the data set
    monkeypatch.setattr("limbeck.data.splits.read_source", lambda *_: pytest.fail("read the data set"))
    status, out, _ = limbeck(capsys, "predict", run, images / "0.png")
    assert re.fullmatch(r"\S+0\.png\t\d\t\d \d\.\d{3}  \d \d\.\d{3}  \d \d\.\d{3}\n", out)


def test_nothing_that_a_run_keeps_for_inference_knows_the_temperature(config, tmp_path):
    students = []
    for t in (1.0, 7.25):
        folder = distill(load_config(config, [f"distillation.temperature={t}", f"out={tmp_path / str(t)}"]))
        students.append(folder / "student")
    for one, other in zip(*(sorted(s.iterdir()) for s in students), strict=True):
        assert one.name == other.name
        if one.suffix == ".json":
            assert one.read_bytes() == other.read_bytes()
            assert "temperature" not in one.read_text()
    names = [set(load_file(s / "model.safetensors")) for s in students]
    assert names[0] == names[1]
    assert not any("temp" in name for name in names[0])


def test_compare(config, tmp_path, capsys):
    run = tmp_path / "run"
    status, out, _ = limbeck(capsys, "compare", config, "--out", run, "--set", "training.max_steps=30")
    assert status == 0
    told = json.loads((run / "metrics.json").read_text())
    assert list(told["arms"]) == [
        "labels alone",
        "labels + soft targets, T = 1",
        "labels + soft targets, T = 4",
        "transfer set, teacher's hard labels",
        "transfer set, soft targets, T = 1",
        "transfer set, soft targets, T = 4",
    ]
    assert all(len(metrics["accuracy"]) == 2 for metrics in told["arms"].values())
    best = max(told["arms"], key=lambda arm: sum(told["arms"][arm]["validation_accuracy"]))
    assert told["best_on_validation"] == best
    for word in ("Softness:", "Temperature:", "Transfer set:", "Teacher:"):
        assert word in out
    assert (run / "table.png").stat().st_size > 5000
    status, out, _ = limbeck(capsys, "evaluate", run)
    assert f"{100 * told['arms'][best]['accuracy'][0]:.1f}" in out  # the first seed's student is kept


def test_an_interrupted_comparison_goes_on_where_it_was(config, tmp_path, monkeypatch, capsys):
    from limbeck.commands import compare as comparison

    settings = ["training.max_steps=5", f"out={tmp_path / 'run'}"]
    whole = comparison.compare(load_config(config, [*settings, f"out={tmp_path / 'whole'}"]))
    trained = []
    real = comparison.ArmTrainer.train_arm

    def interrupted(bench, arm, seed):
        if len(trained) == 4:
            raise KeyboardInterrupt
        trained.append((arm, seed))
        return real(bench, arm, seed)

    monkeypatch.setattr(comparison.ArmTrainer, "train_arm", interrupted)
    with pytest.raises(KeyboardInterrupt):
        comparison.compare(load_config(config, settings))
    with (tmp_path / "run" / "arms.jsonl").open("a") as file:
        file.write('{"arm": "labels')  # a line that the interruption cut short
    trained[:] = [None] * 4
    monkeypatch.setattr(comparison.ArmTrainer, "train_arm", lambda *a: trained.append(a[1:]) or real(*a))
    resumed = comparison.compare(load_config(config, settings), resume=True)
    assert len(trained) == 4 + 12 - 4
    again = comparison.compare(load_config(config, settings), resume=True)  # the cut line spoilt no other
    assert len(trained) == 4 + 12 - 4
    assert again.arms == resumed.arms
    for arm in whole.arms:
        assert resumed.arms[arm].metrics["accuracy"] == whole.arms[arm].metrics["accuracy"]


def test_the_demo_at_small_size(tmp_path, capsys):
    small = ["training.max_steps=20", "teacher.training.max_steps=40", "compare.seeds=1"]
    overrides = [word for setting in small for word in ("--set", setting)]
    status, out, _ = limbeck(capsys, "demo", "--out", tmp_path / "demo", *overrides)
    assert status == 0
    assert "Omitted class" in out
    assert {"config.yaml", "report.html", "table.png", "soft_targets.png", "student", "images"} <= {
        path.name for path in (tmp_path / "demo").iterdir()
    }
    status, out, _ = limbeck(capsys, "predict", tmp_path / "demo", tmp_path / "demo" / "images")
    assert len(out.splitlines()) == 10


def start(config, run, *more):
    command = [sys.executable, "-m", "limbeck", "distill", str(config), "--out", str(run), *more]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def test_killed_at_any_moment_and_resumed_gives_the_same_student(config, tmp_path):
    whole = tmp_path / "whole"
    assert start(config, whole).wait(timeout=120) == 0
    expected = (whole / "student" / "model.safetensors").read_bytes()
    # killed while the teacher trains, soon after the teacher appears, after a checkpoint, and late
    moments = ["config.yaml", "teacher/config.json", "checkpoints/checkpoint-10", "checkpoints/checkpoint-50"]
    run = tmp_path / "run"
    for moment in moments:
        process = start(config, run, "--resume") if (run / "config.yaml").exists() else start(config, run)
        while process.poll() is None and not (run / moment).exists():
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (run / "metrics.json").exists(), moment
    process = start(config, run, "--resume")
    assert process.wait(timeout=120) == 0
    assert (run / "student" / "model.safetensors").read_bytes() == expected
    # once more: a finished run resumes to itself
    assert start(config, run, "--resume").wait(timeout=120) == 0
    assert (run / "student" / "model.safetensors").read_bytes() == expected


def test_two_processes_leave_the_single_processs_student(config, tmp_path):
    # 128 examples fill every batch, so that accelerate need not repeat some; plain SGD has no memory of rounding
    shared = ["data.labelled=128", "data.transfer=labelled", "training.optim=sgd"]
    assert start(config, tmp_path / "teacher").wait(timeout=120) == 0
    shared += [f"teacher.model={tmp_path / 'teacher' / 'teacher'}", "teacher.training=null", "teacher.settings={}"]
    one, two = (
        [word for setting in (*shared, f"training.per_device_train_batch_size={rows}") for word in ("--set", setting)]
        for rows in (64, 32)
    )
    assert start(config, tmp_path / "one", *one).wait(timeout=120) == 0
    launch = "-m accelerate.commands.launch --multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no"
    command = [
        *(sys.executable, *launch.split(), "--dynamo_backend", "no", "--main_process_port", "0", "-m", "limbeck"),
        *("distill", str(config), "--out", str(tmp_path / "two"), *two),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    assert run.stdout.count("Test results") == 1  # rank 0 alone speaks
    first, second = (load_file(tmp_path / name / "student" / "model.safetensors") for name in ("one", "two"))
    for name in first:
        torch.testing.assert_close(second[name], first[name], rtol=1e-4, atol=1e-6)


class TestFaults:
    """What the user gave wrong ends in a line each and exit status 2, without a traceback."""

    def check(self, capsys, message, *arguments):
        status, _, err = limbeck(capsys, *arguments)
        assert status == 2
        assert re.search(message, err), err
        assert "Traceback" not in err
        assert len(err.splitlines()) == 1

    def test_config(self, capsys, config, tmp_path):
        self.check(capsys, r"absent\.yaml: cannot be read", "distill", tmp_path / "absent.yaml")
        self.check(capsys, "--set distillation.temprature=2 .*did you mean temperature", "distill", config,
                   "--set", "distillation.temprature=2")  # fmt: skip
        assert not (tmp_path / "runs").exists()

    def test_models_and_data(self, capsys, config, tmp_path):
        def distil(*overrides):
            words = [word for override in overrides for word in ("--set", override)]
            return "distill", config, "--out", tmp_path / "run" / str(abs(hash(overrides))), *words

        self.check(capsys, r"data\.labelled: cannot draw 5 of", *distil("data.labelled=5"))
        self.check(capsys, r"teacher\.model: cnn has no weights yet", *distil("teacher.training=null"))
        self.check(capsys, r"'mlp'.*heads", *distil("student.settings={heads: 3}"))
        self.check(capsys, r"data\.name: 'nothing/here'", *distil("data.name=nothing/here"))
        self.check(capsys, "training: .*load_best_model_at_end", *distil("training.load_best_model_at_end=true"))
        assert not (tmp_path / "run").exists()  # a fault leaves nothing behind

    def test_runs(self, capsys, config, tmp_path):
        run = tmp_path / "run"
        run.mkdir()
        self.check(capsys, r"no config\.yaml here", "evaluate", run)
        (run / "config.yaml").write_text(CONFIG)
        self.check(capsys, r"no student/ yet.*--resume", "predict", run, "x.png")
        self.check(capsys, r"holds a run already.*--resume", "distill", config, "--out", run)
        self.check(capsys, "begun with other settings of", "distill", config, "--out", run, "--resume", "--seed", "9")

    def test_debug_shows_the_traceback(self, capsys, tmp_path):
        from limbeck.errors import ConfigError

        with pytest.raises(ConfigError):
            cli.main(["distill", str(tmp_path / "absent.yaml"), "--debug"])


def test_predicting_what_is_not_there(config, tmp_path, capsys):
    run = tmp_path / "run"
    distill(load_config(config, ["training.max_steps=2", "teacher.training.max_steps=2", f"out={run}"]))
    status, _, err = limbeck(capsys, "predict", run, tmp_path / "absent.png")
    assert status == 2
    assert "no such file" in err
    (tmp_path / "empty").mkdir()
    status, _, err = limbeck(capsys, "predict", run, tmp_path / "empty")
    assert status == 2
    (run / "student" / "inputs.json").write_text("{}")
    status, _, err_of_inputs = limbeck(capsys, "predict", run, tmp_path / "empty")
    assert "inputs.json: cannot be read" in err_of_inputs
    assert status == 2
    assert "nothing to predict" in err

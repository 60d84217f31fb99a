"""``limbeck distill`` end to end: what it writes, interrupted, in two processes, and with faults."""

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

from limbeck.commands.distill import distill
from limbeck.config import load_config
from limbeck.interruption import Interrupted
from support.command_line import limbeck
from support.pages import Page
from support.processes import end_of, start
from support.runs import DISTILLATION, options


def test_a_run_folder_is_complete(finished_run):
    assert re.search(r"^student +1,210", finished_run.printed, re.MULTILINE)
    run = finished_run.folder
    present = {path.name for path in run.iterdir()}
    assert present == {"config.yaml", "teacher", "student", "checkpoints", "metrics.json", "report.html"}
    told = json.loads((run / "metrics.json").read_text())
    assert told["results"]["student"]["accuracy"] > 0.8
    assert any("gradient_ratio" in entry for entry in told["log"])
    page = (run / "report.html").read_text()
    assert told["findings"][0] == "400 test examples; 1 seed; 100 labels for training."
    assert told["findings"][1].startswith("Teacher: on the test set it is better than its student, by ")
    assert all(finding in page and finding in finished_run.printed for finding in told["findings"])
    shown = Page(run / "report.html")
    assert shown.headings == [
        "A distilled student", "Test results", "What the temperature does", "Soft targets", "Training",
        "Is its confidence honest?", "Each class", "Which classes are confused?", "Where student and teacher disagree",
        "Size and speed", "What ran",
    ]  # fmt: skip
    accuracy = told["results"]["student"]["accuracy"]
    error = 100 * (accuracy * (1 - accuracy) / 399) ** 0.5
    assert shown.tables[0][2][2] == f"{100 * accuracy:.1f} ± {error:.1f}"
    assert shown.paragraphs[0].startswith(
        f"The student reaches {100 * accuracy:.1f} % accuracy on the test set with 8.8 %"
    )
    facts = dict(shown.tables[-1])
    assert facts["data"].startswith("digits: 1,097 for training (100 labelled)")
    assert facts["objective"] == "T = 4, alpha = 0.9, forward_kl"
    assert facts["command"] == f"limbeck distill {finished_run.config} --out {run} --set training.max_steps=120"
    assert {"seed", "versions", "machine", "date", "duration"} <= set(facts)


def test_nothing_that_a_run_keeps_for_inference_knows_the_temperature(config, finished_run, tmp_path):
    students = []
    for t in (1.0, 7.25):
        settings = [f"distillation.temperature={t}", f"out={tmp_path / str(t)}", finished_run.teacher]
        folder = distill(load_config(config, settings))
        students.append(folder / "student")
    for one, other in zip(*(sorted(s.iterdir()) for s in students), strict=True):
        assert one.name == other.name
        if one.suffix == ".json":
            assert one.read_bytes() == other.read_bytes()
            assert "temperature" not in one.read_text()
    names = [set(load_file(s / "model.safetensors")) for s in students]
    assert names[0] == names[1]
    assert not any("temp" in name for name in names[0])


def test_a_finished_run_is_left_as_it_is(finished_run, capsys):
    run = finished_run.folder
    before = {path: path.read_bytes() for path in sorted(run.rglob("*")) if path.is_file()}
    more = options("training.max_steps=120")
    status, out, err = limbeck(capsys, "distill", finished_run.config, "--out", run, *more, "--resume")
    assert status == 0, err
    assert "student" in out
    assert {path: path.read_bytes() for path in sorted(run.rglob("*")) if path.is_file()} == before


def test_a_policy_in_a_config(searched_run, tmp_path, capsys):
    settings = options("distillation.temperature={policy: cosine, start: 6, end: 2}", searched_run.teacher)
    status, _, err = limbeck(capsys, "distill", searched_run.config, "--out", tmp_path / "run", *settings)
    assert status == 0, err
    assert load_config(tmp_path / "run" / "config.yaml").distillation.temperature == {
        "policy": "cosine",
        "start": 6,
        "end": 2,
    }


@pytest.mark.slow  # six processes start, one after the other
def test_ended_at_any_moment_and_resumed_gives_the_same_student(config, tmp_path):
    expected = (
        distill(load_config(config, [f"out={tmp_path / 'whole'}"])) / "student" / "model.safetensors"
    ).read_bytes()
    run, printed = tmp_path / "run", tmp_path / "printed"
    # while the teacher trains, soon after the teacher appears, after a checkpoint, and late
    moments = {
        "config.yaml": signal.SIGKILL,
        "teacher/config.json": signal.SIGKILL,
        "checkpoints/checkpoint-10": signal.SIGINT,
        "checkpoints/checkpoint-50": signal.SIGKILL,
    }
    for moment, number in moments.items():
        resume = ["--resume"] if (run / "config.yaml").exists() else []
        process = start(printed, "distill", config, "--out", run, *resume)
        while process.is_alive() and not (run / moment).exists():
            time.sleep(0.002)
        os.kill(process.pid, number)
        assert end_of(process) == (-signal.SIGKILL if number == signal.SIGKILL else 130)
        assert not (run / "metrics.json").exists(), moment
    told = re.search(r"step (\d+) of 60 is done and kept in (\S+)\. Go on with: (.*)", printed.read_text())
    assert told[2] == f"{run}/checkpoints/checkpoint-{told[1]}"
    assert told[3] == f"limbeck distill {config} --out {run} --resume"
    (run / "checkpoints" / "checkpoint-50" / "trainer_state.json").write_text("{")  # as if it were cut short
    assert end_of(start(printed, "distill", config, "--out", run, "--resume")) == 0
    assert "the training goes on from checkpoint-40; not whole: checkpoint-50: " in printed.read_text()
    assert (run / "student" / "model.safetensors").read_bytes() == expected


def test_a_training_that_was_ended_after_its_last_step_takes_no_other(config, tmp_path, monkeypatch):
    settings = load_config(config, [f"out={tmp_path / 'run'}", "training.max_steps=10"])

    def stop(*_, **__):
        raise Interrupted(signal.SIGINT)

    monkeypatch.setattr("limbeck.commands.distill.save_student", stop)
    with pytest.raises(Interrupted):
        distill(settings)
    monkeypatch.undo()
    weights = tmp_path / "run" / "checkpoints" / "checkpoint-10" / "model.safetensors"
    before = load_file(weights)
    distill(settings, resume=True)
    after = load_file(tmp_path / "run" / "student" / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.slow  # two processes start
def test_two_processes_leave_the_single_processs_student(config, finished_run, tmp_path):
    # 128 examples fill every batch, so that accelerate need not repeat some; plain SGD has no memory of rounding
    shared = ["data.labelled=128", "data.transfer=labelled", "training.optim=sgd", finished_run.teacher]
    one, two = ([*shared, f"training.per_device_train_batch_size={rows}"] for rows in (64, 32))
    distill(load_config(config, [*one, f"out={tmp_path / 'one'}"]))
    launch = "-m accelerate.commands.launch --multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no"
    command = [
        *(sys.executable, *launch.split(), "--dynamo_backend", "no", "--main_process_port", "0", "-m", "limbeck"),
        *("distill", str(config), "--out", str(tmp_path / "two"), *options(*two)),
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
            return "distill", config, "--out", tmp_path / "run" / str(abs(hash(overrides))), *options(*overrides)

        self.check(capsys, r"data\.labelled: cannot draw 5 of", *distil("data.labelled=5"))
        self.check(capsys, r"teacher\.model: cnn has no weights yet", *distil("teacher.training=null"))
        self.check(capsys, r"student\.settings\.heads: unknown argument", *distil("student.settings={heads: 3}"))
        self.check(capsys, r"data\.name: 'nothing/here'", *distil("data.name=nothing/here"))
        self.check(
            capsys, r"data\.name: no file no\.csv", *distil("data={name: no.csv, test: a.csv, validation: b.csv}")
        )
        self.check(capsys, r"training\.load_best_model_at_end: ", *distil("training.load_best_model_at_end=true"))
        assert not (tmp_path / "run").exists()  # a fault leaves nothing behind

    def test_runs(self, capsys, config, tmp_path):
        run = tmp_path / "run"
        run.mkdir()
        self.check(capsys, r"no config\.yaml here", "evaluate", run)
        (run / "config.yaml").write_text(DISTILLATION)
        self.check(capsys, r"no student/ yet.*--resume", "predict", run, "x.png")
        self.check(capsys, r"holds a run already.*--resume", "distill", config, "--out", run)
        status, out, err = limbeck(capsys, "distill", config, "--check", "--out", run)  # writes nothing, so it looks
        assert status == 0, err
        assert f"{run} holds a run already" in out + err
        missing = ("--out", tmp_path / "absent", "--resume")
        self.check(capsys, "out: .*absent holds no run to go on with. Leave out --resume", "distill", config, *missing)
        self.check(capsys, "out: .*c.*: .*config.yaml is not a folder", "compare", config, "--out", config / "run")
        self.check(capsys, "begun with other settings of", "distill", config, "--out", run, "--resume", "--seed", "9")


MODELS = """\
import pytest
import torch
from torch import nn


def wide():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 1000))


class Forest(nn.Module):
    \"\"\"Gives probabilities; the brightness of 10 pixels says nothing about the digit.\"\"\"

    def forward(self, pixel_values):
        pixels = pixel_values.flatten(1)[:, 20:30].clamp(max=1) + 1e-3
        return pixels / pixels.sum(-1, keepdim=True)


def forest():
    return Forest()
"""


class TestCheck:
    """``--check`` looks at a run and tells its plan; it trains and writes nothing."""

    @pytest.fixture(autouse=True)
    def _models(self, tmp_path, monkeypatch):
        (tmp_path / "own_models.py").write_text(MODELS)
        monkeypatch.syspath_prepend(tmp_path)

    def check(self, capsys, config, tmp_path, *overrides):
        result = limbeck(capsys, "distill", config, "--out", tmp_path / "run", "--check", *options(*overrides))
        assert not (tmp_path / "run").exists()
        return result

    def test_the_plan(self, capsys, config, tmp_path):
        status, out, err = self.check(capsys, config, tmp_path)
        assert (status, err) == (0, "")
        told = dict(line.split(maxsplit=1) for line in out.splitlines() if line)
        assert told.pop("data") == (
            "digits: 1,097 for training (100 labelled), 300 for validation, 400 for testing; images of 1 x 8 x 8, 10 classes"
        )
        assert told.pop("teacher") == "cnn, 13,810 parameters, trained first: 60 steps of 64 examples"
        assert told.pop("student") == "mlp, 1,210 parameters"
        assert told.pop("objective") == "T = 4, alpha = 0.9, forward_kl"
        assert told.pop("training") == "60 steps of 64 examples"
        shown = r"about \d+ s on cpu: 60 steps of the teacher at [\d.]+ ms and 60 steps of the student at [\d.]+ ms, estimated"
        assert re.match(shown, told.pop("time"))
        assert re.match(r"[\d,]+ MB held by the process", told.pop("memory"))
        assert told == {}

    def test_every_fault_with_its_line(self, capsys, config, tmp_path):
        text = config.read_text().replace("model: mlp\n  settings: {hidden: [16]}", "model: own_models:wide")
        config.write_text(text.replace("model: cnn\n  settings: {width: 8}", "model: own_models:forest"))
        line = {key: number for number, key in enumerate(config.read_text().splitlines(), 1)}
        for command in (("distill", "--check"), ("distill",), ("temperature", "analyze"), ("cache", "build")):
            arguments = [*command, config, *options(f"out={tmp_path / 'run'}", "teacher.training=null")]
            if command[0] == "cache":
                arguments += ["--out", tmp_path / "run" / "store"]
            status, _, err = limbeck(capsys, *arguments)
            assert status == 2
            student, teacher = err.splitlines()
            where = line["  model: own_models:wide"]
            assert student.startswith(f"{config}:{where}  student.model: has 1000 output columns, and the data has 10")
            assert f"{config}:{line['  model: own_models:forest']}  teacher.model: every row" in teacher
            assert not (tmp_path / "run").exists(), command

    def test_a_teacher_of_probabilities_that_knows_nothing(self, capsys, config, tmp_path):
        teacher = "teacher={model: own_models:forest, outputs: probabilities}"
        status, out, _ = self.check(capsys, config, tmp_path, teacher)
        assert status == 0
        assert re.search(r"^teacher +own_models:forest, right on [\d.]+ % of 256 labelled", out, re.MULTILINE)
        assert re.search(r"^Warning: The teacher is right on .*(nothing|little) to (teach|learn)", out, re.MULTILINE)
        status, _, err = self.check(capsys, config, tmp_path, teacher.replace("forest", "wide"))
        assert status == 2
        assert "teacher.model: " in err

    def test_a_temperature_that_is_searched(self, capsys, config, tmp_path):
        status, out, _ = self.check(capsys, config, tmp_path, "distillation.temperature=auto")
        assert status == 0
        assert "the temperature is searched first (12 trainings)" in out

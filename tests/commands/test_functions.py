"""A run folder may come from somebody else: the commands that read one call no function that the user has not named."""

import sys

import pytest
import torch
from PIL import Image

from support.command_line import limbeck

CONFIG = """
data: {{name: digits, labelled: 100}}
teacher: {{model: "theirs:net", training: {{max_steps: 2}}}}
student: {{model: "theirs:net", settings: {{hidden: 8}}}}
training: {{max_steps: 2}}
out: {out}
"""
NET = """
from torch import nn

def net(classes, image, hidden=16):
    print("theirs was called")
    return nn.Sequential(nn.Flatten(), nn.Linear(image[1] * image[2], hidden), nn.Tanh(), nn.Linear(hidden, classes))
"""


def test_evaluate_and_predict_call_only_what_is_named(tmp_path, monkeypatch, capsys):
    (tmp_path / "theirs.py").write_text(NET)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "theirs", raising=False)
    (tmp_path / "c.yaml").write_text(CONFIG.format(out=tmp_path / "run"))
    status, out, err = limbeck(capsys, "distill", tmp_path / "c.yaml")  # the user's own config names it
    assert (status, "theirs was called" in out) == (0, True), err
    Image.fromarray(torch.zeros(8, 8, dtype=torch.uint8).numpy()).save(tmp_path / "black.png")
    for command in (("evaluate", tmp_path / "run"), ("predict", tmp_path / "run", tmp_path / "black.png")):
        status, out, err = limbeck(capsys, *command)
        assert (status, "theirs was called" in out) == (2, False)
        assert "--function theirs:net" in err
        status, out, err = limbeck(capsys, *command, "--function", "theirs:net")
        assert (status, "theirs was called" in out) == (0, True), err


@pytest.mark.parametrize(
    ("teacher", "option"),
    [
        ('{model: "os:system", settings: {command: "exit 1"}}', "--function os:system"),
        ("{model: T, function: x:y}", "--function x:y"),
        ("{sklearn: t.skops, trusted: [a.Type]}", "--trusted a.Type"),
    ],
)
def test_a_runs_config_does_not_choose_what_the_teacher_runs(teacher, option, tmp_path, capsys):
    run = tmp_path / "run"
    (run / "student").mkdir(parents=True)
    (run / "student" / "inputs.json").write_text("{}")
    (run / "config.yaml").write_text(f"data: {{name: digits}}\nteacher: {teacher}\nstudent: {{model: mlp}}\n")
    status, _, err = limbeck(capsys, "evaluate", run)
    assert status == 2
    assert f"If you trust it: {option}\n" in err

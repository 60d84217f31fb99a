"""``limbeck export``: exit statuses and messages. What it does is tested in tests/export."""

import json

import pytest

from support.command_line import limbeck
from support.untrained import write_run


def test_a_student_that_is_written(tmp_path, capsys):
    write_run(tmp_path)
    status, out, err = limbeck(capsys, "export", tmp_path, "--format", "safetensors", "--out", tmp_path / "out")
    assert status == 0, err
    assert "128 test examples" in out
    assert "nothing: the logits are the student's own" in out
    assert json.loads((tmp_path / "out" / "export.json").read_text())["scales"] == []


def test_a_student_that_is_not(tmp_path, capsys):
    name = "support.untrained:softened"
    write_run(tmp_path, name)
    status, out, err = limbeck(capsys, "export", tmp_path, "--format", "safetensors", "--function", name)
    assert status == 1
    assert not out
    assert err.count("\n") == 1
    assert "a division by 4 after the head" in err
    assert not (tmp_path / "export").exists()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--format", "pickle"], "format: "),
        (["--format", "safetensors", "--int8"], "int8: is for onnx; safetensors has no weights of 8 bits here"),
    ],
)
def test_what_is_refused(tmp_path, capsys, options, told):
    write_run(tmp_path)
    status, _, err = limbeck(capsys, "export", tmp_path, *options)
    assert status == 2
    assert told in err
    assert err.count("\n") == 1

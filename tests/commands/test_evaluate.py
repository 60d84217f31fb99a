"""``limbeck evaluate`` measures again what a run measured."""

import json

import pytest

from limbeck.commands.evaluate import evaluate
from support.command_line import limbeck


def test_the_student_of_a_run_is_measured_again(finished_run, capsys):
    told = json.loads((finished_run.folder / "metrics.json").read_text())
    status, out, _ = limbeck(capsys, "evaluate", finished_run.folder)
    assert status == 0
    assert f"{100 * told['results']['student']['accuracy']:.1f}" in out


def test_the_teacher_stands_beside_it_as_in_the_run(finished_run):
    told = json.loads((finished_run.folder / "metrics.json").read_text())["results"]
    measured = evaluate(finished_run.folder)
    assert list(measured) == ["teacher", "student"]
    for name, metrics in measured.items():
        for metric in {"parameters", "accuracy", "nll", "calibration_error"}:
            assert metrics[metric] == pytest.approx(told[name][metric]), (name, metric)
    assert measured["student"]["agreement"] == pytest.approx(told["student"]["agreement"])

"""``limbeck compare`` end to end: every arm with every seed, interrupted, and with temperatures of its own."""

import json

import pytest

from limbeck.commands.compare import ArmTrainer, compare
from limbeck.config import load_config
from support.command_line import limbeck
from support.runs import options


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


def test_an_interrupted_comparison_goes_on_where_it_was(config, tmp_path, monkeypatch):
    settings = ["training.max_steps=5", f"out={tmp_path / 'run'}"]
    whole = compare(load_config(config, [*settings, f"out={tmp_path / 'whole'}"]))
    trained = []
    real = ArmTrainer.train_arm

    def interrupted(trainer, arm, seed):
        if len(trained) == 4:
            raise KeyboardInterrupt
        trained.append((arm, seed))
        return real(trainer, arm, seed)

    monkeypatch.setattr(ArmTrainer, "train_arm", interrupted)
    with pytest.raises(KeyboardInterrupt):
        compare(load_config(config, settings))
    with (tmp_path / "run" / "arms.jsonl").open("a") as file:
        file.write('{"arm": "labels')  # a line that the interruption cut short
    trained[:] = [None] * 4
    monkeypatch.setattr(ArmTrainer, "train_arm", lambda *a: trained.append(a[1:]) or real(*a))
    resumed = compare(load_config(config, settings), resume=True)
    assert len(trained) == 4 + 12 - 4
    again = compare(load_config(config, settings), resume=True)  # the cut line spoilt no other
    assert len(trained) == 4 + 12 - 4
    assert again.arms == resumed.arms
    for arm in whole.arms:
        assert resumed.arms[arm].metrics["accuracy"] == whole.arms[arm].metrics["accuracy"]


def test_comparing_has_temperatures_of_its_own(searched_run, tmp_path, capsys):
    settings = options(searched_run.teacher, "compare={seeds: 1, temperatures: [2]}", "data.transfer=labelled")
    assert limbeck(capsys, "compare", searched_run.config, "--out", tmp_path / "run", *settings)[0] == 0
    told = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert list(told["arms"]) == ["labels alone", "labels + soft targets, T = 2"]

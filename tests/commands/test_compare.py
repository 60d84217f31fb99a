"""``limbeck compare`` end to end: every arm with every seed, interrupted, and with temperatures of its own."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from limbeck.commands.compare import ArmTrainer, compare
from limbeck.config import load_config
from limbeck.data import load_splits
from limbeck.run.training import build_seeded_model
from support.command_line import limbeck
from support.pages import Page
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
    for word in ("Softness:", "Temperature:", "Transfer set:", "Teacher: on the test set it is", "paired"):
        assert word in out
    assert "400 test examples; 2 seeds; 100 labels for training. ± is a standard error over seeds and test" in out
    assert (told["test_examples"], told["labels"], told["seeds"]) == (400, 100, [0, 1])
    assert (run / "table.png").stat().st_size > 5000
    page = Page(run / "report.html")
    assert page.paragraphs[0] == told["headline"]
    assert told["headline"] in out
    assert "of the gap between labels alone" in told["headline"] or "no clear gap" in told["headline"]
    assert {"Training", "Each class", "Size and speed", "What ran"} <= set(page.headings)
    assert page.tables[2][0][2:] == ["teacher, %", "labels alone, %", "student, %", "student over labels alone, points"]
    assert dict(page.tables[-1])["objective"] == "T = 1 or 4, alpha = 0.9, forward_kl"
    status, out, _ = limbeck(capsys, "evaluate", run)
    assert f"{100 * told['arms'][best]['accuracy'][0]:.1f}" in out  # the first seed's student is kept


def test_an_interrupted_comparison_goes_on_where_it_was(config, tmp_path, monkeypatch):
    settings = ["training.max_steps=5", "data.transfer=labelled", f"out={tmp_path / 'run'}"]
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
    assert len(trained) == 4 + 6 - 4
    again = compare(load_config(config, settings), resume=True)  # the cut line spoilt no other
    assert len(trained) == 4 + 6 - 4
    assert again.arms == resumed.arms
    for arm in whole.arms:
        np.testing.assert_array_equal(again.arms[arm].by_example["accuracy"], whole.arms[arm].by_example["accuracy"])
        assert resumed.arms[arm].metrics["accuracy"] == whole.arms[arm].metrics["accuracy"]


@pytest.mark.parametrize("transfer", ["all", "labelled"])
@pytest.mark.parametrize("labelled", [0.1, 100])
def test_each_seed_draws_its_labels_once_from_all(config, tmp_path, transfer, labelled):
    settings = load_config(config, [f"data.labelled={labelled}", f"data.transfer={transfer}"])
    splits = load_splits(settings.data, seed=settings.seed)
    trainer = ArmTrainer(settings, splits, build_seeded_model(settings.teacher, splits, 0), tmp_path)
    drawn = [trainer.splits_of(seed) for seed in (0, 1, 0)]
    ids = [set(s.train.ids[s.labelled].tolist()) for s in drawn]
    assert len(ids[0]) == len(ids[1]) == (round(0.1 * 1097) if labelled == 0.1 else 100)
    assert ids[0] != ids[1]
    assert ids[0] == ids[2] == set(splits.train.ids[splits.labelled].tolist())  # the first seed's are the run's own
    assert all((len(s.train) == len(i)) == (transfer == "labelled") for s, i in zip(drawn, ids, strict=True))
    assert len(trainer.arms) == (6 if transfer == "all" else 3)


def test_temperatures_of_its_own_and_a_test_set_without_labels(searched_run, tmp_path, capsys, monkeypatch):
    def unlabelled(*args, **kwargs):
        splits = load_splits(*args, **kwargs)
        test = splits.test.with_labels(torch.full_like(splits.test.labels, -100))
        return dataclasses.replace(splits, test=test)

    monkeypatch.setattr("limbeck.run.inputs.load_splits", unlabelled)
    settings = options(searched_run.teacher, "compare={seeds: 2, temperatures: [2]}", "data.transfer=labelled")
    status, out, err = limbeck(capsys, "compare", searched_run.config, "--out", tmp_path / "run", *settings)
    assert status == 0, err
    told = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert list(told["arms"]) == ["labels alone", "labels + soft targets, T = 2"]
    assert all("accuracy" not in arm and len(arm["agreement"]) == 2 for arm in told["arms"].values())
    assert "400 test examples without labels, where students are compared by their agreement with the teacher" in out
    assert "on the labelled examples, soft targets (T = 2) over labels alone: " in out
    assert "Teacher: on the test set" not in out

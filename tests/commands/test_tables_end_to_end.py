"""Every command with a table: scikit-learn's wines, with a category and empty cells."""

import json
import shutil

import pytest
import torch

from limbeck.data import Preprocessing
from limbeck.models import forward_logits, load_model
from support.command_line import limbeck, run_limbeck
from support.runs import options
from support.tables import wine, write_wine

CONFIG = """\
data: {name: DATA, labelled: 30, unlabelled: MORE}
teacher:
  {model: mlp, settings: {hidden: [16]}, training: {max_steps: 40, per_device_train_batch_size: 32, learning_rate: 1e-2}}
student: {model: mlp, settings: {hidden: [4]}}
distillation: {temperature: 2}
training: {max_steps: 10, per_device_train_batch_size: 32, learning_rate: 1e-2, save_strategy: "no"}
compare: {seeds: 1, temperatures: [2]}
search: {temperatures: [1, 2, 4], seeds: 1}
"""


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    config = folder / "config.yaml"
    wine()[:20].assign(alcohol=13.0).drop(columns="target").to_csv(folder / "more.csv", index=False)
    text = CONFIG.replace("DATA", str(write_wine(folder / "wine.csv"))).replace("MORE", str(folder / "more.csv"))
    config.write_text(text)
    return config, folder / "run", run_limbeck("compare", config, "--out", folder / "run")


def test_compare_and_evaluate(compared, capsys):
    _, run, printed = compared
    assert "162 for training (30 labelled)" in printed
    assert "rows of 12 numbers and 1 categories, 3 classes" in printed
    told = json.loads((run / "metrics.json").read_text())
    assert told["teacher"]["accuracy"] > 0.85
    assert "transfer set, teacher's hard labels" in told["arms"]
    status, out, err = limbeck(capsys, "evaluate", run)
    assert status == 0, err
    assert f"{100 * told['teacher']['accuracy']:.1f}" in out


def test_evaluate_refuses_rows_of_another_spread(compared, tmp_path, capsys):
    _, run, _ = compared
    shutil.copytree(run, tmp_path / "run")
    wine().assign(ash=1.5).to_csv(tmp_path / "other.csv", index=False)
    config = (run / "config.yaml").read_text()
    (tmp_path / "run" / "config.yaml").write_text(
        config.replace(str(run.parent / "wine.csv"), str(tmp_path / "other.csv"))
    )
    status, _, err = limbeck(capsys, "evaluate", tmp_path / "run")
    assert status == 2
    assert "data.name: the mean or standard deviation of column 'ash' is not that of the model's training" in err


def test_predict_takes_raw_rows(compared, tmp_path, capsys, monkeypatch):
    _, run, _ = compared
    monkeypatch.setattr("limbeck.data.splits.read_source", lambda *_: pytest.fail("read the data set"))
    frame = wine()[:20]
    turned = frame.assign(id=range(20)).drop(columns="target")[["id", "shade", *list(frame)[-3::-1]]]
    turned.to_json(tmp_path / "new.jsonl", orient="records", lines=True)
    frame.to_csv(tmp_path / "new.csv", index=False)
    frame.to_parquet(tmp_path / "new.parquet")
    model, read = load_model(run / "student"), Preprocessing.load(run / "student")
    expected = forward_logits(model, read(frame.to_dict("records"))).softmax(-1)
    for suffix in ("csv", "jsonl", "parquet"):
        status, out, err = limbeck(capsys, "predict", run, tmp_path / f"new.{suffix}", "--json")
        assert status == 0, err
        told = [json.loads(line) for line in out.splitlines()]
        got = torch.tensor([list(row["probabilities"].values()) for row in told])
        torch.testing.assert_close(got, expected.detach(), rtol=1e-4, atol=1e-5)
        assert told[3]["input"].endswith(f"new.{suffix}, row 3")
        assert told[3]["columns"] == ({"id": 3} if suffix == "jsonl" else {"target": frame["target"][3]})
    status, out, _ = limbeck(capsys, "predict", run, tmp_path, "--json")
    assert (status, len(out.splitlines())) == (0, 60)


def test_predict_says_what_is_wrong_with_rows(compared, tmp_path, capsys):
    _, run, _ = compared
    frame = wine()[:5].astype({"ash": object})
    frame.loc[2, "ash"] = "much"
    frame.to_csv(tmp_path / "text.csv", index=False)
    status, out, err = limbeck(capsys, "predict", run, tmp_path / "text.csv")
    assert (status, len(out.splitlines())) == (1, 4)
    assert "text.csv, row 2: column 'ash' holds 'much'. Numbers are expected" in err
    wine().drop(columns="ash").to_csv(tmp_path / "less.csv", index=False)
    for given, message in (
        (tmp_path / "less.csv", "less.csv: no column 'ash'"),
        ("-", "-: no such file. The student reads rows"),
        ("red wine", "red wine: no such file. The student reads rows"),
    ):
        status, _, err = limbeck(capsys, "predict", run, given)
        assert status == 2
        assert message in err
    status, _, err = limbeck(capsys, "predict", run, tmp_path / "less.csv", "--column", "ash")
    assert status == 2
    assert err.startswith("--column: has no effect, the student reads the columns ")


def test_distill_from_a_store_and_search(compared, tmp_path, capsys):
    config, run, _ = compared
    teacher = options(f"teacher={{model: {run / 'teacher'}}}", "training.max_steps=4")
    assert limbeck(capsys, "cache", "build", config, "--out", tmp_path / "store", *teacher)[0] == 0
    cached = options(f"teacher={{cache: {tmp_path / 'store'}}}", "training.max_steps=4")
    status, _, err = limbeck(capsys, "distill", config, "--out", tmp_path / "distilled", *cached)
    assert status == 0, err
    status, _, err = limbeck(capsys, "temperature", "search", config, "--out", tmp_path / "search", *teacher)
    assert status == 0, err


def test_a_teacher_of_other_rows_is_refused(compared, tmp_path, capsys):
    config, run, _ = compared
    teacher = options(f"teacher={{model: {run / 'teacher'}}}")
    status, _, err = limbeck(
        capsys, "distill", config, "--out", tmp_path / "a", *teacher, *options("data.exclude=[ash]")
    )
    assert status == 2
    assert "data.columns: the model was trained on the numbers alcohol, malic_acid, ash," in err
    wine()[:100].to_csv(tmp_path / "less.csv", index=False)
    less = options(f"data.name={tmp_path / 'less.csv'}")
    status, _, err = limbeck(capsys, "distill", config, "--out", tmp_path / "a", *teacher, *less)
    assert status == 2
    assert "data.name: the mean or standard deviation of column 'alcohol' is not that of the model's training" in err
    images = options("student.model=cnn")
    status, _, err = limbeck(capsys, "distill", config, "--out", tmp_path / "a", *teacher, *images)
    assert status == 2
    assert "model 'cnn' takes images, but the data are a table. Name mlp" in err

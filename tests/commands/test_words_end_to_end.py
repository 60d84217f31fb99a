"""Every command with a tag for each word."""

import json

import pytest
import torch
from safetensors.torch import load_file

from limbeck.config import load_config
from limbeck.data import load_splits
from limbeck.models import load_model
from support.command_line import limbeck, run_limbeck
from support.runs import options
from support.tagged import rows, write_rows, write_tagger

CONFIG = """\
data: {name: DATA/train.jsonl, validation: DATA/validation.jsonl, test: DATA/test.jsonl, tokenizer: DATA/large, labelled: 8}
teacher:
  model: DATA/large
  from_scratch: true
  training: {max_steps: 30, per_device_train_batch_size: 16, learning_rate: 1e-2}
student: {model: DATA/small, from_scratch: true}
distillation: {temperature: 2}
training: {max_steps: 4, per_device_train_batch_size: 8, learning_rate: 1e-2, save_strategy: "no", logging_steps: 2}
compare: {seeds: 2, temperatures: [2]}
"""


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("words")
    for seed, (split, count) in enumerate({"train": 40, "validation": 8, "test": 12}.items()):
        write_rows(folder / f"{split}.jsonl", rows(count, seed))
    write_tagger(folder / "large", 16)
    write_tagger(folder / "small", 8)
    config = folder / "config.yaml"
    config.write_text(CONFIG.replace("DATA", str(folder)))
    return config, folder / "run", run_limbeck("compare", config, "--out", folder / "run")


def test_compare(compared):
    _, run, printed = compared
    told = json.loads((run / "metrics.json").read_text())
    assert told["teacher"]["accuracy"] > 0.9
    assert set(told["arms"]["labels alone"]) >= {"accuracy", "nll", "agreement", "validation_accuracy"}
    assert "transfer set, teacher's hard labels" in told["arms"]
    assert told["errors"]["labels alone"] > 0
    assert "calibration error" not in printed
    assert (run / "report.html").is_file()


def test_evaluate_tells_what_a_loop_by_hand_finds(compared, capsys):
    _, run, _ = compared
    status, out, err = limbeck(capsys, "evaluate", run)
    assert status == 0, err
    splits = load_splits(load_config(run / "config.yaml").data)
    student = load_model(run / "student")
    assert type(student).__name__ == "BertForTokenClassification"
    right = words = 0
    for i in range(len(splits.test)):
        batch = splits.test.__getitems__([i])
        labels = batch.pop("labels")
        decided = student(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.argmax(-1)
        right += int((decided == labels)[labels != -100].sum())
        words += int((labels != -100).sum())
    row = next(line for line in out.splitlines() if line.startswith("student")).split()
    assert f"{100 * right / words:.1f}" in row


def test_predict(compared, tmp_path, capsys):
    _, run, _ = compared
    status, out, err = limbeck(capsys, "predict", run, "ada saw rome")
    assert status == 0, err
    told = out.rstrip("\n").split("\t")[1].split()
    assert [pair.split("/")[0] for pair in told] == ["ada", "saw", "rome"]
    write_rows(tmp_path / "new.jsonl", [{"tokens": ["ada", "saw", "rome"], "id": 7}])
    status, out, err = limbeck(capsys, "predict", run, tmp_path / "new.jsonl", "--json")
    assert status == 0, err
    prediction = json.loads(out)
    assert prediction["columns"] == {"id": 7}
    assert [f"{word}/{tag}" for word, tag, _ in prediction["tags"]] == told


def test_distill_with_a_trained_teacher_and_what_is_refused(compared, tmp_path, capsys):
    config, run, _ = compared
    teacher = options(f"teacher={{model: {run / 'teacher'}}}", f"out={tmp_path / 'run'}")
    assert limbeck(capsys, "distill", config, "--check", *teacher)[0] == 0
    status, _, err = limbeck(capsys, "predict", run, "ada", "--out", tmp_path / "masks")
    assert status == 2
    assert "--out: takes masks" in err


def test_a_student_from_the_store_is_the_live_teachers_student(compared, tmp_path):
    config, run, _ = compared
    store, teacher = tmp_path / "store", f"teacher={{model: {run / 'teacher'}}}"
    assert "bytes / token" in run_limbeck(
        "cache", "build", config, "--out", store, *options(teacher, "cache.format=hidden", "cache.dtype=float32")
    )
    for name, source in (("live", teacher), ("stored", f"teacher={{cache: {store}}}")):
        run_limbeck("distill", config, "--out", tmp_path / name, *options(source))
    stored, live = (load_file(tmp_path / name / "student" / "model.safetensors") for name in ("stored", "live"))
    for name, tensor in stored.items():
        torch.testing.assert_close(tensor, live[name], rtol=1e-3, atol=1e-5)
    run_limbeck(
        "temperature", "analyze", config, "--out", tmp_path / "analysis", *options(f"teacher={{cache: {store}}}")
    )
    words = sum(len(row["tags"]) for row in rows(40, 0))
    assert json.loads((tmp_path / "analysis" / "analysis.json").read_text())["examples"] == words

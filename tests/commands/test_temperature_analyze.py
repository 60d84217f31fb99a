"""``limbeck temperature analyze`` end to end, on real digits."""

import json

import pytest
import torch

from limbeck.commands.temperature_analyze import describe_calibration
from limbeck.temperature.calibration import calibrate
from support.command_line import limbeck
from support.runs import options

ANALYZE = ("temperature", "analyze")


def read(path):
    return json.loads(path.read_text())


def test_a_teacher_and_its_augmented_views(searched_run, tmp_path, capsys):
    augmented = f"teacher={{model: {searched_run.folder / 'teacher'}, augmentation: {{shift: 1}}}}"
    where = ("--out", tmp_path, "--student", searched_run.folder)
    status, out, err = limbeck(capsys, *ANALYZE, searched_run.config, *where, *options(augmented))
    assert status == 0, err
    found = read(tmp_path / "analysis.json")
    effective = [row["effective_classes"] for row in found["softness"]]
    assert effective == sorted(effective)
    assert 1 <= effective[0] < 3 < effective[-1] < 10
    assert found["view_kind"] == "augmented views"
    assert [rank["rank"] for rank in found["ranks"]] == list(range(1, 10))
    assert all(rank["spread"] > 0 for rank in found["ranks"])
    assert found["calibration"]["temperature"] > 0
    assert "is not the temperature of distillation" in out
    assert (tmp_path / "report.html").read_text().count("<svg") == 4


def test_no_temperature_is_told_where_the_labels_determine_none():
    labels = torch.arange(40) % 4
    logits = torch.nn.functional.one_hot(labels, 4).double()
    perfect, logits[0, 0] = calibrate(logits, labels), -9.0
    told = describe_calibration(perfect)
    assert perfect.remark in told
    assert "would make it honest" not in told
    assert "would make it honest" in describe_calibration(calibrate(logits, labels))


def test_a_student_that_is_no_run(searched_run, tmp_path, capsys):
    where = ("--student", tmp_path, "--out", tmp_path / "a")
    status, _, err = limbeck(capsys, *ANALYZE, searched_run.config, *where)
    assert status == 2
    assert err.startswith(f"{tmp_path}: no config.yaml here")
    assert not (tmp_path / "a").exists()


def test_dropout_passes_where_there_is_no_augmentation(searched_run, tmp_path, capsys):
    status, _, err = limbeck(capsys, *ANALYZE, searched_run.config, "--out", tmp_path, *options(searched_run.teacher))
    assert status == 0, err
    assert read(tmp_path / "analysis.json")["view_kind"] == "dropout passes"


@pytest.mark.parametrize(("views", "kind", "ranks"), [(1, "", 0), (3, "the store's views", 9)])
def test_the_views_of_a_store(searched_run, tmp_path, capsys, views, kind, ranks):
    store = tmp_path / "store"
    shared = ["distillation.temperature=1"] + (["data.augmentation={shift: 1}"] if views > 1 else [])
    build = options(searched_run.teacher, f"cache.views={views}", *shared)
    assert limbeck(capsys, "cache", "build", searched_run.config, "--out", store, *build)[0] == 0
    settings = options(f"teacher={{cache: {store}}}", *shared)
    assert limbeck(capsys, *ANALYZE, searched_run.config, "--out", tmp_path / "a", *settings)[0] == 0
    found = read(tmp_path / "a" / "analysis.json")
    assert len(found["ranks"]) == ranks
    assert not ranks or found["view_kind"] == kind

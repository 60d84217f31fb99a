"""Opening a run finds every fault before anything is written or trained."""

import pytest
from torch import nn

from limbeck.config import config_from, load_config
from limbeck.data import load_splits
from limbeck.errors import ConfigError
from limbeck.models import save_model
from limbeck.run import opening
from limbeck.run.opening import open_run
from limbeck.run.training import build_seeded_model
from limbeck.store import Dense, StoredTeacher, build_store
from support.two_digits import save_two_digits

VALUES = {
    "data": {"name": "digits", "labelled": 100},
    "teacher": {"model": "cnn", "settings": {"width": 4}, "training": {"max_steps": 1}},
    "student": {"model": "mlp", "settings": {"hidden": [4]}},
    "training": {"max_steps": 1},
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with an untrained teacher's weights, and the store of its logits."""
    folder = tmp_path_factory.mktemp("saved")
    config = config_from(VALUES)
    splits = load_splits(config.data, seed=0)
    teacher = build_seeded_model(config.teacher, splits, 0)
    save_model(teacher, folder / "teacher", config.teacher, splits.shape)
    build_store(teacher, splits.train, folder / "store", Dense("float32"))
    return folder


def test_a_teacher_that_is_to_be_trained(tmp_path):
    config = config_from(VALUES)
    opened = open_run(config, tmp_path / "run")
    assert opened.teacher is None
    assert int(opened.splits.labelled.sum()) == 100
    assert load_config(tmp_path / "run" / "config.yaml") == config
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["config.yaml"]  # nothing was trained


def test_the_first_values_of_a_teacher_that_is_to_be_trained_say_nothing(tmp_path, monkeypatch):
    """Its small logits may look like the probabilities of several labels."""
    save_two_digits(tmp_path / "data")

    def build(config, splits, seed):
        model = build_seeded_model(config, splits, seed)
        return nn.Sequential(model, nn.Sigmoid()) if config.model == "resnet" else model

    monkeypatch.setattr(opening, "build_seeded_model", build)
    teacher = {"model": "resnet", "training": {"max_steps": 1}}
    values = {**VALUES, "data": {"name": str(tmp_path / "data")}, "teacher": teacher}
    assert open_run(config_from(values), tmp_path / "run").teacher is None


def test_a_teacher_that_is_there(saved, tmp_path):
    values = {**VALUES, "teacher": {"model": str(saved / "teacher")}}
    teacher = open_run(config_from(values), tmp_path).teacher
    assert isinstance(teacher, nn.Module)
    assert not teacher.training
    values = {**VALUES, "teacher": {"cache": str(saved / "store")}}
    assert isinstance(open_run(config_from(values), tmp_path / "stored").teacher, StoredTeacher)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": {"name": "digits", "labelled": 5}}, r"data\.labelled"),
        ({"student": {"model": "mlp", "settings": {"heads": 3}}}, r"student\.settings\.heads: "),
        ({"training": {"load_best_model_at_end": True}}, r"training\.load_best_model_at_end: "),
        ({"teacher": {"model": "cnn", "settings": {"hight": 3}, "training": {}}}, r"teacher\.settings\.hight: "),
        ({"teacher": {"model": "cnn", "training": {"max_steps": 1, "optim": "adamw_apex_fused"}}}, "apex"),
        ({"teacher": {"model": "cnn"}}, r"teacher\.model: cnn has no weights yet"),
        ({"teacher": {"cache": "/nowhere"}}, r"teacher\.cache: /nowhere"),
    ],
)
def test_a_fault_is_found_and_nothing_is_written(tmp_path, change, message):
    with pytest.raises(ConfigError, match=message):
        open_run(config_from({**VALUES, **change}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_is_opened_once(tmp_path):
    config = config_from(VALUES)
    open_run(config, tmp_path)
    with pytest.raises(ConfigError, match="holds a run already"):
        open_run(config, tmp_path)
    assert open_run(config, tmp_path, resume=True).teacher is None

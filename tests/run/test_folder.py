"""A run's folder is read, and refused, by what is in it."""

import pytest

from limbeck.config import config_from, write_config
from limbeck.data import load_splits
from limbeck.errors import ConfigError
from limbeck.models import load_model
from limbeck.run.folder import check_folder, check_writable, read_run, save_student
from limbeck.run.training import build_seeded_model

VALUES = {
    "data": {"name": "digits", "labelled": 100},
    "teacher": {"model": "cnn"},
    "student": {"model": "mlp", "settings": {"hidden": [4]}},
}


@pytest.fixture
def config():
    return config_from(VALUES)


def test_a_finished_run_is_read(config, tmp_path):
    with pytest.raises(ConfigError, match=r"no config\.yaml here"):
        read_run(tmp_path)
    write_config(config, tmp_path / "config.yaml")
    with pytest.raises(ConfigError, match=r"no student/ yet\. Finish it with: limbeck distill .* --resume"):
        read_run(tmp_path)
    splits = load_splits(config.data, seed=0)
    student = build_seeded_model(config.student, splits, 0)
    save_student(student, tmp_path, config, splits)
    assert read_run(tmp_path) == config
    assert str(load_model(tmp_path / "student")) == str(student)


def test_a_folder_that_a_run_may_use(config, tmp_path):
    assert not check_folder(config, tmp_path, resume=False)
    with pytest.raises(ConfigError, match=r"^out: .* holds no run to go on with\. Leave out --resume"):
        check_folder(config, tmp_path, resume=True)
    (tmp_path / "search").mkdir()  # of temperature: auto, which comes first
    assert not check_folder(config, tmp_path, resume=True)
    write_config(config, tmp_path / "config.yaml")
    assert check_folder(config, tmp_path, resume=True)


def test_a_folder_of_another_run(config, tmp_path):
    write_config(config, tmp_path / "config.yaml")
    with pytest.raises(ConfigError, match=r"^out: .*holds a run already.*--resume"):
        check_folder(config, tmp_path, resume=False)
    other = config_from({**VALUES, "seed": 3, "distillation": {"temperature": 2}})
    with pytest.raises(
        ConfigError, match=r"config\.yaml: the run was begun with other settings of seed, distillation;"
    ):
        check_folder(other, tmp_path, resume=True)
    with pytest.raises(ConfigError, match="other settings of seed;"):
        check_folder(other, tmp_path, resume=True, ignoring=("distillation",))
    assert check_folder(other, tmp_path, resume=True, ignoring=("distillation", "seed"))


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    check_writable(tmp_path / "new" / "folders")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "student").touch()
    for folder, in_the_way in (("file", "file"), ("file/run/deep", "file"), ("run", "run/student")):
        with pytest.raises(ConfigError, match=f"^out: .*{folder} cannot be written: .*/{in_the_way} is not a folder"):
            check_writable(tmp_path / folder)

    def refuse(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)  # root may write to a read-only folder
    with pytest.raises(ConfigError, match=r"^out: .* cannot be written \(.*: Permission denied\)\. Name another"):
        check_writable(tmp_path / "run2")

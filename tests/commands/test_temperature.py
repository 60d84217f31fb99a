"""``limbeck temperature`` and ``temperature: auto`` end to end, on real digits."""

import json
import subprocess
import sys

import pytest
from limbeck.commands.temperature_search import resolve_temperature, search_temperature

from limbeck.commands import cli
from limbeck.config import load_config
from support.command_line import limbeck

CONFIG = """\
data: {name: digits, labelled: 100}
teacher:
  {model: cnn, settings: {width: 8}, augmentation: {shift: 1},
   training: {max_steps: 60, per_device_train_batch_size: 64, learning_rate: 5e-3}}
student: {model: mlp, settings: {hidden: [16]}}
distillation: {temperature: auto, alpha: 0.9}
training: {max_steps: 20, per_device_train_batch_size: 64, learning_rate: 1e-2, save_strategy: "no"}
search: {temperatures: [1, 3, 9], batches: [2]}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """With config.yaml and run/, distilled at the temperature that was found."""
    folder = tmp_path_factory.mktemp("auto")
    (folder / "config.yaml").write_text(CONFIG)
    with pytest.raises(SystemExit):
        cli.main(["distill", str(folder / "config.yaml"), "--out", str(folder / "run")])
    return folder


@pytest.fixture
def config(folder):
    return folder / "config.yaml"


def read(path):
    return json.loads(path.read_text())


def test_auto_searches_and_then_distils_at_what_it_found(folder, config, capsys):
    choice = read(folder / "run" / "search" / "choice.json")
    assert choice["temperature"] in (1, 3, 9)
    assert choice["cost"] == len(choice["students"]) == 2 + 2 + 2
    resolved = load_config(folder / "run" / "config.yaml")
    assert resolved.distillation.temperature == choice["temperature"]
    assert (folder / "run" / "search" / "report.html").read_text().count("<svg") == 1
    assert not (folder / "run" / "search" / "checkpoints").exists()
    status, _, err = limbeck(capsys, "distill", config, "--out", folder / "run")
    assert (status, err) == (
        2,
        f"out: {folder / 'run'} holds a run already. Name another folder, or go on with it: --resume\n",
    )
    assert limbeck(capsys, "distill", config, "--out", folder / "run", "--resume")[0] == 0


def test_the_search_alone_goes_on_and_says_why(folder, config, capsys):
    settings = load_config(config, [f"out={folder / 'run'}"])
    search_temperature(
        settings,
        folder / "run" / "search",
        train_student=lambda *a, **k: pytest.fail("a student was trained again"),
    )
    status, out, _ = limbeck(capsys, "temperature", "search", config, "--out", folder / "run")
    choice = read(folder / "run" / "search" / "choice.json")
    assert status == 0
    assert f"T = {choice['temperature']:g}: of 3 temperatures from 1 to 9" in out
    assert "Over the same student without a teacher: " in out
    assert "Cost: 6 trainings." in out
    assert ("does not pay here" in out) == (not choice["worthwhile"])


def test_other_students_are_another_search(folder, config):
    """In the same folder, with the same journal."""
    trained = []

    def train(student, teacher, examples, config, **settings):
        trained.append(config.distillation.temperature)
        raise RuntimeError("enough")

    settings = load_config(config, [f"out={folder / 'run'}", "student.settings={hidden: [8]}"])
    with pytest.raises(RuntimeError, match="enough"):
        search_temperature(settings, folder / "run" / "search", train_student=train)
    assert trained == [1]


def test_the_test_set_is_not_looked_at(folder, config, tmp_path, monkeypatch):
    settings = load_config(config, [f"out={tmp_path}", f"teacher={{model: {folder / 'run' / 'teacher'}}}"])
    loaded = []
    real = __import__("limbeck.commands.temperature_search", fromlist=["x"]).load_splits

    def load(*arguments, **options):
        splits = real(*arguments, **options)
        monkeypatch.setattr(splits.test, "load", lambda rows: pytest.fail("the test set was read"))
        loaded.append(splits)
        return splits

    monkeypatch.setattr("limbeck.commands.temperature_search.load_splits", load)
    resolved, choice = resolve_temperature(settings)
    assert loaded
    assert resolved.distillation.temperature == choice.temperature


def test_from_a_store_and_with_other_settings(folder, config, tmp_path, capsys):
    teacher = f"teacher={{model: {folder / 'run' / 'teacher'}}}"
    build = (
        "cache",
        "build",
        config,
        "--out",
        tmp_path / "store",
        "--set",
        teacher,
        "--set",
        "distillation.temperature=1",
    )
    assert limbeck(capsys, *build)[0] == 0
    settings = load_config(
        config,
        [
            f"out={tmp_path / 'run'}",
            f"teacher={{cache: {tmp_path / 'store'}}}",
            "search.alphas=[0.5]",
            "search.divergences=[jsd]",
        ],
    )
    choice = search_temperature(settings, tmp_path / "run" / "search")
    assert choice.cost <= 2 + 2 + 2 + 2 * 3
    kinds = {(trial.alpha, trial.divergence) for trial, _ in choice.trials}
    assert kinds == {(None, None), (0.0, None), (0.5, None), (None, "jsd")}


def test_a_policy_in_a_config(folder, config, tmp_path, capsys):
    settings = (
        "distillation.temperature={policy: cosine, start: 6, end: 2}",
        f"teacher={{model: {folder / 'run' / 'teacher'}}}",
    )
    given = [part for setting in settings for part in ("--set", setting)]
    status, _, err = limbeck(capsys, "distill", config, "--out", tmp_path / "run", *given)
    assert status == 0, err
    assert load_config(tmp_path / "run" / "config.yaml").distillation.temperature == {
        "policy": "cosine",
        "start": 6,
        "end": 2,
    }


class TestAnalyze:
    def test_a_teacher_and_its_augmented_views(self, folder, config, tmp_path, capsys):
        status, out, err = limbeck(
            capsys, "temperature", "analyze", config, "--out", tmp_path, "--student", folder / "run",
            "--set", f"teacher={{model: {folder / 'run' / 'teacher'}, augmentation: {{shift: 1}}}}",
        )  # fmt: skip
        assert status == 0, err
        found = read(tmp_path / "analysis.json")
        effective = [row["effective_classes"] for row in found["softness"]]
        assert effective == sorted(effective)
        assert 1 <= effective[0] < 3 < effective[-1] < 10
        assert found["views"] == "augmented views"
        assert [rank["rank"] for rank in found["ranks"]] == list(range(1, 10))
        assert all(rank["spread"] > 0 for rank in found["ranks"])
        assert found["calibration"]["temperature"] > 0
        assert "is not the temperature of distillation" in out
        assert (tmp_path / "report.html").read_text().count("<svg") == 4

    def test_a_student_that_is_no_run(self, config, tmp_path, capsys):
        status, _, err = limbeck(
            capsys, "temperature", "analyze", config, "--student", tmp_path, "--out", tmp_path / "a"
        )
        assert status == 2
        assert err.startswith(f"{tmp_path}: no config.yaml here")
        assert not (tmp_path / "a").exists()

    def test_dropout_and_stores(self, folder, config, tmp_path, capsys):
        teacher = f"teacher={{model: {folder / 'run' / 'teacher'}}}"
        assert limbeck(capsys, "temperature", "analyze", config, "--out", tmp_path / "a", "--set", teacher)[0] == 0
        assert read(tmp_path / "a" / "analysis.json")["views"] == "dropout passes"
        shift = ("--set", "data.augmentation={shift: 1}", "--set", "distillation.temperature=1")
        for views, kind, count in ((1, "", 0), (3, "the store's views", 9)):
            store = tmp_path / f"store-{views}"
            extra = shift if views > 1 else shift[2:]
            build = (
                "cache",
                "build",
                config,
                "--out",
                store,
                "--set",
                teacher,
                "--set",
                f"cache.views={views}",
                *extra,
            )
            assert limbeck(capsys, *build)[0] == 0
            analyze = (
                "temperature",
                "analyze",
                config,
                "--out",
                tmp_path / "b",
                "--set",
                f"teacher={{cache: {store}}}",
                *extra,
            )
            assert limbeck(capsys, *analyze)[0] == 0
            found = read(tmp_path / "b" / "analysis.json")
            assert len(found["ranks"]) == count
            assert not count or found["views"] == kind


class TestFaults:
    @pytest.mark.parametrize(
        ("setting", "message"),
        [
            (
                "distillation.temperature=warm",
                "distillation.temperature: should be greater than 0, or auto, or a policy",
            ),
            (
                "distillation.temperature={policy: hot}",
                "distillation.temperature: policy: expected one of linear, cosine",
            ),
            (
                "distillation.temperature={policy: linear, end: 0}",
                "distillation.temperature: end: expected a positive number",
            ),
            ("search.temperatures=[1, 2]", "search.temperatures: "),
            ("search.temperatures=[1, 1, 2]", "search.temperatures: expected at least 3 different positive numbers"),
            ("search.seeds=1", "search.seeds: should be greater than or equal to 2"),
            ("search.divergences=[kl]", "search.divergences: should be one of forward_kl"),
        ],
    )
    def test_one_line_and_nothing_written(self, config, tmp_path, capsys, setting, message):
        status, _, err = limbeck(capsys, "distill", config, "--out", tmp_path / "run", "--set", setting)
        assert status == 2
        assert message in err
        assert len(err.splitlines()) == 1
        assert not (tmp_path / "run").exists()

    def test_optuna_missing(self, config, tmp_path):
        code = "import sys; sys.modules['optuna'] = None; from limbeck.commands.cli import main; "
        code += f"main(['temperature', 'search', {str(config)!r}])"
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
        assert run.returncode == 2
        assert run.stderr.splitlines()[-1] == (
            "optuna is not installed. Add it with: pip install 'optuna>=4.2' (or install Limbeck with its extra 'search')"
        )


def test_comparing_has_temperatures_of_its_own(folder, config, tmp_path, capsys):
    settings = (
        f"teacher={{model: {folder / 'run' / 'teacher'}}}",
        "compare={seeds: 1, temperatures: [2]}",
        "data.transfer=labelled",
    )
    given = [part for setting in settings for part in ("--set", setting)]
    assert limbeck(capsys, "compare", config, "--out", tmp_path / "run", *given)[0] == 0

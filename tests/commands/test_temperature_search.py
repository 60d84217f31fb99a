"""``limbeck temperature search`` and ``temperature: auto`` end to end, on real digits."""

import json
import sys

import pytest

from limbeck.commands.temperature_search import resolve_temperature, search_temperature
from limbeck.config import load_config
from limbeck.data import load_splits
from support.command_line import limbeck
from support.runs import options


def read(path):
    return json.loads(path.read_text())


def test_auto_searches_and_then_distils_at_what_it_found(searched_run, capsys):
    run, config = searched_run.folder, searched_run.config
    choice = read(run / "search" / "choice.json")
    assert choice["temperature"] in (1, 3, 9)
    assert choice["cost"] == len(choice["students"]) == 3 + 2
    resolved = load_config(run / "config.yaml")
    assert resolved.distillation.temperature == choice["temperature"]
    assert (run / "search" / "report.html").read_text().count("<svg") == 1
    assert not (run / "search" / "checkpoints").exists()
    status, _, err = limbeck(capsys, "distill", config, "--out", run)
    assert (status, err) == (
        2,
        f"out: {run} holds a run already. Name another folder, or go on with it: --resume\n",
    )
    assert limbeck(capsys, "distill", config, "--out", run, "--resume")[0] == 0


def test_the_search_alone_goes_on_and_says_why(searched_run, capsys):
    def train(*arguments, **options):
        pytest.fail("a student was trained again")

    run = searched_run.folder
    settings = load_config(searched_run.config, [f"out={run}"])
    search_temperature(settings, run / "search", train_student=train)
    status, out, _ = limbeck(capsys, "temperature", "search", searched_run.config, "--out", run)
    choice = read(run / "search" / "choice.json")
    assert status == 0
    assert f"T = {choice['temperature']:g}: the best of 3 temperatures from 1 to 9" in out
    assert "Over the same student without a teacher: " in out
    assert "Cost: 5 trainings." in out
    assert choice["verdict"]["examples"] == 300
    sentences = {
        "pays": "The teacher pays.",
        "does not pay": "does not pay: a gain of 0.3",
        "cannot be told": "cannot tell",
    }
    assert sentences[choice["verdict"]["answer"]] in out
    assert "300 validation examples" in out


def test_other_students_are_another_search(searched_run):
    """In the same folder, with the same journal."""
    trained = []

    def train(student, teacher, examples, config, **options):
        trained.append(config.distillation.temperature)
        raise RuntimeError("enough")

    settings = load_config(searched_run.config, [f"out={searched_run.folder}", "student.settings={hidden: [8]}"])
    with pytest.raises(RuntimeError, match="enough"):
        search_temperature(settings, searched_run.folder / "search", train_student=train)
    assert trained == [1]


def test_the_test_set_is_not_looked_at(searched_run, tmp_path, monkeypatch):
    settings = load_config(searched_run.config, [f"out={tmp_path}", searched_run.teacher])
    loaded = []

    def load(*arguments, **options):
        splits = load_splits(*arguments, **options)
        monkeypatch.setattr(splits.test, "load", lambda rows: pytest.fail("the test set was read"))
        loaded.append(splits)
        return splits

    monkeypatch.setattr("limbeck.run.inputs.load_splits", load)
    resolved, choice = resolve_temperature(settings)
    assert loaded
    assert resolved.distillation.temperature == choice.temperature


def test_from_a_store_and_with_other_settings(searched_run, tmp_path, capsys):
    store = tmp_path / "store"
    build = options(searched_run.teacher, "distillation.temperature=1")
    assert limbeck(capsys, "cache", "build", searched_run.config, "--out", store, *build)[0] == 0
    settings = load_config(
        searched_run.config,
        [
            f"out={tmp_path / 'run'}",
            f"teacher={{cache: {store}}}",
            "search.alphas=[0.5]",
            "search.divergences=[jsd]",
            "search.policies=[max_logit]",
        ],
    )
    choice = search_temperature(settings, tmp_path / "run" / "search")
    assert choice.cost <= 3 + 2 + 2 * 4
    kinds = {(trial.alpha, trial.divergence, trial.policy) for trial, _ in choice.trials}
    plain, alone = (None, None, None), (0.0, None, None)
    assert kinds == {plain, alone, (0.5, None, None), (None, "jsd", None), (None, None, "max_logit")}


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
                "distillation.temperature.policy: expected one of linear, cosine",
            ),
            (
                "distillation.temperature={policy: linear, end: 0}",
                "distillation.temperature.end: expected a positive number",
            ),
            ("search.temperatures=[1, 2]", "search.temperatures: "),
            (
                "search.temperatures=[1, 1, 2]",
                "search.temperatures: should be at least 3 different numbers, got [1, 1, 2]",
            ),
            ("search.seeds=0", "search.seeds: should be greater than or equal to 1, got 0"),
            ("search.policies=[hot]", "search.policies.0: expected one of linear, cosine"),
            ("search.divergences=[kl]", "search.divergences.0: expected one of forward_kl"),
        ],
    )
    def test_one_line_and_nothing_written(self, searched_run, tmp_path, capsys, setting, message):
        status, _, err = limbeck(capsys, "distill", searched_run.config, "--out", tmp_path / "run", "--set", setting)
        assert status == 2
        assert message in err
        assert len(err.splitlines()) == 1
        assert not (tmp_path / "run").exists()

    def test_optuna_missing(self, searched_run, tmp_path, capsys, monkeypatch):
        monkeypatch.setitem(sys.modules, "optuna", None)
        status, _, err = limbeck(capsys, "temperature", "search", searched_run.config, "--out", tmp_path / "run")
        assert status == 2
        assert not (tmp_path / "run").exists()
        assert err.splitlines()[-1] == (
            "optuna is not installed. Add it with: pip install 'optuna>=4.2' (or install Limbeck with its extra 'search')"
        )

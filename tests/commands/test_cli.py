"""The shell around the commands; what the commands do is in test_run.py."""

import re

import pytest

import limbeck
from limbeck.commands import cli


def call(capsys, *arguments):
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    return caught.value.code or 0, *capsys.readouterr()


def test_version_and_help(capsys):
    assert call(capsys, "--version") == (0, f"limbeck {limbeck.__version__}\n", "")
    status, out, _ = call(capsys, "--help")
    assert status == 0
    for command in ("demo", "distill", "compare", "evaluate", "predict"):
        assert re.search(rf"{command} +\w", out)


def test_an_unknown_command_is_said(capsys):
    status, _, err = call(capsys, "destill")
    assert status == 2
    assert "destill" in err


@pytest.mark.parametrize(("missing", "extra"), [("transformers", "train"), ("jinja2", "report")])
def test_an_extra_that_is_not_installed_is_named(missing, extra, capsys, monkeypatch):
    def evaluate(_, **options):
        raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)

    monkeypatch.setattr("limbeck.commands.evaluate.evaluate", evaluate)
    status, _, err = call(capsys, "evaluate", "anywhere")
    assert status == 2
    assert err == f"{missing} is not installed. Add it with: pip install 'limbeck[{extra}]'\n"


def test_an_interruption_ends_without_a_traceback(capsys, monkeypatch):
    def evaluate(_, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("limbeck.commands.evaluate.evaluate", evaluate)
    status, _, err = call(capsys, "evaluate", "anywhere")
    assert status == 130
    assert "Traceback" not in err

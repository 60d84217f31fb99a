"""The shell around the commands: versions, help, faults and interruptions."""

import re
import warnings

import pytest

from limbeck import __version__
from limbeck.commands import cli
from limbeck.errors import ConfigError
from support.command_line import limbeck


def test_version_and_help(capsys):
    assert limbeck(capsys, "--version") == (0, f"limbeck {__version__}\n", "")
    status, out, _ = limbeck(capsys, "--help")
    assert status == 0
    for command in ("demo", "distill", "compare", "evaluate", "predict"):
        assert re.search(rf"{command} +\w", out)


def test_an_unknown_command_is_said(capsys):
    status, _, err = limbeck(capsys, "destill")
    assert status == 2
    assert "destill" in err


@pytest.mark.parametrize(
    ("module", "requirement", "extra"),
    [("transformers", "transformers<6,>=5.17", "train"), ("jinja2", "jinja2>=3.1", "report"),
     ("sklearn.datasets", "scikit-learn>=1.5", "train")],
)  # fmt: skip
def test_a_package_that_is_not_installed_is_named(module, requirement, extra, capsys, monkeypatch):
    def evaluate(_, **options):
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    monkeypatch.setattr("limbeck.commands.evaluate.evaluate", evaluate)
    status, _, err = limbeck(capsys, "evaluate", "anywhere")
    assert status == 2
    assert err == (
        f"{module.partition('.')[0]} is not installed. Add it with: pip install '{requirement}' "
        f"(or install Limbeck with its extra '{extra}')\n"
    )


def test_an_interruption_ends_without_a_traceback(capsys, monkeypatch):
    def evaluate(_, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("limbeck.commands.evaluate.evaluate", evaluate)
    status, _, err = limbeck(capsys, "evaluate", "anywhere")
    assert status == 130
    assert "Traceback" not in err


def test_debug_shows_the_traceback(tmp_path):
    with pytest.raises(ConfigError):
        cli.main(["distill", str(tmp_path / "absent.yaml"), "--debug"])


@pytest.mark.parametrize("command", ["", "cache", "temperature"])
def test_help_says_in_a_line_what_each_command_does(command, capsys):
    status, out, _ = limbeck(capsys, *command.split(), "--help")
    assert status == 0
    told = dict(re.findall(r"^\W+([a-z]+)  +([A-Z].*?)\W*$", out[out.index("Commands") :], re.MULTILINE))
    expected = {
        "": {
            "cache",
            "calibrate",
            "check",
            "compare",
            "demo",
            "distill",
            "evaluate",
            "export",
            "predict",
            "temperature",
        },
        "cache": {"build", "export", "info", "verify"},
        "temperature": {"analyze", "search"},
    }
    assert set(told) == expected[command]


def test_a_warning_is_one_line_without_code(monkeypatch):
    stock, told = warnings.formatwarning, []

    def app(given):
        told.append(warnings.formatwarning(UserWarning("it is said"), UserWarning, "a.py", 3, "code()"))

    monkeypatch.setattr(cli, "app", app)
    cli.main(["demo"])
    cli.main(["demo", "--debug"])
    assert told == ["Warning: it is said\n", stock(UserWarning("it is said"), UserWarning, "a.py", 3, "code()")]
    assert warnings.formatwarning is stock

"""Limbeck's command line, as a test calls it."""

import contextlib
import io

import pytest

from limbeck.commands import cli


def limbeck(capsys, *arguments):
    """Return the exit status, the standard output and the standard error of a command."""
    with pytest.raises(SystemExit) as caught:
        cli.main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    return caught.value.code or 0, printed.out, printed.err


def run_limbeck(*arguments) -> str:
    """Run a command that must succeed, in a fixture that several tests share, and return what it printed."""
    with contextlib.redirect_stdout(io.StringIO()) as out, pytest.raises(SystemExit) as caught:
        cli.main([str(argument) for argument in arguments])
    assert not caught.value.code
    return out.getvalue()

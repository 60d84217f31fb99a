"""Limbeck's command line, as a test calls it."""

import pytest

from limbeck.commands import cli


def limbeck(capsys, *arguments):
    """Exit status, standard output, standard error."""
    with pytest.raises(SystemExit) as caught:
        cli.main([str(argument) for argument in arguments])
    told = capsys.readouterr()
    return caught.value.code or 0, told.out, told.err

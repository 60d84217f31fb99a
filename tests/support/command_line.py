"""A helper that runs Limbeck's command line in the test's own process."""

import pytest

from limbeck.commands import cli


def limbeck(capsys, *arguments):
    """Run a command and return its exit status, its standard output and its standard error."""
    with pytest.raises(SystemExit) as caught:
        cli.main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    return caught.value.code or 0, printed.out, printed.err

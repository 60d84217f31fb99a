"""The command that the user gave, for pages to tell."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from contextvars import ContextVar

COMMAND: ContextVar[Sequence[str] | None] = ContextVar("COMMAND", default=None)
"""The words after the program's name; None if the library was called from Python."""


def command_line() -> str:
    """Return the command that runs, as the user gave it; of a call from Python, that it is one."""
    given = COMMAND.get()
    return "called from Python" if given is None else shlex.join(["limbeck", *given])

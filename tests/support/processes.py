"""The command line in a process of its own, which a test can stop or kill."""

from __future__ import annotations

import multiprocessing
import os
from multiprocessing.process import BaseProcess
from pathlib import Path

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["limbeck.commands.distill", "limbeck.training"])  # imported once, not in every process


def start(printed: Path, *arguments) -> BaseProcess:
    """Start a command in a new process. What it prints goes to the end of a file."""
    process = CONTEXT.Process(target=_run, args=(printed, [str(argument) for argument in arguments]))
    process.start()
    return process


def end_of(process: BaseProcess, *, seconds: float = 120) -> int | None:
    """Wait for a process, and return its exit status; that of a signal is negative."""
    process.join(seconds)
    return process.exitcode


def _run(printed: Path, arguments: list[str]) -> None:
    from limbeck.commands import cli

    with printed.open("a") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    cli.main(arguments)

"""Ctrl-C (SIGINT) and SIGTERM: a command ends in an orderly way, and says how to go on."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(BaseException):
    """A signal ended a command. It is no ``Exception``, so that nothing that mends errors takes it for one.

    Args:
        signal: the number of the signal.
        finished: what is finished and kept, as a sentence; empty if nothing is.
    """

    def __init__(self, signal: int, finished: str = "") -> None:
        super().__init__(signal, finished)
        self.signal, self.finished = signal, finished
        self.option = ""
        """The option with which the same command goes on; empty if it needs none."""


@contextmanager
def raise_when_interrupted() -> Iterator[None]:
    """Raise ``Interrupted`` in the block, wherever it is, when the process gets SIGINT or SIGTERM."""

    def stop(number: int, _: Any) -> None:
        _leave_at_once_next_time()
        raise Interrupted(number)

    with _handling(stop):
        yield


@contextmanager
def wait_when_interrupted(notice: str) -> Iterator[Callable[[], int]]:
    """Keep the first SIGINT or SIGTERM from ending the block. The second ends the process at once.

    Args:
        notice: what is written to standard error when the first one comes.

    Yields:
        A function that returns the number of the signal that came, and 0 if none came.
    """
    came = []
    owner = os.getpid()

    def note(number: int, _: Any) -> None:
        _leave_at_once_next_time()
        came.append(number)
        if os.getpid() == owner and os.environ.get("RANK", "0") == "0":  # not in a loader's worker
            os.write(2, f"\n{notice}\n".encode())  # print could be interrupted within itself

    with _handling(note):
        yield lambda: came[0] if came else 0


def _leave_at_once_next_time() -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)


@contextmanager
def _handling(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """Handle the signals by a function in the block. Python allows it in the main thread alone; elsewhere nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in SIGNALS}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)

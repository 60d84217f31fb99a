"""SIGINT and SIGTERM: raised, or kept until it is time; the second one ends the process."""

import os
import signal
import threading

import pytest

from limbeck.interruption import SIGNALS, Interrupted, raise_when_interrupted, wait_when_interrupted


@pytest.fixture(autouse=True)
def handlers():
    """Check that a test leaves the handlers as they were."""
    before = [signal.getsignal(number) for number in SIGNALS]
    yield
    assert [signal.getsignal(number) for number in SIGNALS] == before


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_raised(number):
    with pytest.raises(Interrupted) as caught, raise_when_interrupted():
        os.kill(os.getpid(), number)
    assert (caught.value.signal, caught.value.finished) == (number, "")
    assert not isinstance(caught.value, Exception)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_waits_and_the_second_ends_the_process(number, capfd):
    with raise_when_interrupted():
        with wait_when_interrupted("Wait.") as signal_that_came:
            assert signal_that_came() == 0
            os.kill(os.getpid(), number)
            assert signal_that_came() == number
            assert [signal.getsignal(n) for n in SIGNALS] == [signal.SIG_DFL] * 2
        assert capfd.readouterr().err == "\nWait.\n"
        with pytest.raises(Interrupted):
            os.kill(os.getpid(), number)  # after the block signals are raised again


def test_other_threads_change_nothing():
    def run():
        with raise_when_interrupted(), wait_when_interrupted("") as signal_that_came:
            seen.append(signal_that_came())

    seen = []
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [0]

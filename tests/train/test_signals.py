"""Signals ask to stop; a second one insists."""

import os
import signal
import threading

import pytest

from storyjax.train.signals import StopSignals


@pytest.fixture
def terminal():
    """Ctrl-C as at a terminal; a shell's background job starts with it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_the_first_ctrl_c_is_noted_and_the_second_interrupts(terminal):
    with StopSignals() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.name == "SIGINT"
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_the_handlers_from_before_come_back():
    before = [signal.getsignal(number) for number in StopSignals.HANDLED]
    with StopSignals() as stop:
        assert [signal.getsignal(number) for number in StopSignals.HANDLED] != before
    assert [signal.getsignal(number) for number in StopSignals.HANDLED] == before
    assert stop.name is None


def test_training_in_a_thread_leaves_the_handlers_alone():
    before, seen = signal.getsignal(signal.SIGTERM), []

    def work() -> None:
        with StopSignals() as stop:
            seen.extend([signal.getsignal(signal.SIGTERM), stop.name])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before, None]

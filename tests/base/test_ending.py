"""A process that is told to end."""

from __future__ import annotations

import signal
import threading

import pytest

from broker.base.ending import ENDING, handling, told


@pytest.mark.parametrize("number", ENDING)
def test_who_wants_to_know_is_told_before_whoever_handled_it_so_far(number: signal.Signals) -> None:
    heard: list[str] = []
    with handling(lambda _number, _frame: heard.append("server")):
        with told(lambda: heard.append("calls")):
            signal.raise_signal(number)
        signal.raise_signal(number)
    assert heard == ["calls", "server", "server"]


def test_afterwards_signals_are_handled_as_before() -> None:
    before = [signal.getsignal(number) for number in ENDING]
    with handling(lambda _number, _frame: None), told(lambda: None):
        pass
    assert [signal.getsignal(number) for number in ENDING] == before


def test_ctrl_c_interrupts_all_the_same() -> None:
    heard: list[str] = []
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a process that runs tests may ignore it
    try:
        with pytest.raises(KeyboardInterrupt), told(lambda: heard.append("calls")):
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert heard == ["calls"]


def test_another_thread_than_the_main_one_leaves_signals_alone() -> None:
    before = signal.getsignal(signal.SIGTERM)
    inside = []

    def elsewhere() -> None:
        with told(lambda: None):
            inside.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert inside == [before]

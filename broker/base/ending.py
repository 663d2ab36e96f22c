"""How a process learns that it is to end."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType

ENDING = (signal.SIGTERM, signal.SIGINT)

Handler = Callable[[int, FrameType | None], object]


@contextmanager
def handling(handler: Handler) -> Iterator[None]:
    """Hand SIGTERM and SIGINT to ``handler`` while the context is open.

    Whoever had them before has them again after it.  Only the main thread of a process meets signals: elsewhere nothing
    happens.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with ExitStack() as before:
        for number in ENDING:
            before.callback(signal.signal, number, signal.signal(number, handler))
        yield


@contextmanager
def told(then: Callable[[], object]) -> Iterator[None]:
    """Call ``then`` when the process is told to end.

    What the signal would have done without this is done all the same.  ``then`` is called between any two steps of the
    program, so it may only hand on, as by ``call_soon_threadsafe``.
    """
    had = {number: signal.getsignal(number) for number in ENDING}

    def hand_on(number: int, frame: FrameType | None) -> None:
        then()
        before = had[signal.Signals(number)]
        if callable(before):
            before(number, frame)
        elif before == signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    with handling(hand_on):
        yield


async def until_told() -> None:
    """Wait until the process is told to end; what the signal would have done is not done."""
    loop, end = asyncio.get_running_loop(), asyncio.Event()
    with handling(lambda _number, _frame: loop.call_soon_threadsafe(end.set)):
        await end.wait()

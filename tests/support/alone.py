"""Tests run beside each other, in several processes.

A test that is marked ``alone`` has them all wait for it.  It measures, kills or loads so much that a neighbour would
decide its outcome.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import pytest


class Room:
    """Where the tests of a run are: many beside each other, or one alone.

    The locks are files (flock): they hold between processes, and are gone with a process that dies.  All of them share
    ``directory``.
    """

    def __init__(self, directory: Path) -> None:
        self._gate = os.open(directory / "gate.lock", os.O_CREAT | os.O_RDWR, 0o600)
        self._room = os.open(directory / "room.lock", os.O_CREAT | os.O_RDWR, 0o600)

    def close(self) -> None:
        """Give the files back."""
        os.close(self._gate)
        os.close(self._room)

    @contextmanager
    def beside(self) -> Iterator[None]:
        """Wait while somebody is alone or waits for that; then be here together with others."""
        with _held(self._gate, fcntl.LOCK_SH):
            fcntl.flock(self._room, fcntl.LOCK_SH)
        try:
            yield
        finally:
            fcntl.flock(self._room, fcntl.LOCK_UN)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Let nobody in any more, wait until the others are through, and be here alone."""
        with _held(self._gate, fcntl.LOCK_EX), _held(self._room, fcntl.LOCK_EX):
            yield


class Alone:
    """The pytest plugin that has each test enter the room."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._room: Room | None = None

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Put first what must be alone, while nobody has begun whom it would have to wait for."""
        items.sort(key=lambda item: item.get_closest_marker("alone") is None)

    @pytest.hookimpl(wrapper=True, tryfirst=True)  # around the time limit: waiting for the others is not the test's
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Enter, run, leave."""
        with self._entered(alone=item.get_closest_marker("alone") is not None):
            return (yield)

    def _entered(self, *, alone: bool) -> AbstractContextManager[None]:
        if "PYTEST_XDIST_WORKER" not in os.environ:
            return nullcontext()
        if self._room is None:
            # A worker's own directory lies in the one that the run has made.
            factory: pytest.TempPathFactory = self._config._tmp_path_factory  # type: ignore[attr-defined]  # pytest gives it to fixtures alone
            self._room = Room(factory.getbasetemp().parent)
            self._config.add_cleanup(self._room.close)
        return self._room.alone() if alone else self._room.beside()


@contextmanager
def _held(file: int, how: int) -> Iterator[None]:
    fcntl.flock(file, how)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)

"""Several processes on one socket: each accepts one connection at a time, so that the others have theirs."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from broker.base import accepting
from broker.base.accepting import Loop


class Accepted(asyncio.Protocol):
    """Whoever was accepted: says what it is told."""

    def __init__(self, accepted: list[Accepted]) -> None:
        self._accepted = accepted

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self._accepted.append(self)

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


@contextlib.asynccontextmanager
async def serving(listening: socket.socket) -> AsyncIterator[list[Accepted]]:
    """Those that were accepted; in the end nobody is any more."""
    accepted: list[Accepted] = []
    server = await asyncio.get_running_loop().create_server(
        lambda: Accepted(accepted), sock=listening, ssl=None, backlog=100
    )
    yield accepted
    server.close()
    await server.wait_closed()
    for each in accepted:
        each.transport.abort()


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


def connected(listening: socket.socket, count: int, stack: contextlib.ExitStack) -> list[socket.socket]:
    """Connections that wait to be accepted."""
    return [stack.enter_context(socket.create_connection(listening.getsockname())) for _ in range(count)]


def run(main: Any) -> Any:
    with asyncio.Runner(loop_factory=Loop) as runner:
        return runner.run(main)


def test_of_connections_that_wait_one_is_accepted_and_the_others_left_to_others(
    listening: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accepting, "MOMENT_S", 600)

    async def main() -> int:
        async with serving(listening) as one, serving(another) as two:
            while len(one) + len(two) < 2:
                await asyncio.sleep(0)
            return len(one)

    with contextlib.ExitStack() as stack:
        another = stack.enter_context(listening.dup())  # as another process has it
        connected(listening, 20, stack)
        assert run(main()) == 1


def test_after_a_moment_the_next_one_is_accepted(listening: socket.socket) -> None:
    async def main() -> None:
        async with serving(listening) as accepted:
            while len(accepted) < 20:
                await asyncio.sleep(0.001)

    with contextlib.ExitStack() as stack:
        connected(listening, 20, stack)
        run(main())


def test_what_is_accepted_is_served_and_after_the_end_nothing_is(listening: socket.socket) -> None:
    async def main() -> bytes:
        async with serving(listening) as accepted:
            reader, writer = await asyncio.open_connection(*listening.getsockname())
            writer.write(b"hello")
            answer = await reader.readexactly(5)
            writer.close()
        _, late = await asyncio.open_connection(*listening.getsockname())
        await asyncio.sleep(0.01)
        late.close()
        assert len(accepted) == 1
        return answer

    assert run(main()) == b"hello"


def test_a_process_without_descriptors_rests_and_goes_on(
    listening: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accepting, "REST_S", 0.01)
    told: list[str] = []

    class Short(socket.socket):
        tries = 0

        def accept(self) -> Any:
            Short.tries += 1
            if Short.tries <= 2:
                raise OSError(errno.EMFILE, "too many open files")
            return super().accept()

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context["message"]))
        with Short(fileno=listening.dup().detach()) as short:
            async with serving(short) as accepted:
                while not accepted:
                    await asyncio.sleep(0.001)

    with contextlib.ExitStack() as stack:
        connected(listening, 1, stack)
        run(main())
    assert (Short.tries, len(told)) == (3, 2)

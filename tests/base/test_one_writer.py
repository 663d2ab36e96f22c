"""SQLite's one writer for several processes: who is next, what is written together, and what a loss leaves behind."""

from __future__ import annotations

import asyncio
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from broker.base import one_writer
from broker.base.db import EVERY_TENANT, Database, DatabaseUnavailable
from broker.base.faults import is_away, is_contradiction, is_refused_value
from broker.base.link import Link
from broker.base.one_writer import Asked, OneWriter, Order
from broker.base.parent import Parent, ParentGone
from broker.base.refusal import NotWritten
from broker.base.sqlite import SqliteConnection
from broker.base.statements import Transaction


def nobody() -> Link:
    return Link(lambda *_: None, lambda _: None)


def turn(ticket: int) -> Asked:
    return Asked(nobody(), ticket)


def batch(ticket: int) -> Asked:
    return Asked(nobody(), ticket, b"batch")


def tickets(order: Order) -> list[list[int]]:
    """Who is next, until nobody waits."""
    found = []
    while chosen := order.next():
        found.append([asked.ticket for asked in chosen])
    return found


def test_batches_go_together_and_alternate_with_others_where_both_wait() -> None:
    order = Order()
    for ticket in (1, 2):
        order.ask(turn(ticket), record=False)
    for ticket in (3, 4):
        order.ask(batch(ticket), record=True)
    for ticket in (5, 6):
        order.ask(turn(ticket), record=True)
    assert tickets(order) == [[3, 4], [1], [5], [2], [6]]


def test_the_record_goes_first_again_once_nobody_else_has_waited() -> None:
    order = Order()
    order.ask(batch(1), record=True)
    assert tickets(order) == [[1]]
    order.ask(turn(2), record=False)
    order.ask(batch(3), record=True)
    assert tickets(order) == [[3], [2]]


def test_who_leaves_is_not_next() -> None:
    order = Order()
    gone = nobody()
    order.ask(Asked(gone, 1), record=False)
    order.ask(Asked(gone, 2, b"batch"), record=True)
    order.ask(Asked(gone, 3), record=True)
    order.ask(turn(4), record=False)
    order.withdraw(lambda asked: asked.link is gone)
    assert tickets(order) == [[4]]


def kept(transaction: Transaction, name: bytes) -> bytes:
    """A batch of one name; the answer is how many names there are then."""
    if name == b"a defect":
        raise KeyError("a secret")
    transaction.rows("INSERT INTO names VALUES (?)", (name.decode() if name != b"huge" else 2**70,))
    ((count,),) = transaction.rows("SELECT count(*) FROM names")
    return b"%d" % count


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "names.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE names (name TEXT PRIMARY KEY CHECK (name <> 'forbidden'))")
    connection.close()
    return path


@pytest.fixture
def entrance(file: Path) -> Iterator[socket.socket]:
    with OneWriter(file, kept).running() as leads_to_it:
        yield leads_to_it


async def joined(entrance: socket.socket) -> Parent:
    parent = Parent(entrance, lambda: None)
    await parent.join()
    return parent


def names(file: Path) -> list[str]:
    connection = sqlite3.connect(file)
    try:
        return [name for (name,) in connection.execute("SELECT name FROM names ORDER BY rowid")]
    finally:
        connection.close()


async def test_what_several_ask_for_is_written_in_one_order(entrance: socket.socket, file: Path) -> None:
    one, two = await joined(entrance), await joined(entrance)
    wanted = [f"{who} {number}" for number in range(20) for who in ("one", "two")]
    answers = await asyncio.gather(*((one if name.startswith("one") else two).write(name.encode()) for name in wanted))
    assert sorted(map(int, answers)) == list(range(1, 41))
    assert sorted(names(file)) == sorted(wanted)


async def test_batches_that_wait_together_are_one_transaction(
    entrance: socket.socket, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = await joined(entrance)
    commits = transactions(monkeypatch)
    async with one.turn(record=False):
        # both wait, as what a worker says comes in its order
        writing = [asyncio.create_task(one.write(name)) for name in (b"a", b"b")]
        await asyncio.sleep(0)
    await asyncio.gather(*writing)
    assert sorted(names(file)) == ["a", "b"]
    assert len(commits) == 1


def transactions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows with every transaction of the parent's."""
    begun: list[str] = []
    run = SqliteConnection.run

    def counted(connection: SqliteConnection, work: object) -> object:
        begun.append("transaction")
        return run(connection, work)  # type: ignore[arg-type]  # handed on as it came

    monkeypatch.setattr(SqliteConnection, "run", counted)
    return begun


async def test_a_batch_that_is_refused_leaves_the_others_alone_and_says_why(
    entrance: socket.socket, file: Path
) -> None:
    one, two = await joined(entrance), await joined(entrance)
    await one.write(b"taken")
    async with one.turn(record=False):
        wanted = (b"taken", b"forbidden", b"huge", b"a defect", b"fine")
        writing = [asyncio.create_task(two.write(name)) for name in wanted]
        await asyncio.sleep(0)
    taken, forbidden, huge, defect, fine = await asyncio.gather(*writing, return_exceptions=True)
    assert fine == b"2"
    assert names(file) == ["taken", "fine"]
    for error in (taken, forbidden):
        assert isinstance(error, sqlite3.IntegrityError)
        assert is_contradiction(error)
        assert "taken" not in str(error)
    assert isinstance(huge, sqlite3.DataError)
    assert is_refused_value(huge)
    assert isinstance(defect, NotWritten)
    assert str(defect) == "KeyError", "no text of an error crosses: it could repeat a value"
    assert not any(is_away(error) for error in (taken, forbidden, huge, defect) if isinstance(error, Exception))


async def test_a_database_that_is_away_is_told_as_such(entrance: socket.socket, file: Path) -> None:
    parent = await joined(entrance)
    file.unlink()
    file.mkdir()
    with pytest.raises(sqlite3.OperationalError) as away:
        await parent.write(b"a")
    assert is_away(away.value)


async def test_turns_come_one_at_a_time_and_each_is_given(entrance: socket.socket) -> None:
    parents = [await joined(entrance) for _ in range(3)]
    writing, most, turns = 0, 0, 0

    async def take(parent: Parent, *, record: bool) -> None:
        nonlocal writing, most, turns
        async with parent.turn(record=record):
            writing += 1
            most, turns = max(most, writing), turns + 1
            await asyncio.sleep(0.001)
            writing -= 1

    await asyncio.gather(*(take(each, record=record) for _ in range(5) for each in parents for record in (True, False)))
    assert (most, turns) == (1, 30)


async def test_who_leaves_while_waiting_or_dies_with_the_turn_passes_it_on(entrance: socket.socket) -> None:
    one, two, three = [await joined(entrance) for _ in range(3)]

    async def take(parent: Parent) -> None:
        async with parent.turn(record=False):
            pass

    async with one.turn(record=False):
        leaving = asyncio.create_task(take(two))
        staying = asyncio.create_task(take(three))
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        one.leave()  # as its process's end does
        await staying
    await take(two)


async def test_who_keeps_a_turn_for_too_long_is_passed_over(
    entrance: socket.socket, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(one_writer, "BUSY_S", 0.01)
    frozen, other = await joined(entrance), await joined(entrance)
    async with frozen.turn(record=False):
        await other.write(b"a")
    await frozen.write(b"b")
    assert names(file) == ["a", "b"], "a turn that was given back late ends nobody else's"


async def test_a_worker_whose_parent_is_gone_is_told_so_and_waits_for_nothing(file: Path) -> None:
    lost: list[str] = []
    with ExitStack() as ends:
        entrance = ends.enter_context(OneWriter(file, kept).running())
        parent = Parent(entrance, lambda: lost.append("lost"))
        await parent.join()
        holding = await joined(entrance)
        async with holding.turn(record=False):
            waiting = [asyncio.create_task(parent.write(b"a")), asyncio.create_task(_turn(parent))]
            await asyncio.sleep(0)
            await asyncio.to_thread(ends.close)
            for error in await asyncio.gather(*waiting, return_exceptions=True):
                assert isinstance(error, ParentGone)
                assert is_away(error)
    assert lost == ["lost"]
    with pytest.raises(ParentGone):
        await parent.write(b"b")
    assert names(file) == []


async def test_a_change_without_its_parent_is_refused_as_with_a_database_that_is_away(
    entrance: socket.socket, file: Path
) -> None:
    db = Database(f"sqlite+aiosqlite:///{file}", parent=Parent(entrance, lambda: None))  # which it hasn't joined
    with pytest.raises(DatabaseUnavailable):
        async with db.write(EVERY_TENANT):
            raise AssertionError("nobody gives it the turn")
    await db.close()


async def _turn(parent: Parent) -> None:
    async with parent.turn(record=True):
        raise AssertionError("nobody gives it")


async def test_what_cannot_be_read_ends_its_link_alone(entrance: socket.socket, file: Path) -> None:
    other = await joined(entrance)
    mine, passed = socket.socketpair()
    with passed:
        socket.send_fds(entrance, [b"."], [passed.fileno()])
    mine.sendall(b"\xff" * 64)
    mine.setblocking(False)
    loop = asyncio.get_running_loop()
    assert await loop.sock_recv(mine, 1) == b""
    mine.close()
    assert await other.write(b"a") == b"1"

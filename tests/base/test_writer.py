"""SQLite's one writer: the record before everybody else who waits."""

from __future__ import annotations

import asyncio

from broker.base.writer import Writer


async def write(writer: Writer, who: str, done: list[str], *, record: bool = False) -> None:
    async with writer.turn(record=record):
        await asyncio.sleep(0)
        done.append(who)


async def test_the_record_goes_before_all_who_wait() -> None:
    writer, done = Writer(), list[str]()
    async with writer.turn():
        waiting = [asyncio.create_task(write(writer, f"session {number}", done)) for number in range(3)]
        await asyncio.sleep(0)
        waiting += [asyncio.create_task(write(writer, f"record {number}", done, record=True)) for number in range(2)]
        await asyncio.sleep(0)
    await asyncio.gather(*waiting)
    assert done == ["record 0", "record 1", "session 0", "session 1", "session 2"]


async def test_there_is_one_at_a_time_and_nobody_is_left_behind() -> None:
    writer, done = Writer(), list[str]()
    for number in range(2):
        async with asyncio.TaskGroup() as group:
            for _ in range(20):
                group.create_task(write(writer, "session", done))
                group.create_task(write(writer, "record", done, record=True))
        assert len(done) == 40 * (number + 1)


async def test_who_leaves_while_waiting_passes_the_turn_on() -> None:
    writer, done = Writer(), list[str]()
    async with writer.turn():
        leaving, given_at_once, staying = [asyncio.create_task(write(writer, str(n), done)) for n in range(3)]
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.sleep(0)
    given_at_once.cancel()  # its turn has come, but it doesn't know yet
    await asyncio.gather(leaving, given_at_once, staying, return_exceptions=True)
    assert done == ["2"]
    await write(writer, "later", done)
    assert done == ["2", "later"]

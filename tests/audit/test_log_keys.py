"""The log's signing key is changed: both sign for a while, then the new one alone."""

from __future__ import annotations

import pytest

from broker.audit import integrating, log_keys
from broker.audit.integrating import integrate
from broker.audit.log_keys import BOTH_MS
from broker.base.clock import Millis, later, now_ms
from broker.base.db import EVERY_TENANT, Database
from broker.base.errors import Conflict
from broker.formats.signed_note import NoteRefused, opened
from tests.audit.test_integrating import put
from tests.support.past import signers

ORIGIN = signers(0).name


async def begin(db: Database, now: Millis) -> tuple[int, int]:
    async with db.write(EVERY_TENANT) as session:
        return await log_keys.begin(session, ORIGIN, now)


async def retire(db: Database, now: Millis) -> int | None:
    async with db.write(EVERY_TENANT) as session:
        old = await log_keys.retire(session, now)
        return None if old is None else old.good_to


async def signed_by(db: Database) -> list[int]:
    """The numbers of the keys whose signature the newest checkpoint has, after one more event."""
    await put(db, 1)
    await integrate(db, signers)
    async with db.read(EVERY_TENANT) as session:
        newest = await integrating.newest(session)
    assert newest is not None
    found = []
    for number in range(4):
        try:
            opened(newest.note, signers(0, number).verifier())
            found.append(number)
        except NoteRefused:
            pass
    return found


async def test_both_keys_sign_for_thirty_days_and_then_the_new_one_alone(db: Database) -> None:
    assert await signed_by(db) == [0]
    now = now_ms()
    assert await begin(db, now) == (0, 1)
    assert await signed_by(db) == [0, 1]
    assert await retire(db, later(now, BOTH_MS - 1)) is None
    assert await signed_by(db) == [0, 1]
    assert await retire(db, later(now, BOTH_MS)) == 3
    assert await retire(db, later(now, BOTH_MS)) is None
    assert await signed_by(db) == [1]
    # and so on
    again = later(now, BOTH_MS)
    assert await begin(db, again) == (1, 2)
    assert await signed_by(db) == [1, 2]
    assert await retire(db, later(again, BOTH_MS)) == 5
    async with db.read(EVERY_TENANT) as session:
        assert [row.good_to for row in await log_keys.keys(session, ORIGIN)] == [3, 5, None]


async def test_a_second_change_waits_for_the_first(db: Database) -> None:
    await begin(db, now_ms())
    with pytest.raises(Conflict, match="30 days"):
        await begin(db, now_ms())


async def test_a_key_that_was_never_changed_is_never_retired(db: Database) -> None:
    assert await retire(db, now_ms()) is None
    assert await signed_by(db) == [0]
    assert await retire(db, later(now_ms(), 2 * BOTH_MS)) is None
    assert await signed_by(db) == [0]

"""Which master keys values need, asked of the database: as the bytes say, by index, in stretches."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator

import pytest
from sqlalchemy import LargeBinary, insert, literal, select

import broker.tables  # noqa: F401 - every table declares its sealed columns
from broker.base.db import EVERY_TENANT, Database
from broker.formats.envelope import Envelope
from broker.formats.kv_reference import Reference
from broker.keystore.columns import SealedColumn, sealed_columns
from broker.keystore.held import counted, held_in, kek_in, last_of_stretch
from broker.keystore.keyring import kek_of
from broker.keystore.keystore import CannotOpen
from broker.web.tables import IdempotencyRow
from tests.support.sent import plan_of

PLACES = [column for column in sealed_columns() if not column.own]
# The beginning of a key's parts; None is a number.
KEYS = {
    "credential_versions": (f"crd_{'0' * 31}", None),
    "idempotency": ("account", "key"),
    "intakes": (f"int_{'0' * 31}",),
    "internal_keys": ("root",),
    "signing_keys": ("key",),
    "webhooks": (f"whk_{'0' * 31}",),
}
ANSWERS = next(place for place in PLACES if place.table is IdempotencyRow)


def values() -> Iterator[bytes]:
    """Values of every form and many lengths, and bytes that no keystore made."""
    rnd = random.Random(1)
    for length in (*range(1, 65), 64):
        kek_id = "".join(rnd.choices("abcdefghijklmnopqrstuvwxyz0123456789/.-", k=length))
        wrapped = rnd.choice([0, 1, 60, 90, 255, 256, 300])
        envelope = Envelope(kek_id, rnd.randbytes(wrapped), rnd.randbytes(12), rnd.randbytes(rnd.randrange(16, 99)))
        yield envelope.encode()
        path = "p" * rnd.choice([1, 90, 255, 256, 257, 512])
        yield Reference(path, rnd.randrange(1, 2**32), rnd.randbytes(16), envelope.encode()).encode()
    whole = envelope.encode()
    within = Reference("path", 7, bytes(16), whole).encode()
    yield from (whole[:cut] for cut in range(3))
    yield from (within[:cut] for cut in range(3 + len("path") + 20 + 3))
    yield from (bytes((first, *rnd.randbytes(40))) for first in (0, 3, 255))
    yield bytes((1, 0)) + bytes(80)


def by_its_bytes(value: bytes) -> str:
    try:
        return kek_of(value)
    except CannotOpen:
        return ""


async def stored(db: Database) -> list[bytes]:
    kept = list(values())
    rows = [
        {
            "principal_id": "p",
            "key": f"{n:04d}",
            "request_hash": "",
            "status": 1,
            "answer_sealed": value,
            "expires_at": 0,
        }
        for n, value in enumerate(kept)
    ]
    async with db.write(EVERY_TENANT) as session:
        await session.execute(insert(IdempotencyRow), rows)
    return kept


async def test_the_database_reads_the_same_master_key_in_a_value_as_the_broker(db: Database) -> None:
    kept = await stored(db)
    async with db.read(EVERY_TENANT) as session:
        query = select(kek_in(IdempotencyRow.answer_sealed)).order_by(IdempotencyRow.key)
        found = [(kek_id or b"").decode() for kek_id in await session.scalars(query)]
    assert found == [by_its_bytes(value) for value in kept]
    assert len(set(found)) > 60


async def test_a_value_that_was_cut_off_keeps_its_master_key(db: Database) -> None:
    whole = Envelope("2026-11", bytes(60), bytes(12), bytes(40)).encode()
    cut = [whole[:length] for length in range(2 + len("2026-11"), len(whole))]
    assert {by_its_bytes(one) for one in cut} == {"", "2026-11"}
    async with db.read(EVERY_TENANT) as session:
        assert {await session.scalar(select(kek_in(literal(one, LargeBinary)))) for one in cut} == {b"2026-11"}


async def test_values_are_counted_in_stretches_and_none_twice(db: Database) -> None:
    kept = await stored(db)
    whole = await held_in(db, [ANSWERS])
    for rows in (1, 7, len(kept), len(kept) + 1):
        assert await held_in(db, [ANSWERS], stretch=rows) == whole
    assert whole == [(ANSWERS, Counter(map(by_its_bytes, kept)))]


@pytest.mark.parametrize("place", PLACES, ids=lambda place: f"{place.table.__tablename__}.{place.sealed.key}")
async def test_a_stretch_is_found_and_counted_by_the_key_of_its_table(db: Database, place: SealedColumn) -> None:
    name = place.table.__tablename__
    after, up_to = ([number if part is None else f"{part}{number}" for part in KEYS[name]] for number in (1, 2))
    for query in (last_of_stretch(place, tuple(after), 9), counted(place, tuple(after), tuple(up_to))):
        plan = await plan_of(db, query)
        assert "Seq Scan" not in plan, plan
        assert f"SCAN {name}" not in plan, plan
        assert f"pk_{name}" in plan or f"SEARCH {name} USING" in plan or "sqlite_autoindex" in plan, plan
        assert "Sort" not in plan, plan
        assert "TEMP B-TREE FOR ORDER BY" not in plan, plan


def test_every_row_of_a_column_has_values_of_one_purpose() -> None:
    assert {f"{place.table.__tablename__}.{place.sealed.key}": place.purpose for place in PLACES} == {
        "credential_versions.sealed": "credential",
        "idempotency.answer_sealed": "idempotency",
        "intakes.private_sealed": "intake",
        "internal_keys.sealed": "internal-root",
        "signing_keys.sealed": "access-token-signing",
        "webhooks.previous_sealed": "webhook-secret",
        "webhooks.secret_sealed": "webhook-secret",
        "webhooks.url_sealed": "webhook-url",
    }

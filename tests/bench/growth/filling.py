"""A database that is filled: what was made ready by a broker is kept, the rows of many customers come to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import update

from broker.audit import places
from broker.audit.indexing import follow
from broker.audit.tables import CursorRow, HeadRow
from broker.base.clock import now_ms
from broker.base.db import EVERY_TENANT, Database
from broker.keystore.internal import InternalKeys
from broker.keystore.keystore import Keystore
from broker.leases import use_days
from tests.bench.growth.load import loading
from tests.bench.growth.rows import PROVIDERS, Customers, Size


def declare(providers: Path) -> None:
    """Declare the other providers at the upstream of the first one, whose file is there."""
    first = (providers / f"{PROVIDERS[0]}.toml").read_text(encoding="utf-8")
    for name in PROVIDERS[1:]:
        (providers / f"{name}.toml").write_text(first.replace(f'id = "{PROVIDERS[0]}"', f'id = "{name}"', 1))


async def fill(db: Database, keystore: Keystore, keys: InternalKeys, size: Size, jwks: dict[str, Any]) -> Customers:
    """Put the rows of so many customers into a database that nobody writes to meanwhile.

    Args:
        db: a database with this version's schema.
        keystore: seals keys.
        keys: the broker's own.
        size: how many of each.
        jwks: public keys of the job that has a right to every customer's key.
    """
    async with db.read(EVERY_TENANT) as session:
        head = await session.get_one(HeadRow, 1)
    customers = Customers(size, keystore, keys, jwks, now_ms(), first_event=head.size)
    async with loading(db) as load:
        async for table, rows in customers.pieces():
            await load.rows(table, rows)
        await load.finish()
    async with db.write(EVERY_TENANT) as session:
        await session.execute(update(HeadRow).values(size=head.size + size.events, latest=now_ms()))
        await session.merge(CursorRow(name=use_days.CURSOR, next=head.size + size.events))
    await _index(db, head.size + size.events)
    return customers


async def _index(db: Database, size: int) -> None:
    """What the worker would have done by then."""
    for _ in range(0, size, places.BLOCK):
        await follow(db)

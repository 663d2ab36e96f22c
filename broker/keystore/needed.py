"""Keystores whose master keys values of this database needed at some time.

Values that were moved tell nothing of it any more.  A move destroys the old master keys of these keystores only, as
others may belong to somebody else.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from broker.base.clock import Millis
from broker.base.db import EVERY_TENANT, Database, Table, upsert


class NeededRow(Table):
    """A keystore by its name, and since when values were seen to need it."""

    __tablename__ = "needed_keystores"

    name: Mapped[str] = mapped_column(primary_key=True)
    since: Mapped[Millis]


async def remember(session: AsyncSession, names: Iterable[str], now: Millis) -> None:
    """Remember keystores that values need now."""
    for name in sorted(set(names)):
        await session.execute(upsert(session, NeededRow).values(name=name, since=now).on_conflict_do_nothing())


async def forget(session: AsyncSession, names: Iterable[str]) -> None:
    """Forget keystores whose master keys were destroyed."""
    await session.execute(delete(NeededRow).where(NeededRow.name.in_(list(names))))


async def remembered(db: Database) -> set[str]:
    """Names of keystores that values needed, and whose master keys were not destroyed since."""
    async with db.read(EVERY_TENANT) as session:
        return set(await session.scalars(select(NeededRow.name)))

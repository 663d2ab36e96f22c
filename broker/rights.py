"""Every row that gives rights: which ones the broker didn't write."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import select

from broker.base.clock import Millis
from broker.base.db import EVERY_TENANT, Database
from broker.credentials.tables import CredentialRow
from broker.formats.ids import NoId, OrganizationId
from broker.grants.tables import GrantRow
from broker.identity.tables import AccountRow, WorkloadRow
from broker.intake.tables import IntakeRow
from broker.keystore.genuine import GivesRights
from broker.leases.tables import LeaseRow
from broker.organizations.tables import OrganizationRow

_TABLES: Sequence[type[Any]] = (
    OrganizationRow,
    AccountRow,
    WorkloadRow,
    IntakeRow,
    CredentialRow,
    GrantRow,
    LeaseRow,
)
_PAGE = 500


class Altered(NamedTuple):
    """A row that something else than the broker wrote.

    ``organization`` is "" if the row is no tenant's.
    """

    table: str
    id: str
    organization: OrganizationId | NoId


async def altered(db: Database, now: Millis) -> AsyncIterator[Altered]:
    """Each such row; of leases only those that have not ended at ``now`` (milliseconds)."""
    async for rows in _pages(db, now):
        for row in rows:
            if not row.genuine:
                yield Altered(row.table_name, row.id, getattr(row, "organization_id", ""))


async def _pages(db: Database, now: Millis) -> AsyncIterator[Sequence[GivesRights]]:
    for table in _TABLES:
        after = ""
        while True:
            query = select(table).where(table.id > after).order_by(table.id).limit(_PAGE)
            if table is LeaseRow:
                query = query.where(LeaseRow.ended_at.is_(None), LeaseRow.until > now)
            async with db.read(EVERY_TENANT) as session:
                rows = (await session.scalars(query)).all()
            if not rows:
                break
            after = rows[-1].id
            yield rows

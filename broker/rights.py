"""Every row that gives rights: which ones the broker didn't write."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, select, tuple_
from sqlalchemy.orm import InstrumentedAttribute

from broker.base.clock import Millis
from broker.base.db import EVERY_TENANT, Database
from broker.credentials.tables import CredentialRow
from broker.formats.ids import NoId, OrganizationId
from broker.grants.tables import GrantRow
from broker.identity.oidc.tables import IdentityRow
from broker.identity.tables import AccountRow, LinkRow, PasskeyRow, SessionRow, WorkloadRow
from broker.intake.tables import IntakeRow
from broker.keystore.genuine import is_genuine
from broker.leases.tables import LeaseRow
from broker.organizations.tables import OrganizationRow

_TABLES: Sequence[type[Any]] = (
    OrganizationRow,
    AccountRow,
    PasskeyRow,
    WorkloadRow,
    IntakeRow,
    CredentialRow,
    GrantRow,
    LeaseRow,
    SessionRow,
    LinkRow,
    IdentityRow,
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
    for table in _TABLES:
        async for rows in _pages(db, table, now):
            for row in rows:
                if not is_genuine(db.row_key, table, row):
                    yield Altered(table.__tablename__, row["id"], row.get("organization_id", ""))


async def _pages(db: Database, table: type[Any], now: Millis) -> AsyncIterator[Sequence[dict[str, Any]]]:
    """What is authenticated of each row, without the ORM: there may be a million."""
    order: Sequence[InstrumentedAttribute[Any]] = (table.id,)
    which: Sequence[ColumnElement[bool]] = ()
    if table is LeaseRow:
        order, which = (LeaseRow.until, LeaseRow.id), (LeaseRow.until > now, LeaseRow.ended_at.is_(None))
    columns = [getattr(table, name) for name in (*table.AUTHENTICATED, "row_mac")]
    query = select(*columns).where(*which).order_by(*order).limit(_PAGE)
    after: tuple[Any, ...] | None = None
    while True:
        page = query if after is None else query.where(tuple_(*order) > after)
        async with db.read(EVERY_TENANT) as session:
            rows = [row._asdict() for row in await session.execute(page)]
        yield rows
        if len(rows) < _PAGE:
            return
        after = tuple(rows[-1][column.key] for column in order)

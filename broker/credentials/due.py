"""Which rows are due for a request to an upstream, and a fair share for each provider."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Select, SQLColumnExpression, and_, func, or_, select
from sqlalchemy.orm import aliased

from broker.base.clock import Millis
from broker.base.db import EVERY_TENANT, Database
from broker.base.validity import Validity
from broker.credentials.tables import CredentialRow, VersionRow
from broker.providers.catalog import Catalog

HOUR_MS = 3_600_000

# One round takes at least and at most so many of one provider.
FEWEST = 5
_MOST = 200
# In between it takes one in so many of those that wait, so that each has its turn within minutes.
_ONE_IN = 12


def is_due(at: Millis | None, now: Millis, window: int) -> bool:
    """Whether a moment has come (all in milliseconds).

    The moment was set at most ``window`` ahead.  None never comes.

    One that lies further ahead was set before the clock stepped back, and has come.
    """
    return at is not None and not now < at <= now + window


def where_due(at: SQLColumnExpression[int | None], now: Millis, window: int) -> ColumnElement[bool]:
    """As :func:`is_due`, of a column."""
    return or_(at <= now, at > now + window)


def declared(provider: SQLColumnExpression[str], catalog: Catalog) -> ColumnElement[bool]:
    """Whether that provider is declared.  The broker can ask no other one anything."""
    return provider.in_([definition.id for definition in catalog])


async def undeclared(db: Database, catalog: Catalog) -> dict[str, int]:
    """Providers that aren't declared any more, and how many credentials in force each still has."""
    query = (
        select(CredentialRow.provider, func.count())
        .where(CredentialRow.state == Validity.ACTIVE, ~declared(CredentialRow.provider, catalog))
        .group_by(CredentialRow.provider)
        .order_by(CredentialRow.provider)
    )
    async with db.read(EVERY_TENANT) as session:
        return {row[0]: row[1] for row in await session.execute(query)}


def fair_share(
    where: ColumnElement[bool], order: SQLColumnExpression[Any], *apart: SQLColumnExpression[Any]
) -> Select[VersionRow]:
    """Versions that meet ``where``, the first by ``order``; a share of each provider.

    So no provider starves another.

    ``apart`` splits a provider's versions further, each part with a share of its own.
    """
    parts = [VersionRow.provider, *apart]
    rank = func.row_number().over(partition_by=parts, order_by=order).label("rank")
    waiting = func.count().over(partition_by=parts).label("waiting")
    found = select(VersionRow, rank, waiting).where(where).subquery()
    share = or_(found.c.rank <= FEWEST, and_(found.c.rank <= _MOST, found.c.rank * _ONE_IN <= found.c.waiting))
    return select(aliased(VersionRow, found)).where(share).order_by(found.c.rank)

"""Which rows are due for a request to an upstream: the first of each provider."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from sqlalchemy import ColumnElement, SQLColumnExpression, and_, func, literal, or_, select, union_all

from broker.base.clock import Millis, later
from broker.base.db import EVERY_TENANT, Database
from broker.base.validity import Validity
from broker.credentials.tables import CredentialRow, RotationRow, VersionRow
from broker.providers.catalog import Catalog

HOUR_MS = 3_600_000


def is_due(at: Millis | None, now: Millis, window: int) -> bool:
    """Whether a moment has come (all in milliseconds).

    The moment was set at most ``window`` ahead.  None never comes.

    One that lies further ahead was set before the clock stepped back, and has come.
    """
    return at is not None and not now < at <= now + window


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


Row = TypeVar("Row", VersionRow, RotationRow)

_AT: Final = {VersionRow: VersionRow.next_probe_at, RotationRow: RotationRow.next_try_at}


@dataclass(frozen=True, slots=True)
class Span(Generic[Row]):
    """Versions or rotations in a state whose time has come.

    It lies after one moment and not after another.  None is no bound.
    """

    row: type[Row]
    state: str
    after: Millis | None
    until: Millis | None

    def of(self, provider: str) -> ColumnElement[bool]:
        """Which of a provider's rows these are."""
        bounds = [] if self.after is None else [self.at > self.after]
        bounds += [] if self.until is None else [self.at <= self.until]
        return and_(self.row.state == self.state, self.row.provider == provider, *bounds)

    @property
    def at(self) -> SQLColumnExpression[Millis | None]:
        """When a row is due."""
        return _AT[self.row]


def spans(row: type[Row], state: str, now: Millis, window: int) -> list[Span[Row]]:
    """The rows in a state for which :func:`is_due` is true."""
    return [Span(row, state, None, now), Span(row, state, later(now, window), None)]


async def providers(db: Database, catalog: Catalog, waiting: Sequence[Span[Row]]) -> list[str]:
    """Declared providers of which something waits.

    The broker can ask no other one anything.
    """
    asked = [
        select(literal(definition.id)).where(
            or_(*(select(literal(1)).where(span.of(definition.id)).exists() for span in waiting))
        )
        for definition in catalog
    ]
    async with db.read(EVERY_TENANT) as session:
        return list(await session.scalars(union_all(*asked))) if asked else []


async def first(db: Database, waiting: Sequence[Span[Row]], provider: str, limit: int) -> list[Row]:
    """A provider's rows that wait, those that are due the longest; so many of each span at most.

    Each span is read by its index and no further than that.  What is sealed is read of the versions that are taken.
    """
    found: list[Row] = []
    async with db.read(EVERY_TENANT) as session:
        for span in waiting:
            query = select(span.row).where(span.of(provider)).order_by(span.at).limit(limit)
            found += await session.scalars(query)
    return found

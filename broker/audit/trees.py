"""A tree over each organization's events, which grows with the log.

By it an organization can see that an export has all of its events (:mod:`broker.formats.export`), and nobody else's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.tables import OrganizationTreeRow
from broker.base.db import upsert
from broker.formats.ids import NoId, OrganizationId
from broker.formats.merkle import HASH_BYTES, Tree

_AT_ONCE: Final = 200


async def of_organizations(
    session: AsyncSession, added: Iterable[tuple[OrganizationId | NoId, bytes]]
) -> dict[OrganizationId, Tree]:
    """The trees of all organizations that some of these entries are of, without these."""
    row, found = OrganizationTreeRow, {organization: Tree() for organization, _ in added if organization}
    for some in _at_once(found):
        rows = await session.execute(
            select(row.organization_id, row.size, row.edge).where(row.organization_id.in_(some))
        )
        found |= {organization: tree(size, edge) for organization, size, edge in rows}
    return found


async def keep(session: AsyncSession, trees: Mapping[OrganizationId, Tree]) -> None:
    """Write the trees as they have become."""
    row = OrganizationTreeRow
    for some in _at_once(trees):
        grown = [
            {
                "organization_id": organization,
                "size": trees[organization].size,
                "edge": b"".join(trees[organization].edge),
            }
            for organization in some
        ]
        statement = upsert(session, row).values(grown)
        fresh = {"size": statement.excluded.size, "edge": statement.excluded.edge}
        await session.execute(statement.on_conflict_do_update(index_elements=[row.organization_id], set_=fresh))


def _at_once(named: Iterable[OrganizationId]) -> Iterator[list[OrganizationId]]:
    # In one order, so that no two writers wait for each other.
    ordered = sorted(named)
    return (ordered[at : at + _AT_ONCE] for at in range(0, len(ordered), _AT_ONCE))


def tree(size: int, edge: bytes) -> Tree:
    """The tree that a row keeps."""
    return Tree(size, cut(edge))


def cut(joined: bytes) -> list[bytes]:
    """The hashes that stand there one after the other."""
    return [joined[at : at + HASH_BYTES] for at in range(0, len(joined), HASH_BYTES)]

"""A tree over each organization's events, which grows with the log.

By it an organization can see that an export has all of its events (:mod:`broker.formats.export`), and nobody else's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.tables import OrganizationTreeRow
from broker.base.db import upsert
from broker.formats.ids import NoId, OrganizationId
from broker.formats.merkle import HASH_BYTES, Tree

_AT_ONCE: Final = 200


async def grow(session: AsyncSession, added: Sequence[tuple[OrganizationId | NoId, bytes]]) -> None:
    """Add entries, in the log's order, to the trees of the organizations that they are of."""
    entries: dict[OrganizationId, list[bytes]] = {}
    for organization, entry in added:
        if organization:
            entries.setdefault(organization, []).append(entry)
    row = OrganizationTreeRow
    named = sorted(entries)
    for at in range(0, len(named), _AT_ONCE):
        organizations = named[at : at + _AT_ONCE]
        found = await session.scalars(select(row).where(row.organization_id.in_(organizations)))
        kept = {each.organization_id: tree(each.size, each.edge) for each in found}
        grown = []
        for organization in organizations:
            larger = kept.get(organization) or Tree()
            for entry in entries[organization]:
                larger.add(entry)
            grown.append({"organization_id": organization, "size": larger.size, "edge": b"".join(larger.edge)})
        statement = upsert(session, row).values(grown)
        fresh = {"size": statement.excluded.size, "edge": statement.excluded.edge}
        await session.execute(statement.on_conflict_do_update(index_elements=[row.organization_id], set_=fresh))


def tree(size: int, edge: bytes) -> Tree:
    """The tree that a row keeps."""
    return Tree(size, cut(edge))


def cut(joined: bytes) -> list[bytes]:
    """The hashes that stand there one after the other."""
    return [joined[at : at + HASH_BYTES] for at in range(0, len(joined), HASH_BYTES)]

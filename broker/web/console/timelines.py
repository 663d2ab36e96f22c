"""What the timeline of a credential's versions shows beside the versions themselves."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.credentials.tables import CertificateRow


async def certified(session: AsyncSession, credentials: Iterable[str]) -> Mapping[tuple[str, int], Sequence[int]]:
    """The serials of the certificates of these credentials, by credential and version."""
    row, found = CertificateRow, defaultdict[tuple[str, int], list[int]](list)
    query = select(row.credential_id, row.version, row.serial).where(row.credential_id.in_(list(credentials)))
    for credential, version, serial in await session.execute(query.order_by(row.serial)):
        found[credential, version].append(serial)
    return found

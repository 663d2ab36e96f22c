"""Whether an exposure still asks something of people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum

from sqlalchemy import ColumnElement, exists, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.base.clock import Millis
from broker.credentials.lifecycle import State
from broker.credentials.tables import RotationRow, VersionRow
from broker.formats.ids import CredentialId, ExposureId, RotationId
from broker.incidents.tables import ExposureRow


class IncidentState(StrEnum):
    """Where an exposure stands.  The key is cut off here either way."""

    OPEN = "open"  # upstream may still take the key, or its replacement goes on
    CLOSED = "closed"


def over() -> ColumnElement[bool]:
    """The condition of exposures that are closed.

    The broker knows that upstream refuses the key, or can't ask any more because the key was destroyed; and the
    rotation that the exposure began has ended.
    """
    dead = exists().where(
        VersionRow.credential_id == ExposureRow.credential_id,
        VersionRow.number == ExposureRow.version,
        or_(VersionRow.confirmed_at.is_not(None), VersionRow.state == State.DESTROYED),
    )
    going_on = exists().where(RotationRow.id == ExposureRow.rotation_id, RotationRow.ended_at.is_(None))
    return dead & ~going_on


async def reported_at(session: AsyncSession, credential: CredentialId, version: int) -> Millis | None:
    """When a key was reported to be exposed, if it was."""
    row = ExposureRow
    query = select(row.reported_at).where(row.credential_id == credential, row.version == version)
    return await session.scalar(query)


async def replaced_by(session: AsyncSession, rotation: RotationId, credential: CredentialId) -> Sequence[int]:
    """The versions of a credential that this rotation replaces because they were exposed."""
    row = ExposureRow
    query = select(row.version).where(row.credential_id == credential, row.rotation_id == rotation)
    return (await session.scalars(query.order_by(row.version))).all()


async def states_of(session: AsyncSession, rows: Sequence[ExposureRow]) -> Mapping[ExposureId, IncidentState]:
    """The states that these exposures show."""
    ids = [row.id for row in rows]
    closed = set(await session.scalars(select(ExposureRow.id).where(ExposureRow.id.in_(ids), over()))) if ids else set()
    return {each: IncidentState.CLOSED if each in closed else IncidentState.OPEN for each in ids}

"""Retire old keys once nobody can have them any more, or their rotation's deadline has come."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.events import BROKER
from broker.base.clock import Clock, Millis
from broker.base.db import EVERY_TENANT, Database, Scope
from broker.credentials import rotation
from broker.credentials.lifecycle import State
from broker.credentials.rotation_lifecycle import RotationState
from broker.credentials.tables import RotationRow, VersionRow
from broker.formats.ids import CredentialId
from broker.grants.policy import Mode
from broker.leases.access_holders import stands
from broker.leases.tables import LeaseRow, UseRow
from broker.rotations import commands


async def retirable(db: Database, clock: Clock, limit: int = 50) -> Sequence[RotationRow]:
    """Rotations whose old key can retire now: nobody holds it, or its deadline has come.

    A rotation whose new key the upstream refuses is left to an operator.
    """
    now = clock()
    # rotation (12) old keys that no job has, or whose deadline has come
    old = (VersionRow.credential_id == RotationRow.credential_id) & (VersionRow.state == State.RETIRING)
    late = RotationRow.retire_by <= now
    async with db.read(EVERY_TENANT) as session:
        query = (
            select(RotationRow)
            .join(VersionRow, old)
            .where(RotationRow.state == RotationState.GRACE, RotationRow.grace_until <= now, late | ~_held(now))
        )
        return list(await session.scalars(query.order_by(RotationRow.retire_by).limit(limit)))


async def retire(db: Database, clock: Clock, known: RotationRow) -> None:
    """Retire a rotation's old key, if that can still be done."""
    async with db.write(Scope.of(known.organization_id)) as session:
        row = await rotation.find(session, known.id)
        now = clock()
        if row.state != RotationState.GRACE or row.retire_by is None:
            return
        if now >= row.retire_by:
            await commands.retire(session, BROKER, row, "deadline", now=now)
        elif not await _is_held(session, row.credential_id, now):
            await commands.retire(session, BROKER, row, "not_held", now=now)


async def _is_held(session: AsyncSession, credential_id: CredentialId, now: Millis) -> bool:
    old = VersionRow.credential_id == credential_id, VersionRow.state == State.RETIRING
    return await session.scalar(select(VersionRow.number).where(*old, _held(now))) is not None


def _held(now: Millis) -> ColumnElement[bool]:
    """Whether a job may still have a version's key, or a call with it is under way."""
    shown = select(LeaseRow.id).where(
        LeaseRow.credential_id == VersionRow.credential_id,
        LeaseRow.version == VersionRow.number,
        LeaseRow.mode == Mode.REVEAL,
        stands(now),
    )
    called = select(UseRow.id).where(
        UseRow.credential_id == VersionRow.credential_id,
        UseRow.version == VersionRow.number,
    )
    return shown.exists() | called.exists()

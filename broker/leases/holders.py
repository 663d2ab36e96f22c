"""Who still holds a version of a key, who used it, and when it can therefore retire."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, case, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.events import BROKER
from broker.base.clock import Clock
from broker.base.db import EVERY_TENANT, Database, Scope
from broker.credentials import rotation
from broker.credentials.lifecycle import State
from broker.credentials.tables import RotationRow, VersionRow
from broker.grants.policy import Mode
from broker.identity.tables import WorkloadRow
from broker.leases.tables import LeaseRow, UseRow


@dataclass(frozen=True, slots=True)
class Holder:
    """One workload and one version.  ``open_reveals`` are leases that showed the key and still run.

    ``holds_until`` is when the last of its open leases ends (milliseconds).  ``reveals`` is how often it was ever shown
    the key, ``last_revealed`` when last: a copy outlives its lease.
    """

    workload: str
    name: str
    open_leases: int
    open_reveals: int
    holds_until: int | None
    reveals: int
    last_revealed: int | None
    open_uses: int
    uses: int
    last_use: int | None


async def holders(session: AsyncSession, credential_id: str, number: int, *, now: int) -> Sequence[Holder]:
    """Every workload that ever leased or used this version, those that still hold it first."""
    stands = _stands(now)
    reveals = LeaseRow.mode == Mode.REVEAL
    leased = await session.execute(
        select(
            LeaseRow.workload_id,
            func.sum(case((stands, 1), else_=0)),
            func.sum(case((stands & reveals, 1), else_=0)),
            func.max(case((stands, LeaseRow.expires_at), else_=None)),
            func.sum(case((reveals, 1), else_=0)),
            func.max(case((reveals, LeaseRow.issued_at), else_=None)),
        )
        .where(LeaseRow.credential_id == credential_id, LeaseRow.version == number)
        .group_by(LeaseRow.workload_id)
    )
    used = await session.execute(
        select(
            UseRow.workload_id,
            func.sum(case((UseRow.completed_at.is_(None), 1), else_=0)),
            func.count(),
            func.max(UseRow.authorized_at),
        )
        .where(UseRow.credential_id == credential_id, UseRow.version == number)
        .group_by(UseRow.workload_id)
    )
    leases = {workload: tuple(row) for workload, *row in leased}
    uses = {workload: tuple(row) for workload, *row in used}
    workloads = {*leases, *uses}
    named = await session.execute(select(WorkloadRow.id, WorkloadRow.name).where(WorkloadRow.id.in_(workloads)))
    names = {row[0]: row[1] for row in named}
    found = [
        Holder(workload, names.get(workload, ""), *leases.get(workload, _NO_LEASE), *uses.get(workload, _NO_USE))
        for workload in workloads
    ]
    return sorted(
        found,
        key=lambda one: (
            -one.open_reveals,
            -one.open_uses,
            -max(one.last_use or 0, one.last_revealed or 0),
            one.workload,
        ),
    )


_NO_LEASE = (0, 0, None, 0, None)
_NO_USE = (0, 0, None)


async def retirable(db: Database, clock: Clock, limit: int = 50) -> Sequence[RotationRow]:
    """Rotations whose old key can retire now: nobody holds it any more, or its deadline has come.

    One whose new key upstream refuses is left to an operator.
    """
    now = clock()
    old = (VersionRow.credential_id == RotationRow.credential_id) & (VersionRow.state == State.RETIRING)
    late = RotationRow.retire_by <= now
    async with db.read(EVERY_TENANT) as session:
        query = (
            select(RotationRow)
            .join(VersionRow, old)
            .where(RotationRow.state == "grace", RotationRow.grace_until <= now, late | ~_held(now))
        )
        return list(await session.scalars(query.order_by(RotationRow.retire_by).limit(limit)))


async def retire(db: Database, clock: Clock, known: RotationRow) -> None:
    """Retire a rotation's old key, if that can still be done."""
    async with db.write(Scope.of(known.organization_id)) as session:
        row = await rotation.find(session, known.id)
        now = clock()
        if row.state != "grace" or row.retire_by is None:
            return
        if now >= row.retire_by:
            await rotation.retire(session, BROKER, row, "deadline", now=now)
        elif not await _is_held(session, row.credential_id, now):
            await rotation.retire(session, BROKER, row, "not_held", now=now)


async def _is_held(session: AsyncSession, credential_id: str, now: int) -> bool:
    old = VersionRow.credential_id == credential_id, VersionRow.state == State.RETIRING
    return await session.scalar(select(VersionRow.number).where(*old, _held(now))) is not None


def _held(now: int) -> ColumnElement[bool]:
    """Whether a job may still have a version's key, or a call with it is under way."""
    shown = select(LeaseRow.id).where(
        LeaseRow.credential_id == VersionRow.credential_id,
        LeaseRow.version == VersionRow.number,
        LeaseRow.mode == Mode.REVEAL,
        _stands(now),
    )
    called = select(UseRow.id).where(
        UseRow.credential_id == VersionRow.credential_id,
        UseRow.version == VersionRow.number,
        UseRow.completed_at.is_(None),
    )
    return shown.exists() | called.exists()


def _stands(now: int) -> ColumnElement[bool]:
    return LeaseRow.ended_at.is_(None) & (LeaseRow.expires_at > now)

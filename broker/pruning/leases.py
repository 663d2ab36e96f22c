"""Leases that are over, their guards, and numbers of quotas."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Select, and_, delete, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.tables import GuardRow, QuotaRow
from broker.base.clock import Millis
from broker.base.pruning import Key
from broker.credentials.tables import VersionRow
from broker.formats import ids
from broker.formats.ids import GrantId, LeaseId
from broker.grants.policy import Mode
from broker.grants.tables import GrantRow
from broker.incidents.shown import IncidentState, states_of
from broker.incidents.tables import ExposureRow
from broker.leases.tables import LeaseRow
from broker.pruning.keeping import before, end_of, page_of, rest_of

# Longer than any process takes a lease for standing whose time is over, whatever its clock shows.
_GUARD_DAYS = 1
# Longer than any rate or upstream's patience looks back.
_QUOTA_DAYS = 1
_LEASE_IDS = (ids.of(LeaseId, bytes(16)), ids.of(LeaseId, b"\xff" * 16))

# By the time of their issue, for which there is an index: a lease is over a day later at most.
_BY = (LeaseRow.issued_at, LeaseRow.id)


@dataclass(frozen=True, slots=True)
class Leases:
    """Deletes leases whose last possible moment is ``days`` ago.

    Of a key that may be used still, those that showed it stay: they tell who may have a copy.  So do all of a key that
    was exposed, while the incident is open and for ``days`` after it was reported: its timeline names them.
    """

    days: int

    async def page(self, session: AsyncSession, after: Key | None, now: Millis) -> Key | None:
        past = before(now, self.days)
        rows = (await session.execute(page_of(_BY, after, _over(past)))).all()
        page = [row[1] for row in rows]
        kept = await _of_incidents(session, page, past)
        gone = await rest_of(session, (lease for lease in page if lease not in kept), shown_and_in_use(page, past))
        await session.execute(delete(LeaseRow).where(LeaseRow.id.in_(gone)))
        await session.execute(delete(GuardRow).where(GuardRow.id.in_(gone)))
        return end_of(rows)


def _over(past: Millis) -> ColumnElement[bool]:
    return and_(LeaseRow.issued_at < past, LeaseRow.until < past)


def shown_and_in_use(page: list[LeaseId], past: Millis) -> Select[LeaseId]:
    """Leases that showed a key which was not destroyed by then."""
    return (
        select(LeaseRow.id)
        .join(
            VersionRow, and_(VersionRow.credential_id == LeaseRow.credential_id, VersionRow.number == LeaseRow.version)
        )
        .where(
            LeaseRow.id.in_(page),
            LeaseRow.mode == Mode.REVEAL,
            or_(VersionRow.destroyed_at.is_(None), VersionRow.destroyed_at >= past),
        )
    )


def with_incident(page: list[LeaseId]) -> Select[LeaseId, ExposureRow]:
    """Leases of keys that were exposed, with the incidents."""
    same = ExposureRow.credential_id == LeaseRow.credential_id, ExposureRow.version == LeaseRow.version
    return select(LeaseRow.id, ExposureRow).join(ExposureRow, and_(*same)).where(LeaseRow.id.in_(page))


async def _of_incidents(session: AsyncSession, page: list[LeaseId], past: Millis) -> set[LeaseId]:
    found = (await session.execute(with_incident(page))).all()
    states = await states_of(session, list({exposure.id: exposure for _, exposure in found}.values()))
    return {
        lease for lease, exposure in found if exposure.reported_at >= past or states[exposure.id] is IncidentState.OPEN
    }


async def guards(session: AsyncSession, after: Key | None, now: Millis) -> Key | None:
    """Delete epochs of leases whose last possible moment is a day ago.

    Without a row an epoch is 0, at which a lease stands.  So the row stays until time alone refuses the lease.
    """
    first, last = _LEASE_IDS
    named = page_of((GuardRow.id,), after, GuardRow.id >= first, GuardRow.id <= last)
    rows = (await session.execute(named)).all()
    leases = [LeaseId(row[0]) for row in rows]
    stay = select(LeaseRow.id).where(LeaseRow.id.in_(leases), LeaseRow.until >= before(now, _GUARD_DAYS))
    await session.execute(delete(GuardRow).where(GuardRow.id.in_(await rest_of(session, leases, stay))))
    return end_of(rows)


async def quotas(session: AsyncSession, after: Key | None, now: Millis) -> Key | None:
    """Delete numbers that decide nothing more.

    These are numbers of uses of grants that were revoked, and times that have passed: no row means none.
    """
    rows = (await session.execute(page_of((QuotaRow.id,), after))).all()
    past = before(now, _QUOTA_DAYS)
    names = [str(row[0]) for row in rows]
    counted = [name for name in names if name.endswith("/uses")]
    grants = {GrantId(name.removesuffix("/uses")) for name in counted}
    standing = or_(GrantRow.revoked_at.is_(None), GrantRow.revoked_at >= past)
    stay = set(await session.scalars(select(GrantRow.id).where(GrantRow.id.in_(grants), standing)))
    await _delete(session, [name for name in counted if name.removesuffix("/uses") not in stay])
    await _delete(session, [name for name in names if name.endswith("/pause")], QuotaRow.value < past)
    await _delete(session, [name for name in names if name.endswith("/rate")], QuotaRow.value < past * 1_000)
    return end_of(rows)


async def _delete(session: AsyncSession, names: list[str], *wanted: ColumnElement[bool]) -> None:
    if names:
        await session.execute(delete(QuotaRow).where(QuotaRow.id.in_(names), *wanted))

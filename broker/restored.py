"""Go on with a database that was restored from a backup.

What it brings back can't all be known.  So nothing goes on that was under way, and people look through the rest.

One transaction ends every lease and open link, makes every decision be taken again, suspends ``reveal`` until somebody
has confirmed what there is, begins a new series of the record's index, and says on the record what was lost.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from sqlalchemy import delete, func, literal, select, true, update
from sqlalchemy.ext.asyncio import AsyncSession

from broker.app import Broker
from broker.audit import series
from broker.audit.events import BROKER, Event
from broker.audit.guards import drawn_epoch
from broker.audit.record import record
from broker.audit.tables import EventRow, GuardRow, HeadRow, SeriesRow
from broker.base.clock import Millis, rfc3339
from broker.base.db import EVERY_TENANT, Database, upsert
from broker.base.errors import Invalid
from broker.base.id_column import IdText
from broker.base.validity import Validity
from broker.credentials.tables import CredentialRow, VersionRow
from broker.grants.tables import GrantRow
from broker.identity.federation.tables import TrustRow
from broker.identity.tables import AccountRow, BootstrapRow, WorkloadRow
from broker.intake.lifecycle import IntakeState, IntakeStep, close
from broker.intake.tables import IntakeRow
from broker.leases.tables import LeaseRow
from broker.notifications.notices import notify
from broker.organizations.tables import OrganizationRow

_WHY = "database_restored"


@dataclass(frozen=True, slots=True)
class Restored:
    """What was done: the new series, the range of lost numbers, and what was ended.

    ``lost_to`` is None if nothing told it.
    """

    began_at: Millis
    base: int
    lost_to: int | None
    leases: int
    links: int


async def size(db: Database) -> int:
    """How many events the database holds, whatever its schema."""
    async with db.read(EVERY_TENANT) as session:
        return await session.scalar(select(HeadRow.size)) or 0


async def go_on(broker: Broker, base: int, since: Millis) -> Restored:
    """Begin a new series at ``base``, the number of events that the backup held.

    The backup was made at ``since`` (ms).

    Raises:
        Invalid: the database holds events from after ``since``, or ``since`` is still to come.
    """
    services = broker.services
    now, kept = services.parts.clock(), await broker.heads.furthest()
    async with services.parts.db.write(EVERY_TENANT) as session:
        await _refuse_wrong_time(session, base, since, now)
        lost_to = max(base, kept.size) if kept is not None else None
        before = await series.latest(session)
        # A clock that was ahead may have named a series that began later than now, in this history or in a lost one.
        known = (before.began_at if before is not None else 0, kept.series if kept is not None else 0)
        began_at = Millis(max(now, *(name + 1 for name in known)))
        session.add(SeriesRow(began_at=began_at, base=base, lost_to=lost_to, since=since, confirmed_at=None))
        leases = await _end_leases(session, now)
        links = await _close_links(session, now)
        await session.execute(delete(BootstrapRow))
        await _raise_every_epoch(session)
        lost = "" if lost_to is None else f",lost_to={lost_to}"
        reason = f"series={began_at},since={rfc3339(since)},base={base}{lost}"
        await notify(
            session,
            "database_restored",
            organization="",
            provider="",
            now=now,
            facts={"since": rfc3339(since), "lost": "an unknown number of" if lost_to is None else lost_to - base},
        )
        await record(
            session,
            *links,
            Event(kind="database.restored", time=now, actor=BROKER, reason=reason, note=f"{leases} leases ended"),
        )
    await broker.heads.replace()
    return Restored(began_at, base, lost_to, leases, len(links))


async def confirm(broker: Broker) -> bool:
    """Let keys be shown again, as people have looked through what the backup brought back.

    False if nothing waited.
    """
    services = broker.services
    now = services.parts.clock()
    async with services.parts.db.write(EVERY_TENANT) as session:
        waiting = update(SeriesRow).where(SeriesRow.confirmed_at.is_(None)).values(confirmed_at=now)
        rows = (await session.scalars(waiting.returning(SeriesRow.began_at))).all()
        if not rows:
            return False
        reason = ",".join(f"series={began_at}" for began_at in sorted(rows))
        await record(session, Event(kind="database.restore_confirmed", time=now, actor=BROKER, reason=reason))
    return True


async def to_confirm(db: Database) -> AsyncIterator[dict[str, str]]:
    """What the backup holds as being in force, each with its id.

    Somebody may have ended it since.
    """
    async with db.read(EVERY_TENANT) as session:
        operators = select(AccountRow).where(AccountRow.state == Validity.ACTIVE).order_by(AccountRow.name)
        for operator in await session.scalars(operators):
            yield {"what": "operator", "id": operator.id, "name": operator.name, "of": ", ".join(operator.roles)}
        workloads = select(WorkloadRow).where(WorkloadRow.state == Validity.ACTIVE).order_by(WorkloadRow.name)
        for workload in await session.scalars(workloads):
            yield {"what": "job", "id": workload.id, "name": workload.name, "of": ""}
        trusts = (
            select(TrustRow, WorkloadRow.name)
            .join(WorkloadRow, WorkloadRow.id == TrustRow.workload_id)
            .where(TrustRow.state == Validity.ACTIVE)
            .order_by(WorkloadRow.name, TrustRow.id)
        )
        for trust, job in await session.execute(trusts):
            yield {"what": "trust", "id": trust.id, "name": job, "of": trust.issuer}
        grants = (
            select(GrantRow, WorkloadRow.name, OrganizationRow.slug)
            .join(WorkloadRow, WorkloadRow.id == GrantRow.workload_id)
            .join(OrganizationRow, OrganizationRow.id == GrantRow.organization_id)
            .where(GrantRow.state == Validity.ACTIVE)
            .order_by(WorkloadRow.name, OrganizationRow.slug)
        )
        for grant, job, slug in await session.execute(grants):
            counted = f", {grant.max_uses} uses counted anew from what the backup has" if grant.max_uses else ""
            given = f"{'/'.join(grant.modes)} of {slug}/{grant.provider}{counted}"
            yield {"what": "grant", "id": grant.id, "name": job, "of": given}
        keys = (
            select(VersionRow, CredentialRow, OrganizationRow.slug)
            .join(CredentialRow, CredentialRow.id == VersionRow.credential_id)
            .join(OrganizationRow, OrganizationRow.id == VersionRow.organization_id)
            .where(CredentialRow.state == Validity.ACTIVE, VersionRow.sealed.is_not(None))
            .order_by(OrganizationRow.slug, CredentialRow.provider, CredentialRow.label, VersionRow.number)
        )
        for version, credential, slug in await session.execute(keys):
            place = f"{slug}/{credential.provider}/{credential.label}"
            yield {"what": f"{version.state} key", "id": credential.id, "name": f"…{version.last4}", "of": place}


async def _refuse_wrong_time(session: AsyncSession, base: int, since: Millis, now: Millis) -> None:
    last = await session.scalar(select(EventRow.time).where(EventRow.idx == base - 1))
    # RFC 3339 as people write it has no milliseconds.  A later time than now is of a clock that was ahead.
    if last is not None and since + 1000 <= last <= now:
        raise Invalid(
            f"--since: the database holds events until {rfc3339(last)}; give the time at which the backup ended."
        )
    if since > now:
        raise Invalid(
            "--since: is still to come; give the time at which the backup was made, such as 2026-11-23T09:00:00Z."
        )


async def _end_leases(session: AsyncSession, now: Millis) -> int:
    ended = update(LeaseRow).where(LeaseRow.ended_at.is_(None)).values(ended_at=now, end_reason=_WHY)
    standing = await session.scalar(select(func.count()).where(LeaseRow.ended_at.is_(None), LeaseRow.expires_at > now))
    await session.execute(ended)
    return standing or 0


async def _close_links(session: AsyncSession, now: Millis) -> list[Event]:
    events = []
    for row in await session.scalars(select(IntakeRow).where(IntakeRow.state == IntakeState.OPEN).with_for_update()):
        close(row, IntakeStep.EXPIRE, now)
        events.append(Event.about(row, "intake.expired", BROKER, now, reason=_WHY))
    return events


async def _raise_every_epoch(session: AsyncSession) -> None:
    """Give a fresh epoch to everything that decisions rely on.

    What a process or a row remembers is outdated.
    """
    await session.flush()
    fresh = drawn_epoch()
    relied_on = (OrganizationRow, WorkloadRow, GrantRow, CredentialRow, LeaseRow)
    for relied in (*[IdText(row.id) for row in relied_on], GuardRow.id):
        every = select(relied, literal(fresh)).where(true())
        statement = upsert(session, GuardRow).from_select(["id", "epoch"], every)
        await session.execute(
            statement.on_conflict_do_update(index_elements=[GuardRow.id], set_={"epoch": statement.excluded.epoch})
        )

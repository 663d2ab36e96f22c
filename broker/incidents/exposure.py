"""A key was exposed: cut it off, ask for a new one, notify people, watch it die.

All of this begins in one transaction.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import ColumnElement, and_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.events import Actor, Event
from broker.audit.guards import raise_epoch
from broker.audit.record import record
from broker.base.clock import Millis
from broker.base.errors import Invalid, NotFound
from broker.base.validity import Validity
from broker.credentials import rotation
from broker.credentials.lifecycle import State
from broker.credentials.masking import Masking
from broker.credentials.notices import notify_of
from broker.credentials.rotation import Plan
from broker.credentials.tables import CredentialRow, VersionRow
from broker.credentials.versions import Versions, get_credential, serves, versions_of
from broker.formats import ids
from broker.formats.ids import CredentialId, ExposureId
from broker.incidents.tables import ExposureRow
from broker.leases.tables import LeaseRow
from broker.parts import Parts
from broker.rotations import commands
from broker.rotations.requests import Asking, Rotating


@dataclass(frozen=True, slots=True)
class Found:
    """Who found which version of a key where.  ``version`` None is the one in use.

    ``since`` is from when on the key may have been out (milliseconds); None from when it was received.
    """

    version: int | None
    found_by: str
    where: str
    since: Millis | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Exposed:
    """What was done.

    ``link`` is the intake and secret of the customer's new link, if one was made.
    """

    exposure: ExposureRow
    link: tuple[str, str] | None


async def expose(
    session: AsyncSession,
    parts: Parts,
    rotating: Rotating,
    actor: Actor,
    credential_id: CredentialId,
    found: Found,
    *,
    now: Millis,
) -> Exposed:
    """Cut an exposed key off.  Idempotent.

    Raises:
        NotFound: no such version.
        Invalid: ``since`` lies ahead, or a text holds what looks like a key.
    """
    credential = await get_credential(session, credential_id)
    versions = await versions_of(session, credential_id)
    row = _which(versions, found.version)
    _check(parts, versions.values(), found, now)
    known = await session.scalar(
        select(ExposureRow).where(ExposureRow.credential_id == credential_id, ExposureRow.version == row.number)
    )
    if known is not None:
        return Exposed(known, None)
    was_active = row.state == State.ACTIVE
    events = await _revoke(session, actor, versions, row, now)
    exposure = _row(row, actor, found, now)
    session.add(exposure)
    link = None
    if credential.state == Validity.ACTIVE and (was_active or not serves(versions.values())):
        link = await _ask_for_a_new_key(session, rotating, actor, credential, exposure, now)
    await _notify(session, parts, credential, row, exposure, now)
    await record(
        session,
        Event.about(
            row,
            "credential.exposed",
            actor,
            now,
            subject=exposure.id,
            reason="exposed",
            note=f"found by {exposure.found_by}, {exposure.found_where}",
        ),
        *events,
    )
    # Done while it holds the record's head, as batches do: the other way round each could wait for the other.
    await _end_leases(session, row, now)
    return Exposed(exposure, link)


def _which(versions: dict[int, VersionRow], number: int | None) -> VersionRow:
    if number is None:
        active = next((row for row in versions.values() if row.state == State.ACTIVE), None)
        found = active or (versions[max(versions)] if versions else None)
    else:
        found = versions.get(number)
    if found is None:
        raise NotFound("This credential has no such version; `broker key list` shows those it has.")
    return found


def _check(parts: Parts, versions: Iterable[VersionRow], found: Found, now: Millis) -> None:
    if found.since is not None and found.since > now:
        raise Invalid("since: lies ahead; name the time from which the key may have been out.")
    said = f"{found.found_by} {found.where} {found.note}"
    if Masking(parts.catalog, parts.keys).masked(said, versions) != said:
        raise Invalid("where: holds what looks like a key; say where it was found, without the key itself.")


async def _revoke(session: AsyncSession, actor: Actor, versions: Versions, row: VersionRow, now: Millis) -> list[Event]:
    """Cut the version off; its request can take another key.

    Returns:
        What happened, for the caller to record, last of all.
    """
    if row.state in {State.REVOKED, State.DESTROYED}:
        # Leases that never saw it go on with the next key: they don't end with the version, so each is cut off.
        open_ones = select(LeaseRow.id).where(_is_open(row, now))
        await raise_epoch(session, row.credential_id, *await session.scalars(open_ones))
        if row.sealed is not None:
            row.next_probe_at = now
        return []
    return await commands.revoke(session, actor, versions, row.number, reason="exposed", now=now)


async def _end_leases(session: AsyncSession, row: VersionRow, now: Millis) -> None:
    """End the open leases.

    The raised epochs make every call look again, and find its lease ended.
    """
    ended = {"ended_at": now, "end_reason": "lease.revoked"}
    await session.execute(update(LeaseRow).where(_is_open(row, now)).values(ended))


def _is_open(row: VersionRow, now: Millis) -> ColumnElement[bool]:
    return and_(
        LeaseRow.credential_id == row.credential_id,
        LeaseRow.version == row.number,
        LeaseRow.ended_at.is_(None),
        LeaseRow.expires_at > now,
    )


def _row(row: VersionRow, actor: Actor, found: Found, now: Millis) -> ExposureRow:
    return ExposureRow(
        id=ids.new(ids.ExposureId),
        organization_id=row.organization_id,
        credential_id=row.credential_id,
        version=row.number,
        provider=row.provider,
        found_by=found.found_by,
        found_where=found.where,
        note=found.note,
        since=row.staged_at if found.since is None else found.since,
        reported_by=actor.id,
        reported_at=now,
        rotation_id=None,
    )


async def _ask_for_a_new_key(
    session: AsyncSession,
    rotating: Rotating,
    actor: Actor,
    credential: CredentialRow,
    exposure: ExposureRow,
    now: Millis,
) -> tuple[str, str] | None:
    """Begin an urgent rotation; the intake and secret of its link, if a new one was made.

    A rotation that is under way becomes urgent, and a link that still works goes on working.

    A rotation that waits for the provider's API to make its key is cancelled, as no key in force could make it.
    """
    running = await rotation.open_of(session, credential.id)
    if running is not None and (running.intake_id is not None or running.activated_at is not None):
        exposure.rotation_id = running.id
        if running.intake_id is None:  # its kind says who deletes what it made upstream
            return None
        running.kind = "urgent"
        return await rotating.link_again(session, actor, running, now=now)
    if running is not None:
        await commands.cancel(session, actor, running.id, reason="the key was exposed", now=now)
    plan = Plan("urgent", "the key was exposed", grace_minutes=0, deadline_hours=0)
    opened, intake, secret = await rotating.ask(session, actor, credential, plan, Asking(), now=now, notified=False)
    exposure.rotation_id = opened.id
    return intake.id, secret


async def _notify(
    session: AsyncSession,
    parts: Parts,
    credential: CredentialRow,
    row: VersionRow,
    exposure: ExposureRow,
    now: Millis,
) -> None:
    await notify_of(
        session,
        "key_exposed",
        credential,
        version=row.number,
        now=now,
        dedup=f"key_exposed/{exposure.id}",
        facts={
            "last4": row.last4,
            "exposure": exposure.id,
            "revoke_steps": "\n".join(parts.catalog.get(row.provider).admin.revoke),
        },
    )


async def find(session: AsyncSession, exposure_id: ExposureId) -> ExposureRow:
    """The exposure of that id; raises NotFound."""
    row = await session.scalar(select(ExposureRow).where(ExposureRow.id == exposure_id))
    if row is None:
        raise NotFound("There is no such exposure for you; `broker incident list` shows those that are.")
    return row

"""Revoke a whole credential, or an organization; nobody uses its keys from the commit on."""

from __future__ import annotations

from sqlalchemy import ColumnElement, select, true
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.events import BROKER, Actor, Event
from broker.audit.guards import raise_epoch
from broker.audit.record import record
from broker.base import validity
from broker.base.clock import Clock, Millis
from broker.base.db import EVERY_TENANT, Database, Scope
from broker.base.pruning import PAGE
from broker.base.validity import Validity
from broker.credentials import rotation
from broker.credentials.lifecycle import State
from broker.credentials.moves import revoke_or_purge
from broker.credentials.notices import notify_of
from broker.credentials.tables import CredentialRow
from broker.credentials.versions import get_credential, versions_of
from broker.formats.ids import CredentialId, OrganizationId, Reference
from broker.organizations import commands as organizations
from broker.organizations.tables import OrganizationRow


async def revoke_credential(
    session: AsyncSession, actor: Actor, credential_id: CredentialId, *, reason: str, now: Millis, why: str = ""
) -> CredentialRow:
    """Revoke a credential and all its versions, for good.  Idempotent.

    ``why`` is a word for the record, ``reason`` a person's own.
    """
    credential = await get_credential(session, credential_id)
    if ended := await _end(session, actor, credential, reason=reason, why=why, now=now):
        await record(session, *ended)
    return credential


async def _end(
    session: AsyncSession, actor: Actor, credential: CredentialRow, *, reason: str, why: str, now: Millis
) -> list[Event]:
    versions = await versions_of(session, credential.id)
    left = [number for number, row in versions.items() if row.state not in {State.REVOKED, State.DESTROYED}]
    if credential.state == Validity.REVOKED and not left:
        return []
    validity.revoke(credential, now)
    await raise_epoch(session, credential.id)
    # The active one goes last: if it went first, the retiring one would serve again.
    for number in sorted(left, key=lambda number: versions[number].state == State.ACTIVE):
        await revoke_or_purge(session, versions, number, now=now)
    ended = await rotation.cancelled_with_credential(session, actor, credential.id, now=now)
    return [Event.about(credential, "credential.revoked", actor, now, reason=why, note=reason), *ended]


async def revoke_organization(
    session: AsyncSession, actor: Actor, reference: Reference, *, reason: str, now: Millis
) -> OrganizationRow:
    """Revoke an organization, for good, and every credential of it.  Idempotent."""
    row = await organizations.find(session, reference)
    await session.refresh(row, with_for_update=True)
    if row.state == Validity.REVOKED:
        return row
    events = await _end_all(session, actor, row.id, now)
    return await organizations.revoke(session, actor, reference, reason=reason, now=now, also=events)


async def revoke_rest(db: Database, clock: Clock) -> None:
    """Revoke credentials that a revoked organization still has.

    They came into being during its revocation, or before a revocation took credentials along.
    """
    credential = select(CredentialRow.id).where(
        CredentialRow.organization_id == OrganizationRow.id, CredentialRow.state == Validity.ACTIVE
    )
    rest: ColumnElement[bool] | None = true()
    while rest is not None:
        gone = select(OrganizationRow.id).where(OrganizationRow.state == Validity.REVOKED, rest)
        page = gone.order_by(OrganizationRow.id).limit(PAGE).subquery()
        async with db.read(EVERY_TENANT) as session:
            last = await session.scalar(select(page.c.id).offset(PAGE - 1))
            left = select(OrganizationRow.id).where(OrganizationRow.id.in_(select(page.c.id)), credential.exists())
            found = list(await session.scalars(left))
        for organization in found:
            while await _end_some(db, organization, clock()):
                pass
        rest = None if last is None else OrganizationRow.id > last


async def _end_some(db: Database, organization: OrganizationId, now: Millis, limit: int = 50) -> bool:
    """Revoke some of an organization's credentials; whether there may be more."""
    async with db.write(Scope.of(organization)) as session:
        ended = await _end_all(session, BROKER, organization, now, limit)
        if ended:
            await record(session, *ended)
    return bool(ended)


async def _end_all(
    session: AsyncSession, actor: Actor, organization: OrganizationId, now: Millis, limit: int | None = None
) -> list[Event]:
    query = select(CredentialRow).where(
        CredentialRow.organization_id == organization, CredentialRow.state == Validity.ACTIVE
    )
    events = []
    for credential in list(await session.scalars(query.order_by(CredentialRow.id).limit(limit))):
        events += await _end(session, actor, credential, reason="", why="organization_revoked", now=now)
    return events


async def withdraw(session: AsyncSession, actor: Actor, credential_id: CredentialId, *, now: Millis) -> CredentialRow:
    """The customer takes their key back: a revocation, recorded as theirs.  Idempotent."""
    credential = await get_credential(session, credential_id)
    await versions_of(session, credential_id)
    if credential.state == Validity.REVOKED:
        return credential
    await notify_of(session, "key_withdrawn", credential, now=now)
    return await revoke_credential(session, actor, credential_id, reason="", why="withdrawn", now=now)

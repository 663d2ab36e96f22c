"""Create, find and cut off organizations."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sqlalchemy import ColumnElement, select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.events import Actor, Event
from broker.audit.guards import raise_epoch
from broker.audit.record import record
from broker.base import validity
from broker.base.clock import Millis
from broker.base.errors import Conflict, Invalid, NotFound
from broker.base.validity import Validity
from broker.formats import ids
from broker.formats.ids import OrganizationId, Reference
from broker.organizations.tables import OrganizationRow

_SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


class UnknownOrganization(NotFound):
    """No such organization is visible to the caller."""

    code = "unknown_organization"


async def create(session: AsyncSession, actor: Actor, *, slug: str, name: str, now: Millis) -> OrganizationRow:
    """A new organization.

    Raises:
        Invalid: the slug is not lower-case letters, digits and inner dashes, or slug or name has the form of an id.
        Conflict: the slug is taken.
    """
    if not _SLUG.fullmatch(slug):
        raise Invalid("slug: use 1 to 63 lower-case letters, digits and inner dashes, for example acme-power.")
    for field, given in (("slug", slug), ("name", name)):
        _refuse_id(field, given)
    if await session.scalar(select(OrganizationRow.id).where(OrganizationRow.slug == slug)):
        raise Conflict(f"slug: an organization {slug!r} exists already; choose another.")
    row = OrganizationRow(
        id=ids.new(ids.OrganizationId), slug=slug, name=name, state=Validity.ACTIVE, created_at=now, revoked_at=None
    )
    session.add(row)
    await record(session, Event.about(row, "organization.created", actor, now, note=f"{slug}: {name}"))
    return row


def _refuse_id(field: str, given: str) -> None:
    if ids.is_like_an_id(given):
        raise Invalid(f"{field}: has the form of an id; choose another.")


def referred(reference: Reference | OrganizationId) -> ColumnElement[bool]:
    """The condition that a row is the organization of that id or slug.

    What has the form of an id is never a slug.
    """
    return (OrganizationRow.id if ids.is_id(reference, ids.OrganizationId) else OrganizationRow.slug) == reference


async def find(session: AsyncSession, reference: Reference | OrganizationId) -> OrganizationRow:
    """The organization of that id or slug.

    Raises:
        UnknownOrganization: there is none inside the session's scope. RowAltered: its name or slug may be another's.
    """
    row = await _get(session, reference)
    row.vouched_for()
    return row


async def id_of(session: AsyncSession, reference: Reference) -> OrganizationId | None:
    """The id of the organization of that id or slug; None if the session sees none."""
    return await session.scalar(select(OrganizationRow.id).where(referred(reference)))


async def sought(session: AsyncSession, reference: Reference | None) -> OrganizationId | None:
    """The id of the organization that a list is narrowed by; None if by none.

    Raises:
        As :func:`find`.
    """
    return None if reference is None else (await find(session, reference)).id


async def _get(session: AsyncSession, reference: Reference | OrganizationId) -> OrganizationRow:
    row = await session.scalar(select(OrganizationRow).where(referred(reference)))
    if row is None:
        raise UnknownOrganization("There is no such organization for you; `broker org list` shows those that are.")
    return row


async def find_active(session: AsyncSession, reference: Reference) -> OrganizationRow:
    """The organization of that id or slug, which is not cut off.

    Raises:
        As :func:`find`. Conflict: it is cut off.
    """
    row = await find(session, reference)
    if row.state != Validity.ACTIVE:
        raise Conflict(f"Organization {row.slug!r} was cut off; nothing new can be made for it.", state=row.state)
    return row


async def set_policy(
    session: AsyncSession, actor: Actor, reference: Reference, *, rotation_days: int | None, now: Millis
) -> OrganizationRow:
    """Decide after how many days an organization's keys have to be replaced.

    None leaves it to each provider.
    """
    row = await find(session, reference)
    row.rotation_days = rotation_days
    note = f"rotation_days={rotation_days}"
    await record(session, Event.about(row, "organization.policy_changed", actor, now, note=note))
    return row


async def rename(
    session: AsyncSession, actor: Actor, reference: Reference, *, name: str, now: Millis
) -> OrganizationRow:
    """Correct an organization's name, as people read it.  Idempotent.

    The slug stays, as commands and jobs name the organization by it.

    Raises:
        As :func:`find`. Invalid: the name has the form of an id.
    """
    _refuse_id("name", name)
    row = await find(session, reference)
    if row.name != name:
        note = f"{row.name} -> {name}"
        row.name = name
        await record(session, Event.about(row, "organization.renamed", actor, now, note=note))
    return row


async def revoke(
    session: AsyncSession, actor: Actor, reference: Reference, *, reason: str, now: Millis, also: Sequence[Event] = ()
) -> OrganizationRow:
    """Cut an organization off.  Idempotent.

    There is no lease, use, intake or reveal under it from the commit on.  ``also`` goes on the record with it: what was
    cut off along with the organization.
    """
    row = await _get(session, reference)
    if validity.revoke(row, now):
        await raise_epoch(session, row.id)
        await record(session, Event.about(row, "organization.revoked", actor, now, note=reason), *also)
    return row

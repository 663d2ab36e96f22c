"""When keys in use have to be replaced.

Their rows follow what organizations and providers say.

A move of a version and a credential's own policy date the key themselves, see :mod:`broker.credentials.age`.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.base.db import EVERY_TENANT
from broker.base.validity import Validity
from broker.credentials.age import date
from broker.credentials.lifecycle import State
from broker.credentials.tables import CredentialRow, VersionRow
from broker.formats.ids import OrganizationId
from broker.organizations.tables import OrganizationRow
from broker.parts import Parts

# So many keys are dated in one transaction.
PAGE = 500


async def date_of_organization(session: AsyncSession, organization: OrganizationId) -> None:
    """Date the keys of an organization, after its policy changed."""
    await session.flush()
    inside = CredentialRow.organization_id == organization, CredentialRow.state == Validity.ACTIVE
    held = select(CredentialRow).where(*inside).order_by(CredentialRow.id).with_for_update()
    await _date(session, list(await session.scalars(held.execution_options(populate_existing=True))))


async def date_keys(parts: Parts) -> None:
    """Date the keys whose provider names another interval since, and those never dated."""
    intervals = {one.id: one.rotation.interval_days for one in parts.catalog if one.rotation is not None}
    provider = ""
    while True:
        # Each provider that has keys, one after the other: an index knows the next name.
        names = select(func.min(CredentialRow.provider)).where(
            CredentialRow.state == Validity.ACTIVE, CredentialRow.provider > provider
        )
        async with parts.db.read(EVERY_TENANT) as session:
            following = await session.scalar(names)
        if following is None:
            return
        provider = following
        while await _date_some(parts, provider, intervals.get(provider, 0)):
            pass


async def _date_some(parts: Parts, provider: str, days: int) -> bool:
    """Date a page of a provider's keys; whether there were any."""
    dated, row = CredentialRow.provider_days, CredentialRow
    for outdated in (dated.is_(None), dated < days, dated > days):
        query = select(row).where(row.state == Validity.ACTIVE, row.provider == provider, outdated)
        async with parts.db.write(EVERY_TENANT) as session:
            held = list(await session.scalars(query.limit(PAGE).with_for_update(skip_locked=True)))
            for credential in held:
                credential.provider_days = days
            await _date(session, held)
        if held:
            return True
    return False


async def _date(session: AsyncSession, held: Sequence[CredentialRow]) -> None:
    """Date the keys of these credentials.

    They are locked: nobody moves their versions meanwhile.
    """
    active = select(VersionRow).where(
        VersionRow.credential_id.in_([credential.id for credential in held]), VersionRow.state == State.ACTIVE
    )
    versions = {version.credential_id: version for version in await session.scalars(active)}
    owners = select(OrganizationRow.id, OrganizationRow.rotation_days).where(
        OrganizationRow.id.in_({credential.organization_id for credential in held})
    )
    intervals = {row[0]: row[1] for row in await session.execute(owners)}
    for credential in held:
        credential.organization_days = intervals.get(credential.organization_id)
        date(credential, [versions[credential.id]] if credential.id in versions else [])

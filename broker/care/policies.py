"""Decide how old keys may become: a credential's, or all of an organization's."""

from __future__ import annotations

from typing import Literal, NamedTuple

from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.events import Actor, Event
from broker.audit.guards import raise_epoch
from broker.audit.record import record
from broker.base.clock import Millis
from broker.base.errors import Invalid
from broker.care.age import date_of_organization
from broker.credentials.age import date
from broker.credentials.tables import CredentialRow
from broker.credentials.versions import get_credential, versions_of
from broker.formats.ids import CredentialId, Reference
from broker.organizations import commands as organizations
from broker.organizations.tables import OrganizationRow


class Age(NamedTuple):
    """When a new key is asked for, and what happens to one that is too old.

    A new key is asked for after ``rotation_days``.  One older than ``max_age_days`` is only listed, or refused.
    """

    rotation_days: int | None
    max_age_days: int | None
    on_max_age: Literal["warn", "refuse"]


async def of_credential(
    session: AsyncSession, actor: Actor, credential_id: CredentialId, age: Age, *, now: Millis
) -> CredentialRow:
    """Set a credential's own policy.

    Raises:
        Invalid: old keys should be refused, but nobody says from which age on.
    """
    if age.on_max_age == "refuse" and age.max_age_days is None:
        raise Invalid("max_age_days: name the age from which a key is to be refused.")
    credential = await get_credential(session, credential_id)
    versions = await versions_of(session, credential_id)
    credential.rotation_days, credential.max_age_days, credential.on_max_age = age
    date(credential, versions.values())
    await raise_epoch(session, credential_id)
    days = f"rotation_days={age.rotation_days} max_age_days={age.max_age_days}"
    kind = "credential.policy_changed"
    await record(session, Event.about(credential, kind, actor, now, reason=age.on_max_age, note=days))
    return credential


async def of_organization(
    session: AsyncSession, actor: Actor, reference: Reference, *, rotation_days: int | None, now: Millis
) -> OrganizationRow:
    """Decide after how many days an organization's keys have to be replaced.

    None leaves it to each provider.

    Raises:
        UnknownOrganization, RowAltered: as :func:`broker.organizations.commands.find`.
    """
    row = await organizations.set_policy(session, actor, reference, rotation_days=rotation_days, now=now)
    await date_of_organization(session, row.id)
    return row

"""How old a key may become: the interval that counts, and which keys are due.

The interval is the credential's own, else its organization's, else its provider's.  A key is due once it has passed, or
the credential's maximum age is reached, whichever comes first.  A key's age counts from the moment it was received.
"""

from __future__ import annotations

from sqlalchemy import ColumnElement, Select, case, func, literal, or_, select

from broker.base.clock import DAY_MS, Millis
from broker.base.validity import Validity
from broker.credentials.lifecycle import State
from broker.credentials.tables import CredentialRow, RotationRow, VersionRow
from broker.organizations.tables import OrganizationRow
from broker.providers.catalog import Catalog


def interval_days(catalog: Catalog) -> ColumnElement[int]:
    """The rotation interval in force for a credential row, in days; NULL if nobody named one."""
    declared = [
        (CredentialRow.provider == definition.id, literal(definition.rotation.interval_days))
        for definition in catalog
        if definition.rotation is not None
    ]
    of_provider: ColumnElement[int] = case(*declared, else_=None) if declared else literal(None)
    return func.coalesce(CredentialRow.rotation_days, OrganizationRow.rotation_days, of_provider)


def due_at(catalog: Catalog) -> ColumnElement[Millis]:
    """When the active key has to be replaced, in milliseconds; NULL if nothing limits its age."""
    interval, most = interval_days(catalog), CredentialRow.max_age_days
    first = case((or_(most.is_(None), interval <= most), interval), else_=most)
    return VersionRow.staged_at + first * DAY_MS


def too_old_at() -> ColumnElement[Millis]:
    """When the active key reaches its maximum age, in milliseconds; NULL if there is none."""
    return VersionRow.staged_at + CredentialRow.max_age_days * DAY_MS


def with_active_keys() -> Select[CredentialRow]:
    """Credentials joined to their active version and organization, to filter further."""
    return (
        select(CredentialRow)
        .join(VersionRow, VersionRow.credential_id == CredentialRow.id)
        .join(OrganizationRow, OrganizationRow.id == CredentialRow.organization_id)
        .where(
            CredentialRow.state == Validity.ACTIVE,
            VersionRow.state == State.ACTIVE,
            OrganizationRow.state == Validity.ACTIVE,
        )
    )


def without_open_rotation() -> ColumnElement[bool]:
    """Whether nobody is changing the credential's key just now."""
    return ~(
        select(RotationRow.id)
        .where(RotationRow.credential_id == CredentialRow.id, RotationRow.ended_at.is_(None))
        .exists()
    )

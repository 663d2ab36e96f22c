"""How old a key may become: the interval that counts, and which keys are due.

The interval is the credential's own, else its organization's, else its provider's.  A key's age counts from the moment
it was received.
"""

from __future__ import annotations

from sqlalchemy import ColumnElement, Select, case, func, literal, select

from broker.credentials.lifecycle import State
from broker.credentials.tables import CredentialRow, RotationRow, VersionRow
from broker.organizations.tables import OrganizationRow
from broker.providers.catalog import Catalog

DAY_MS = 86_400_000


def interval_days(catalog: Catalog) -> ColumnElement[int]:
    """The rotation interval in force for a credential row, in days; NULL where nobody named one."""
    declared = [
        (CredentialRow.provider == definition.id, literal(definition.rotation.interval_days))
        for definition in catalog
        if definition.rotation is not None
    ]
    of_provider: ColumnElement[int] = case(*declared, else_=None) if declared else literal(None)
    return func.coalesce(CredentialRow.rotation_days, OrganizationRow.rotation_days, of_provider)


def due_at(catalog: Catalog) -> ColumnElement[int]:
    """When the active key is to be replaced, in milliseconds."""
    return VersionRow.staged_at + interval_days(catalog) * DAY_MS


def with_active_keys() -> Select[CredentialRow]:
    """Credentials joined to their active version and organization, to filter further."""
    return (
        select(CredentialRow)
        .join(VersionRow, VersionRow.credential_id == CredentialRow.id)
        .join(OrganizationRow, OrganizationRow.id == CredentialRow.organization_id)
        .where(CredentialRow.state == "active", VersionRow.state == State.ACTIVE, OrganizationRow.state == "active")
    )


def without_open_rotation() -> ColumnElement[bool]:
    """Whether nobody is changing the credential's key just now."""
    return ~(
        select(RotationRow.id)
        .where(RotationRow.credential_id == CredentialRow.id, RotationRow.ended_at.is_(None))
        .exists()
    )

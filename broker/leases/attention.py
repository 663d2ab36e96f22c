"""Which keys need somebody's attention."""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import Select, select

from broker.base.clock import DAY_MS, Millis
from broker.base.validity import Validity
from broker.care import age
from broker.credentials.lifecycle import Health, State
from broker.credentials.tables import CredentialRow, VersionRow
from broker.leases.tables import LeaseRow
from broker.providers.catalog import Catalog


class Selection(StrEnum):
    """What a list of keys is limited to."""

    DUE_SOON = "due_soon"  # to be replaced within the days that customers are asked ahead
    OVERDUE = "overdue"
    NEVER_USED = "never_used"  # nobody ever leased it
    FAILING = "failing"
    UNREACHABLE = "unreachable"
    GONE = "gone"
    PAUSED = "paused"
    ROTATING = "rotating"
    AWAITING_REVOCATION = "awaiting_revocation"  # out of use here, perhaps not dead at the upstream


def selected(only: Selection, catalog: Catalog, now: Millis, *, ahead_days: int) -> Select[CredentialRow]:
    """The credentials of a selection at ``now`` (milliseconds)."""
    due = age.due_at(catalog)
    active = age.with_active_keys()
    if only is Selection.DUE_SOON:
        return active.where(due > now, due <= now + ahead_days * DAY_MS)
    if only is Selection.OVERDUE:
        return active.where(due <= now)
    if only is Selection.NEVER_USED:
        return active.where(~select(LeaseRow.id).where(LeaseRow.credential_id == CredentialRow.id).exists())
    if only in {Selection.FAILING, Selection.UNREACHABLE, Selection.GONE}:
        return active.where(VersionRow.health == Health(only.value))
    if only is Selection.PAUSED:
        return select(CredentialRow).where(CredentialRow.paused_at.is_not(None), CredentialRow.state == Validity.ACTIVE)
    if only is Selection.ROTATING:
        return select(CredentialRow).where(~age.without_open_rotation())
    awaiting = select(VersionRow.number).where(
        VersionRow.credential_id == CredentialRow.id,
        VersionRow.state == State.REVOKED,
        VersionRow.confirmed_at.is_(None),
    )
    return select(CredentialRow).where(awaiting.exists())

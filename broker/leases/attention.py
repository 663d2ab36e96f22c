"""Which keys need somebody's attention."""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import ColumnElement, and_, exists

from broker.base.clock import DAY_MS, Millis
from broker.base.paging import Filter, Way, found, looked_at
from broker.base.validity import Validity
from broker.credentials.lifecycle import Health, State
from broker.credentials.tables import CredentialRow, RotationRow, VersionRow


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


# These come in the order of the times by which their keys have to be replaced.
BY_DUE_TIME = frozenset({Selection.DUE_SOON, Selection.OVERDUE})


def selected(only: Selection, now: Millis, *, ahead_days: int) -> Filter:
    """The filter of the credentials of a selection at ``now`` (milliseconds)."""
    row, version, rotation = CredentialRow, VersionRow, RotationRow
    in_force = row.state == Validity.ACTIVE
    if only is Selection.DUE_SOON:
        return found(row.due_at > now, row.due_at <= now + ahead_days * DAY_MS)
    if only is Selection.OVERDUE:
        return found(row.due_at <= now)
    if only is Selection.NEVER_USED:
        unused = row.used_at.is_(None), in_force
        return Filter(and_(*unused, _has(version.state == State.ACTIVE)), (Way(unused),), whole=False)
    if only is Selection.PAUSED:
        return found(row.paused_at.is_not(None), in_force)
    if only is Selection.ROTATING:
        under_way = rotation.ended_at.is_(None)
        condition = exists().where(rotation.credential_id == row.id, under_way)
        return Filter(condition, (Way((under_way,), (rotation.credential_id,)),))
    if only is Selection.AWAITING_REVOCATION:
        awaiting = version.state == State.REVOKED, version.confirmed_at.is_(None)
        return Filter(_has(*awaiting), (Way(awaiting, (version.credential_id,)),))
    ill = version.state == State.ACTIVE, version.health == Health(only.value), version.health != Health.HEALTHY
    return Filter(and_(in_force, _has(*ill)), (Way(ill, (version.credential_id,)),), whole=False)


def _has(*conditions: ColumnElement[bool]) -> ColumnElement[bool]:
    """Whether a credential has such a version."""
    return exists().where(VersionRow.credential_id == CredentialRow.id, looked_at(*conditions))

"""When a key in use has to be replaced.

The interval that counts is the credential's own, else its organization's, else its provider's.  A key is due once that
has passed, or the credential's maximum age is reached, whichever comes first.  Its age counts from the moment it was
received.
"""

from __future__ import annotations

from collections.abc import Iterable

from broker.base.clock import DAY_MS, Millis, later
from broker.credentials.lifecycle import State
from broker.credentials.tables import CredentialRow, VersionRow


def date(credential: CredentialRow, versions: Iterable[VersionRow]) -> None:
    """Note on the row when the key in use has to be replaced.

    Call it after a move of a version or a change of a policy.
    """
    days, most = interval_days(credential), credential.max_age_days
    first = min((each for each in (days, most) if each is not None), default=None)
    active = next((version for version in versions if version.state == State.ACTIVE), None)
    credential.due_at = None if active is None or first is None else later(active.staged_at, first * DAY_MS)


def interval_days(credential: CredentialRow) -> int | None:
    """The rotation interval in force, in days; None if nobody named one."""
    named = credential.rotation_days, credential.organization_days, credential.provider_days or None
    return next((each for each in named if each is not None), None)


def too_old_at(credential: CredentialRow, version: VersionRow) -> Millis | None:
    """When the version reaches the credential's maximum age; None if there is none."""
    most = credential.max_age_days
    return None if most is None else later(version.staged_at, most * DAY_MS)

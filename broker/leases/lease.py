"""A lease as a value: its row, and the events about it."""

from __future__ import annotations

from operator import attrgetter
from typing import NamedTuple

from broker.audit.events import Fields
from broker.base.clock import Millis
from broker.formats.ids import CredentialId, GrantId, LeaseId, OrganizationId, WorkloadId
from broker.grants.policy import AccessTarget, Mode
from broker.keystore.genuine import row_mac
from broker.leases.tables import LeaseRow


class Lease(NamedTuple):
    """A lease as it is now.

    Its fields are its row's columns.  Times are milliseconds since the epoch.
    """

    id: LeaseId
    organization_id: OrganizationId
    workload_id: WorkloadId
    grant_id: GrantId
    credential_id: CredentialId
    version: int
    provider: str
    label: str
    mode: Mode
    purpose: str
    issued_at: Millis
    expires_at: Millis
    until: Millis
    ended_at: Millis | None = None
    end_reason: str = ""
    via: str | None = None
    jkt: str | None = None

    @property
    def target(self) -> AccessTarget:
        """Whose request for which key it answers."""
        return AccessTarget(self.workload_id, self.organization_id, self.provider, self.label)

    @property
    def stood_on(self) -> dict[str, int]:
        """The guards of what its access token stood on beside the workload.

        They are at their first epochs, or have ended.
        """
        return dict.fromkeys((self.via or "").split(), 0)

    def stands(self, now: Millis) -> bool:
        """Whether it was neither ended nor has expired; what it relies on is the guards' question."""
        return self.ended_at is None and self.expires_at > now

    def row(self, key: bytes) -> dict[str, object]:
        """The values of its row, authenticated under ``key``."""
        # lease (8) its row, which only the broker can make
        row = self._asdict()
        row["row_mac"] = row_mac(key, LeaseRow, row)
        return row

    def event_fields(self) -> Fields:
        return {
            "organization": self.organization_id,
            "credential": self.credential_id,
            "version": self.version,
            "provider": self.provider,
            "workload": self.workload_id,
            "grant": self.grant_id,
            "lease": self.id,
            "mode": self.mode,
        }


_columns = attrgetter(*Lease._fields)


def lease_of(row: LeaseRow) -> Lease:
    """The lease of a row.

    ``expires_at``, which is not authenticated, goes no further than ``until``, which is.
    """
    lease = Lease._make(_columns(row))
    return lease._replace(mode=Mode(row.mode), expires_at=min(row.expires_at, row.until))

"""A lease as a value: its row, and the events about it."""

from __future__ import annotations

from typing import NamedTuple

from broker.audit.events import Fields
from broker.grants.policy import AccessTarget, Mode
from broker.keystore.genuine import row_mac
from broker.leases.tables import LeaseRow


class Lease(NamedTuple):
    """A lease as it is now.  Times are milliseconds since the epoch."""

    id: str
    organization: str
    workload: str
    grant: str
    credential: str
    version: int
    provider: str
    label: str
    mode: Mode
    purpose: str
    issued_at: int
    expires_at: int
    until: int
    ended_at: int | None = None
    end_reason: str = ""

    @property
    def target(self) -> AccessTarget:
        """Whose request for which key it answers."""
        return AccessTarget(self.workload, self.organization, self.provider, self.label)

    def stands(self, now: int) -> bool:
        """Whether it was neither ended nor has expired; what it relies on is the guards' question."""
        return self.ended_at is None and self.expires_at > now

    def event_fields(self) -> Fields:
        return {
            "organization": self.organization,
            "credential": self.credential,
            "version": self.version,
            "provider": self.provider,
            "workload": self.workload,
            "grant": self.grant,
            "lease": self.id,
            "mode": self.mode,
        }


def row_of(lease: Lease, key: bytes) -> dict[str, object]:
    """The values of its row, authenticated under ``key``."""
    row = lease._asdict()
    row["mode"] = str(lease.mode)
    for column, field in (
        ("organization_id", "organization"),
        ("workload_id", "workload"),
        ("grant_id", "grant"),
        ("credential_id", "credential"),
    ):
        row[column] = row.pop(field)
    row["row_mac"] = row_mac(key, LeaseRow, row)
    return row


def lease_of(row: LeaseRow) -> Lease:
    """The lease of a row."""
    return Lease(
        id=row.id,
        organization=row.organization_id,
        workload=row.workload_id,
        grant=row.grant_id,
        credential=row.credential_id,
        version=row.version,
        provider=row.provider,
        label=row.label,
        mode=Mode(row.mode),
        purpose=row.purpose,
        issued_at=row.issued_at,
        expires_at=min(row.expires_at, row.until),
        until=row.until,
        ended_at=row.ended_at,
        end_reason=row.end_reason,
    )

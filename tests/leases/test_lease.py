"""A lease as a value, and its row."""

from __future__ import annotations

from broker.base.clock import Millis, later
from broker.base.db import table
from broker.formats.ids import CredentialId, GrantId, LeaseId, OrganizationId, WorkloadId
from broker.grants.policy import Mode
from broker.leases.lease import Lease, lease_of
from broker.leases.tables import LeaseRow

LEASE = Lease(
    LeaseId("lse_1"),
    OrganizationId("org_1"),
    WorkloadId("wkl_1"),
    GrantId("grt_1"),
    CredentialId("crd_1"),
    2,
    "raptor-comply",
    "default",
    Mode.USE,
    "nightly",
    Millis(1_000),
    Millis(2_000),
    Millis(3_000),
)
KEY = bytes(32)


def test_the_fields_of_a_lease_are_the_columns_of_its_row() -> None:
    columns = [column.name for column in table(LeaseRow).columns if column.name != "row_mac"]
    assert sorted(Lease._fields) == sorted(columns)


def test_a_lease_is_read_from_its_row_as_it_was_written() -> None:
    row = LeaseRow(**LEASE.row(KEY))
    row.check(KEY)
    assert row.genuine
    read = lease_of(row)
    assert read == LEASE
    assert read.mode is Mode.USE


def test_a_lease_ends_when_its_authenticated_time_does_whatever_its_row_says() -> None:
    row = LeaseRow(**LEASE.row(KEY))
    row.expires_at = later(LEASE.until, 1)
    assert lease_of(row).expires_at == LEASE.until

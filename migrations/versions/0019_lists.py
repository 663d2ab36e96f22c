"""Every list is read by an index, whatever narrows it; when keys have to be replaced is noted with them.

Safe online: columns that are empty are added, and indexes, each without a lock.  The worker dates the keys, in pages.
Indexes of leases are made under a lock.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from alembic import op

revision: str = "0019"
down_revision: str | Sequence[str] | None = "0017"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_NEW = ("organization_days", "provider_days", "due_at", "used_at")
# By table: name, columns, and the rows of a partial one.
_INDEXES: tuple[tuple[str, str, list[str], str | None], ...] = (
    ("credentials", "ix_credentials_organization", ["organization_id", "id"], None),
    ("credentials", "ix_credentials_provider", ["provider", "id"], None),
    ("credentials", "ix_credentials_label", ["label", "id"], None),
    ("credentials", "ix_credentials_active", ["id"], "state = 'active'"),
    ("credentials", "ix_credentials_revoked", ["id"], "state = 'revoked'"),
    ("credentials", "ix_credentials_due", ["due_at", "id"], "due_at IS NOT NULL"),
    ("credentials", "ix_credentials_organization_due", ["organization_id", "due_at", "id"], "due_at IS NOT NULL"),
    ("credentials", "ix_credentials_unused", ["id"], "used_at IS NULL AND state = 'active'"),
    ("credentials", "ix_credentials_paused", ["id"], "paused_at IS NOT NULL AND state = 'active'"),
    ("credentials", "ix_credentials_interval", ["provider", "provider_days"], "state = 'active'"),
    (
        "credential_versions",
        "ix_credential_versions_unhealthy",
        ["health", "credential_id"],
        "state = 'active' AND health <> 'healthy'",
    ),
    (
        "credential_versions",
        "ix_credential_versions_awaiting",
        ["credential_id"],
        "state = 'revoked' AND confirmed_at IS NULL",
    ),
    ("rotations", "ix_rotations_organization", ["organization_id", "id"], None),
    ("rotations", "ix_rotations_credential", ["credential_id", "id"], None),
    ("rotations", "ix_rotations_provider", ["provider", "id"], None),
    ("rotations", "ix_rotations_in_state", ["state", "id"], None),
    ("rotations", "ix_rotations_under_way", ["id"], "ended_at IS NULL"),
    ("rotations", "ix_rotations_over", ["id"], "ended_at IS NOT NULL"),
    ("grants", "ix_grants_organization", ["organization_id", "id"], None),
    ("grants", "ix_grants_workload", ["workload_id", "id"], None),
    ("grants", "ix_grants_provider", ["provider", "id"], None),
    ("grants", "ix_grants_label", ["label", "id"], None),
    ("grants", "ix_grants_active", ["id"], "state = 'active'"),
    ("grants", "ix_grants_revoked", ["id"], "state = 'revoked'"),
    (
        "grants",
        "ix_grants_unapproved",
        ["id"],
        "state = 'active' AND needs_approval IS true AND approved_by IS NULL",
    ),
    ("grants", "ix_grants_ending", ["id"], "state = 'active' AND expires_at IS NOT NULL"),
    ("intakes", "ix_intakes_organization", ["organization_id", "id"], None),
    ("intakes", "ix_intakes_provider", ["provider", "id"], None),
    ("intakes", "ix_intakes_label", ["label", "id"], None),
    ("intakes", "ix_intakes_in_state", ["state", "id"], None),
    ("notices", "ix_notices_organization", ["organization_id", "id"], None),
    ("notices", "ix_notices_kind", ["kind", "id"], None),
    ("deliveries", "ix_deliveries_organization", ["organization_id", "id"], None),
    ("deliveries", "ix_deliveries_state", ["state", "id"], None),
    ("webhooks", "ix_webhooks_organization", ["organization_id", "id"], None),
    ("webhooks", "ix_webhooks_state", ["state", "id"], None),
    ("exposures", "ix_exposures_organization", ["organization_id", "id"], None),
    ("findings", "ix_findings_organization", ["organization_id", "id"], None),
    ("organizations", "ix_organizations_active", ["id"], "state = 'active'"),
    ("organizations", "ix_organizations_revoked", ["id"], "state = 'revoked'"),
    ("workloads", "ix_workloads_active", ["id"], "state = 'active'"),
    ("workloads", "ix_workloads_revoked", ["id"], "state = 'revoked'"),
)
_OF_LEASES: tuple[tuple[str, list[str], str | None], ...] = (
    ("ix_leases_organization", ["organization_id", "issued_at", "id"], None),
    ("ix_leases_workload", ["workload_id", "issued_at", "id"], None),
    ("ix_leases_provider", ["provider", "issued_at", "id"], None),
    ("ix_leases_open", ["issued_at", "id"], "ended_at IS NULL"),
    ("ix_leases_standing", ["expires_at"], "ended_at IS NULL"),
    ("ix_leases_ended", ["issued_at", "id"], "ended_at IS NOT NULL"),
    ("ix_leases_revoked", ["issued_at", "id"], "ended_at IS NOT NULL AND end_reason = 'lease.revoked'"),
)
# What the new ones do as well.
_REPLACED = (
    ("credentials", "organization_id"),
    ("rotations", "organization_id"),
    ("rotations", "credential_id"),
    ("grants", "organization_id"),
    ("intakes", "organization_id"),
    ("intakes", "state"),
    ("notices", "organization_id"),
    ("deliveries", "organization_id"),
    ("webhooks", "organization_id"),
    ("exposures", "organization_id"),
    ("findings", "organization_id"),
)
_REPLACED_OF_LEASES = ("organization_id", "workload_id")


def upgrade() -> None:
    """Go up."""
    for name in _NEW:
        op.add_column("credentials", sa.Column(name, sa.BigInteger(), nullable=True))
    for name, columns, where in _OF_LEASES:
        op.create_index(name, "leases", columns, **_partial(where))
    for column in _REPLACED_OF_LEASES:
        op.drop_index(f"ix_leases_{column}", "leases")
    with _online() as options:
        for table, name, columns, where in _INDEXES:
            op.create_index(name, table, columns, **_partial(where), **options)
        for table, column in _REPLACED:
            op.drop_index(f"ix_{table}_{column}", table, **options)


def downgrade() -> None:
    """Go down."""
    for column in _REPLACED_OF_LEASES:
        op.create_index(f"ix_leases_{column}", "leases", [column])
    for name, _, _ in _OF_LEASES:
        op.drop_index(name, "leases")
    with _online() as options:
        for table, column in _REPLACED:
            op.create_index(f"ix_{table}_{column}", table, [column], **options)
        for table, name, _, _ in _INDEXES:
            op.drop_index(name, table, **options)
    for name in _NEW:
        op.drop_column("credentials", name)


@contextmanager
def _online() -> Iterator[dict[str, Any]]:
    """Options of indexes that are made and dropped while others read and write; none where one writes at a time."""
    if op.get_bind().dialect.name == "postgresql":
        with op.get_context().autocommit_block():
            yield {"postgresql_concurrently": True}
    else:
        yield {}


def _partial(where: str | None) -> dict[str, Any]:
    if where is None:
        return {}
    return {"postgresql_where": sa.text(where), "sqlite_where": sa.text(where.replace("IS true", "IS 1"))}

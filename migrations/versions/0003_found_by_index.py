"""Every list, whatever narrows it, what is due and what is over are found by an index.

Safe online: indexes only, each made and dropped beside those who write.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0003"
down_revision: str | Sequence[str] | None = "0002"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

# By table: name, columns, and the rows of a partial one.
_MADE: tuple[tuple[str, str, list[str], str | None], ...] = (
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
    ("grants", "ix_grants_unapproved", ["id"], "state = 'active' AND needs_approval IS true AND approved_by IS NULL"),
    ("grants", "ix_grants_ending", ["id"], "state = 'active' AND expires_at IS NOT NULL"),
    ("intakes", "ix_intakes_organization", ["organization_id", "id"], None),
    ("intakes", "ix_intakes_provider", ["provider", "id"], None),
    ("intakes", "ix_intakes_label", ["label", "id"], None),
    ("intakes", "ix_intakes_in_state", ["state", "id"], None),
    ("notices", "ix_notices_organization", ["organization_id", "id"], None),
    ("notices", "ix_notices_unsent", ["id"], "fanned_out_at IS NULL"),
    ("notices", "ix_notices_kind", ["kind", "id"], None),
    ("deliveries", "ix_deliveries_organization", ["organization_id", "id"], None),
    ("deliveries", "ix_deliveries_state", ["state", "id"], None),
    ("webhooks", "ix_webhooks_organization", ["organization_id", "id"], None),
    ("webhooks", "ix_webhooks_state", ["state", "id"], None),
    ("exposures", "ix_exposures_organization", ["organization_id", "id"], None),
    ("findings", "ix_findings_organization", ["organization_id", "id"], None),
    ("workloads", "ix_workloads_active", ["id"], "state = 'active'"),
    ("workloads", "ix_workloads_revoked", ["id"], "state = 'revoked'"),
    (
        "credential_versions",
        "ix_credential_versions_next",
        ["state", "provider", "next_probe_at"],
        "next_probe_at IS NOT NULL",
    ),
    (
        "credential_versions",
        "ix_credential_versions_checked",
        ["health_at", "next_probe_at"],
        "next_probe_at IS NOT NULL",
    ),
    ("rotations", "ix_rotations_due", ["state", "provider", "next_try_at"], "next_try_at IS NOT NULL"),
    ("rotations", "ix_rotations_ended", ["ended_at", "id"], None),
    ("grants", "ix_grants_any_label", ["id"], "label IS NULL"),
    ("intakes", "ix_intakes_settled", ["settled_at", "id"], None),
    ("intakes", "ix_intakes_expiring", ["state", "expires_at"], None),
    ("intakes", "ix_intakes_rotation_id", ["rotation_id"], None),
    ("organizations", "ix_organizations_state", ["state", "id"], None),
    # Last, as PostgreSQL takes the latest of indexes that would do alike, which all do while a table is small.
    ("credentials", "ix_credentials_address", ["organization_id", "provider", "label"], None),
    ("grants", "ix_grants_target", ["workload_id", "organization_id"], None),
)
# What the new ones do as well.
_DROPPED: tuple[tuple[str, str, list[str], str | None], ...] = (
    ("credentials", "ix_credentials_organization_id", ["organization_id"], None),
    ("credential_versions", "ix_credential_versions_due", ["state", "next_probe_at"], None),
    ("rotations", "ix_rotations_credential_id", ["credential_id"], None),
    ("rotations", "ix_rotations_organization_id", ["organization_id"], None),
    ("grants", "ix_grants_organization_id", ["organization_id"], None),
    ("exposures", "ix_exposures_organization_id", ["organization_id"], None),
    ("intakes", "ix_intakes_state", ["state"], None),
    ("intakes", "ix_intakes_organization_id", ["organization_id"], None),
    ("findings", "ix_findings_organization_id", ["organization_id"], None),
    ("notices", "ix_notices_organization_id", ["organization_id"], None),
    ("notices", "ix_notices_outbox", ["fanned_out_at"], None),
    ("webhooks", "ix_webhooks_organization_id", ["organization_id"], None),
    ("deliveries", "ix_deliveries_organization_id", ["organization_id"], None),
)


def upgrade() -> None:
    """Go up."""
    with op.get_context().autocommit_block():
        for table, name, columns, where in _MADE:
            op.create_index(
                name,
                table,
                columns,
                postgresql_where=None if where is None else sa.text(where),
                sqlite_where=None if where is None else sa.text(where.replace("IS true", "IS 1")),
                postgresql_concurrently=True,
                if_not_exists=True,
            )
        for table, name, _, _ in _DROPPED:
            op.drop_index(name, table, postgresql_concurrently=True, if_exists=True)


def downgrade() -> None:
    """Go down."""
    for table, name, columns, _ in _DROPPED:
        op.create_index(name, table, columns)
    for table, name, _, _ in _MADE:
        op.drop_index(name, table)

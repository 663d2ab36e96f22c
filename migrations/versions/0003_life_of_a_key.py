"""The whole life of a key: rotations, confirmed revocations, exposures, age policies, pauses and status links.

Safe online: new tables, and new columns that are empty or have defaults.  Going down drops rotations and exposures.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0003"
down_revision: str | Sequence[str] | None = "0002"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def _columns() -> dict[str, tuple[sa.Column[object], ...]]:
    """New columns by table (a column object belongs to one operation only)."""
    return {
        "organizations": (sa.Column("rotation_days", sa.BigInteger(), nullable=True),),
        "credentials": (
            sa.Column("contact", sa.String(), server_default="", nullable=False),
            sa.Column("paused_at", sa.BigInteger(), nullable=True),
            sa.Column("rotation_days", sa.BigInteger(), nullable=True),
            sa.Column("max_age_days", sa.BigInteger(), nullable=True),
            sa.Column("on_max_age", sa.String(), server_default="warn", nullable=False),
        ),
        "credential_versions": (
            sa.Column("retired_at", sa.BigInteger(), nullable=True),
            sa.Column("confirmed_at", sa.BigInteger(), nullable=True),
            sa.Column("reminders", sa.BigInteger(), server_default="0", nullable=False),
            sa.Column("upstream_id", sa.String(), server_default="", nullable=False),
            sa.Column("leak_mark", sa.String(), nullable=True),
        ),
        "intakes": (
            sa.Column("rotation_id", sa.String(), nullable=True),
            sa.Column("status_serial", sa.BigInteger(), server_default="0", nullable=False),
        ),
    }


def upgrade() -> None:
    """Go up."""
    for table, columns in _columns().items():
        for column in columns:
            op.add_column(table, column)
    op.create_table(
        "rotations",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("credential_id", sa.String(), nullable=False),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("requested_by", sa.String(), nullable=False),
        sa.Column("intake_id", sa.String(), nullable=True),
        sa.Column("from_version", sa.BigInteger(), nullable=True),
        sa.Column("to_version", sa.BigInteger(), nullable=True),
        sa.Column("seen_ids", sa.BigInteger(), nullable=True),
        sa.Column("known_ids", sa.BigInteger(), nullable=True),
        sa.Column("shared_ids", sa.BigInteger(), nullable=True),
        sa.Column("grace_minutes", sa.BigInteger(), nullable=False),
        sa.Column("deadline_hours", sa.BigInteger(), nullable=False),
        sa.Column("opened_at", sa.BigInteger(), nullable=False),
        sa.Column("activated_at", sa.BigInteger(), nullable=True),
        sa.Column("grace_until", sa.BigInteger(), nullable=True),
        sa.Column("retire_by", sa.BigInteger(), nullable=True),
        sa.Column("failing_at", sa.BigInteger(), nullable=True),
        sa.Column("tries", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("next_try_at", sa.BigInteger(), nullable=True),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("organization_id", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rotations")),
    )
    op.create_index(op.f("ix_rotations_organization_id"), "rotations", ["organization_id"])
    op.create_index(op.f("ix_rotations_credential_id"), "rotations", ["credential_id"])
    op.create_index("ix_rotations_state", "rotations", ["state", "grace_until"])
    op.create_index(
        "uq_rotations_open",
        "rotations",
        ["credential_id"],
        unique=True,
        sqlite_where=sa.text("ended_at IS NULL"),
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.create_table(
        "exposures",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("credential_id", sa.String(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("found_by", sa.String(), nullable=False),
        sa.Column("found_where", sa.String(), nullable=False),
        sa.Column("note", sa.String(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("reported_by", sa.String(), nullable=False),
        sa.Column("reported_at", sa.BigInteger(), nullable=False),
        sa.Column("rotation_id", sa.String(), nullable=True),
        sa.Column("organization_id", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_exposures")),
        sa.UniqueConstraint("credential_id", "version", name=op.f("uq_exposures_credential_id_version")),
    )
    op.create_index(op.f("ix_exposures_organization_id"), "exposures", ["organization_id"])
    op.create_index(op.f("ix_credential_versions_leak_mark"), "credential_versions", ["leak_mark"])
    op.create_table(
        "findings",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("credential_id", sa.String(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("place", sa.String(), nullable=False),
        sa.Column("place_hash", sa.String(), nullable=False),
        sa.Column("found_by", sa.String(), nullable=False),
        sa.Column("found_at", sa.BigInteger(), nullable=False),
        sa.Column("organization_id", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_findings")),
        sa.UniqueConstraint(
            "credential_id", "version", "place_hash", name=op.f("uq_findings_credential_id_version_place_hash")
        ),
    )
    op.create_index(op.f("ix_findings_organization_id"), "findings", ["organization_id"])
    op.create_index("ix_uses_credential", "uses", ["credential_id", "authorized_at"])
    # Keys in use get their first scheduled check, and keys revoked before today their first probe.
    op.execute(
        "UPDATE credential_versions SET next_probe_at = 0 WHERE state IN ('active', 'revoked') AND sealed IS NOT NULL"
    )
    if op.get_bind().dialect.name == "postgresql":
        _fence("rotations")
        _fence("exposures")
        _fence("findings")


def _fence(table: str) -> None:
    inside = (
        "current_setting('broker.tenants', true) = '*' "
        "OR organization_id = ANY(string_to_array(current_setting('broker.tenants', true), ','))"
    )
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY tenant ON {table} USING ({inside}) WITH CHECK ({inside})")


def downgrade() -> None:
    """Go down."""
    op.drop_index("ix_uses_credential", "uses")
    op.drop_index(op.f("ix_credential_versions_leak_mark"), "credential_versions")
    op.drop_table("findings")
    op.drop_table("exposures")
    op.drop_table("rotations")
    for table, columns in _columns().items():
        for column in columns:
            op.drop_column(table, column.name)

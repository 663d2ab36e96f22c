"""Which ids each key showed, and which one-time links customers drew themselves.

Safe online: a new table, and a new column that is empty.  Where an organization has one credential at a provider, the
ids known of it are those of that credential's keys; where it has several, nobody knows which are whose, so their keys
are asked again.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0008"
down_revision: str | Sequence[str] | None = "0007"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_ALONE = (
    "(SELECT count(*) FROM credentials other WHERE other.organization_id = credentials.organization_id "
    "AND other.provider = credentials.provider) = 1"
)


def upgrade() -> None:
    """Go up."""
    op.create_table(
        "key_evidence",
        sa.Column("credential_id", sa.String(), nullable=False),
        sa.Column("version", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("id_hash", sa.String(), nullable=False),
        sa.Column("organization_id", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("credential_id", "version", "id_hash", name=op.f("pk_key_evidence")),
    )
    op.create_index(op.f("ix_key_evidence_organization_id"), "key_evidence", ["organization_id"])
    op.execute(
        "INSERT INTO key_evidence (organization_id, credential_id, version, id_hash) "  # noqa: S608 - no input in it
        "SELECT credentials.organization_id, credentials.id, kept.number, known.id_hash FROM credentials "
        "JOIN credential_versions kept ON kept.credential_id = credentials.id AND kept.activated_at IS NOT NULL "
        "JOIN identity_evidence known "
        "ON known.owner = credentials.organization_id AND known.provider = credentials.provider "
        f"WHERE {_ALONE}"
    )
    op.execute(
        "UPDATE credential_versions SET next_probe_at = 0 WHERE state = 'active' AND sealed IS NOT NULL "  # noqa: S608 - no input in it
        f"AND credential_id IN (SELECT id FROM credentials WHERE NOT {_ALONE})"
    )
    op.add_column("intakes", sa.Column("drawn_at", sa.BigInteger(), nullable=True))
    # Who drew a link that is out already is not known: the next replacement of a status link closes it.
    op.execute("UPDATE intakes SET drawn_at = created_at WHERE state = 'open' AND rotation_id IS NOT NULL")
    if op.get_bind().dialect.name == "postgresql":
        inside = (
            "current_setting('broker.tenants', true) = '*' "
            "OR organization_id = ANY(string_to_array(current_setting('broker.tenants', true), ','))"
        )
        op.execute("ALTER TABLE key_evidence ENABLE ROW LEVEL SECURITY")
        op.execute("ALTER TABLE key_evidence FORCE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY tenant ON key_evidence USING ({inside}) WITH CHECK ({inside})")


def downgrade() -> None:
    """Go down."""
    op.drop_column("intakes", "drawn_at")
    op.drop_table("key_evidence")

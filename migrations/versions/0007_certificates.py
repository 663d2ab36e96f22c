"""Signed statements about keys that are dead upstream.

Safe online: a new table.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0007"
down_revision: str | Sequence[str] | None = "0006"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_ID = sa.String().with_variant(postgresql.UUID(), "postgresql")


def upgrade() -> None:
    """Go up."""
    op.create_table(
        "certificates",
        sa.Column("credential_id", _ID, nullable=False),
        sa.Column("version", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("serial", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("organization_id", _ID, nullable=False),
        sa.Column("note", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("credential_id", "version", "serial", name="pk_certificates"),
    )
    if op.get_bind().dialect.name == "postgresql":
        _fence_tenants()


def _fence_tenants() -> None:
    """A session sees the tenants in ``broker.tenants``, as with every table of theirs."""
    scope = "current_setting('broker.tenants', true)"
    named = f"string_to_array(CASE WHEN {scope} = '*' THEN '' ELSE {scope} END, ',')::uuid[]"
    inside = f"{scope} = '*' OR organization_id = ANY({named})"
    op.execute("ALTER TABLE certificates ENABLE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE certificates FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY tenant ON certificates USING ({inside}) WITH CHECK ({inside})")


def downgrade() -> None:
    """Go down."""
    op.drop_table("certificates")

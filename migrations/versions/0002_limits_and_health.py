"""What grants limit, what is counted against it, the health of keys in use, and notices.

Safe online: new tables, and new columns with defaults.  Going down drops notices, counts and limits.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0002"
down_revision: str | Sequence[str] | None = "0001"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def _columns() -> dict[str, tuple[sa.Column[object], ...]]:
    """New columns by table (a column object belongs to one operation only)."""
    return {
        "grants": (
            sa.Column("presets", sa.JSON(), server_default="[]", nullable=False),
            sa.Column("rules", sa.JSON(), server_default="[]", nullable=False),
            sa.Column("rate_uses", sa.BigInteger(), nullable=True),
            sa.Column("rate_seconds", sa.BigInteger(), nullable=True),
            sa.Column("max_uses", sa.BigInteger(), nullable=True),
            sa.Column("implicit", sa.Boolean(), server_default=sa.false(), nullable=False),
        ),
        "credential_versions": (
            sa.Column("health", sa.String(), server_default="healthy", nullable=False),
            sa.Column("health_at", sa.BigInteger(), nullable=True),
        ),
        "uses": (sa.Column("grant_id", sa.String(), server_default="", nullable=False),),
    }


def upgrade() -> None:
    """Go up."""
    for table, columns in _columns().items():
        for column in columns:
            op.add_column(table, column)
    op.create_table(
        "allowances",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_allowances")),
    )
    op.create_table(
        "notices",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("credential_id", sa.String(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("organization_id", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notices")),
    )
    op.create_index(op.f("ix_notices_organization_id"), "notices", ["organization_id"])
    if op.get_bind().dialect.name == "postgresql":
        _fence_notices()


def _fence_notices() -> None:
    inside = (
        "current_setting('broker.tenants', true) = '*' "
        "OR organization_id = ANY(string_to_array(current_setting('broker.tenants', true), ','))"
    )
    op.execute("ALTER TABLE notices ENABLE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE notices FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY tenant ON notices USING ({inside}) WITH CHECK ({inside})")


def downgrade() -> None:
    """Go down."""
    op.drop_table("notices")
    op.drop_table("allowances")
    for table, columns in _columns().items():
        for column in columns:
            op.drop_column(table, column.name)

"""The record's log: its tiles, its newest checkpoint, and a tree for each organization with the heads of that.

Safe online: new tables, which the worker fills in pages.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0004"
down_revision: str | Sequence[str] | None = "0003"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_ID = sa.String().with_variant(postgresql.UUID(), "postgresql")


def upgrade() -> None:
    """Go up."""
    op.create_table(
        "audit_tiles",
        sa.Column("level", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("hashes", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("level", "number", name="pk_audit_tiles"),
    )
    op.create_table(
        "audit_checkpoint",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("origin", sa.String(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("root", sa.LargeBinary(), nullable=False),
        sa.Column("note", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit_checkpoint"),
    )
    op.create_table(
        "audit_organizations",
        sa.Column("organization_id", _ID, nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("edge", sa.LargeBinary(), nullable=False),
        sa.Column("headed", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("headed_at", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("organization_id", name="pk_audit_organizations"),
    )
    op.create_index(
        "ix_audit_organizations_grown",
        "audit_organizations",
        ["headed_at"],
        sqlite_where=sa.text("size > headed"),
        postgresql_where=sa.text("size > headed"),
    )
    op.create_table(
        "audit_organization_heads",
        sa.Column("organization_id", _ID, nullable=False),
        sa.Column("idx", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("extent", sa.BigInteger(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("edge", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("organization_id", "idx", name="pk_audit_organization_heads"),
    )
    if op.get_bind().dialect.name == "postgresql":
        _fence_tenants("audit_organizations", "audit_organization_heads")


def _fence_tenants(*tables: str) -> None:
    """Row-level security, as the other tables of tenants have it."""
    scope = "current_setting('broker.tenants', true)"
    named = f"string_to_array(CASE WHEN {scope} = '*' THEN '' ELSE {scope} END, ',')::uuid[]"
    inside = f"{scope} = '*' OR organization_id = ANY({named})"
    for table in tables:
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY tenant ON {table} USING ({inside}) WITH CHECK ({inside})")


def downgrade() -> None:
    """Go down."""
    op.drop_table("audit_organization_heads")
    op.drop_table("audit_organizations")
    op.drop_table("audit_checkpoint")
    op.drop_table("audit_tiles")

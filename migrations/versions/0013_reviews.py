"""Reviews of grants and accounts.

Safe online: a new table.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0013"
down_revision: str | Sequence[str] | None = "0012"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_ID = sa.String().with_variant(postgresql.UUID(), "postgresql")


def upgrade() -> None:
    """Go up."""
    op.create_table(
        "reviews",
        sa.Column("id", _ID, nullable=False),
        sa.Column("organization_id", _ID, nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("by_age", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("started_by", sa.String(), nullable=True),
        sa.Column("decision", sa.String(), nullable=True),
        sa.Column("decided_by", sa.String(), nullable=True),
        sa.Column("closed_at", sa.BigInteger(), nullable=True),
        sa.Column("event_id", _ID, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_reviews"),
    )
    op.create_index("ix_reviews_due", "reviews", ["due_at", "id"])
    op.create_index("ix_reviews_organization", "reviews", ["organization_id", "due_at", "id"])
    op.create_index("ix_reviews_state", "reviews", ["state", "due_at", "id"])
    _index("ix_reviews_decided", "state = 'decided'", "closed_at", "id")
    _index("ix_reviews_by_age", "by_age IS true", "subject", on_sqlite="by_age IS 1")
    _index("uq_reviews_open", "closed_at IS NULL", "subject", unique=True)
    if op.get_bind().dialect.name == "postgresql":
        _fence_tenants()


def _index(name: str, where: str, *columns: str, on_sqlite: str = "", unique: bool = False) -> None:
    """An index of some rows."""
    op.create_index(
        name,
        "reviews",
        [*columns],
        unique=unique,
        sqlite_where=sa.text(on_sqlite or where),
        postgresql_where=sa.text(where),
    )


def _fence_tenants() -> None:
    """A session sees the tenants in ``broker.tenants``, as with every table of theirs."""
    scope = "current_setting('broker.tenants', true)"
    named = f"string_to_array(CASE WHEN {scope} = '*' THEN '' ELSE {scope} END, ',')::uuid[]"
    inside = f"{scope} = '*' OR organization_id = ANY({named})"
    op.execute("ALTER TABLE reviews ENABLE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE reviews FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY tenant ON reviews USING ({inside}) WITH CHECK ({inside})")


def downgrade() -> None:
    """Go down."""
    op.drop_table("reviews")

"""Uses and refusals by day, which the console's overview shows.

Safe online: new tables.  Days of use that were counted before are there afterwards; refusals are counted from now on.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0012"
down_revision: str | Sequence[str] | None = "0011"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_ID = sa.String().with_variant(postgresql.UUID(), "postgresql")


def upgrade() -> None:
    """Go up."""
    op.create_table(
        "days",
        sa.Column("day", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("uses", sa.BigInteger(), nullable=False),
        sa.Column("refusals", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("day", name="pk_days"),
    )
    op.create_table(
        "organization_days",
        sa.Column("organization_id", _ID, nullable=False),
        sa.Column("day", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("uses", sa.BigInteger(), nullable=False),
        sa.Column("refusals", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("organization_id", "day", name="pk_organization_days"),
    )
    op.create_index("ix_organization_days_day", "organization_days", ["day", "organization_id"])
    if op.get_bind().dialect.name == "postgresql":
        op.execute("SELECT set_config('broker.tenants', '*', true)")
        _fence_tenants()
    op.execute(
        "INSERT INTO organization_days (organization_id, day, uses, refusals) "
        "SELECT organization_id, day, sum(uses), 0 FROM use_days GROUP BY organization_id, day"
    )
    op.execute("INSERT INTO days (day, uses, refusals) SELECT day, sum(uses), 0 FROM use_days GROUP BY day")


def _fence_tenants() -> None:
    """A session sees the tenants in ``broker.tenants``, as with every table of theirs."""
    scope = "current_setting('broker.tenants', true)"
    named = f"string_to_array(CASE WHEN {scope} = '*' THEN '' ELSE {scope} END, ',')::uuid[]"
    inside = f"{scope} = '*' OR organization_id = ANY({named})"
    op.execute("ALTER TABLE organization_days ENABLE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE organization_days FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY tenant ON organization_days USING ({inside}) WITH CHECK ({inside})")


def downgrade() -> None:
    """Go down."""
    op.drop_table("organization_days")
    op.drop_table("days")

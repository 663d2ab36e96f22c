"""The keys of events' data subjects, without which nobody reads their personal parts, and legal holds.

Safe online: new tables.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0008"
down_revision: str | Sequence[str] | None = "0004"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_ID = sa.String().with_variant(postgresql.UUID(), "postgresql")


def upgrade() -> None:
    """Go up."""
    op.create_table(
        "audit_subjects",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("wrapped", sa.LargeBinary(), nullable=True),
        sa.Column("erased_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_audit_subjects"),
    )
    op.create_table(
        "audit_holds",
        sa.Column("whose", _ID, nullable=False),
        sa.Column("placed_at", sa.BigInteger(), nullable=False),
        sa.Column("placed_by", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("whose", name="pk_audit_holds"),
    )


def downgrade() -> None:
    """Go down."""
    op.drop_table("audit_holds")
    op.drop_table("audit_subjects")

"""The keys of events' data subjects, without which nobody reads their personal parts, legal holds, and pruned events.

Safe online: new tables and a function.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from broker.audit.retention import FUNCTIONS

revision: str = "0008"
down_revision: str | Sequence[str] | None = "0007"
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
    op.create_table(
        "audit_pruned",
        sa.Column("block", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("places", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("block", name="pk_audit_pruned"),
    )
    if op.get_bind().dialect.name == "postgresql":
        for function in FUNCTIONS:
            op.execute(function)


def downgrade() -> None:
    """Go down."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION keybroker_prune(bigint[])")
    op.drop_table("audit_pruned")
    op.drop_table("audit_holds")
    op.drop_table("audit_subjects")

"""Witnesses of the log, checkpoints with their cosignatures, and changes of the log's key.

Safe online: new tables, which the worker fills.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0005"
down_revision: str | Sequence[str] | None = "0004"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Go up."""
    op.create_table(
        "audit_witnesses",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("origin", sa.String(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("cosigned_at", sa.BigInteger(), nullable=True),
        sa.Column("failing_since", sa.BigInteger(), nullable=True),
        sa.Column("contradicts", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("key", name="pk_audit_witnesses"),
    )
    op.create_table(
        "audit_cosigned",
        sa.Column("origin", sa.String(), nullable=False),
        sa.Column("size", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("note", sa.LargeBinary(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("origin", "size", name="pk_audit_cosigned"),
    )
    op.create_table(
        "audit_log_keys",
        sa.Column("origin", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("begun_at", sa.BigInteger(), nullable=False),
        sa.Column("good_to", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("origin", "number", name="pk_audit_log_keys"),
    )


def downgrade() -> None:
    """Go down."""
    op.drop_table("audit_log_keys")
    op.drop_table("audit_cosigned")
    op.drop_table("audit_witnesses")

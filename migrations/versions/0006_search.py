"""The record's search finds events by job, outcome and request, too.

Safe online: the index is no evidence, and is made anew as the worker does it for a record that has none.  What isn't
indexed yet, a search reads itself.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0006"
down_revision: str | Sequence[str] | None = "0005"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Go up."""
    _index_anew()


def downgrade() -> None:
    """Go down."""
    _index_anew()


def _index_anew() -> None:
    op.drop_table("audit_blocks")
    op.drop_table("audit_places")
    op.create_table(
        "audit_blocks",
        sa.Column("block", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("earliest", sa.BigInteger(), nullable=False),
        sa.Column("latest", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("block", name="pk_audit_blocks"),
    )
    op.create_table(
        "audit_places",
        sa.Column("span", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("term", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("block", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("places", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("span", "term", "block", name="pk_audit_places"),
        sqlite_with_rowid=False,
    )

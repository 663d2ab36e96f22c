"""Keys that proofs of links are made with, and the challenges that were answered.

Safe online: columns that may be empty, and one new table.  Requests from before go on: their authenticators name the
columns that there were, and a column that was added counts once it holds something.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0012"
down_revision: str | Sequence[str] | None = "0011"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Go up."""
    for column in ("link_key", "status_key"):
        op.add_column("intakes", sa.Column(column, sa.LargeBinary(), nullable=True))
    op.create_table(
        "used_challenges",
        sa.Column("nonce", sa.String(), nullable=False),
        sa.Column("used_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("nonce", name=op.f("pk_used_challenges")),
    )
    op.create_index(op.f("ix_used_challenges_used_at"), "used_challenges", ["used_at"])


def downgrade() -> None:
    """Go down; links and codes that were made meanwhile don't work any more, and their requests count as altered."""
    op.drop_table("used_challenges")
    for column in ("link_key", "status_key"):
        op.drop_column("intakes", column)

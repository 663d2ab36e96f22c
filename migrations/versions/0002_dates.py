"""When keys have to be replaced is noted with them; keystores that values needed are remembered by themselves.

Safe online: columns that are empty, which the worker fills in pages, and a table.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0002"
down_revision: str | Sequence[str] | None = "0001"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_NEW = ("organization_days", "provider_days", "due_at")


def upgrade() -> None:
    """Go up."""
    for name in _NEW:
        op.add_column("credentials", sa.Column(name, sa.BigInteger(), nullable=True))
    op.create_table(
        "needed_keystores",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_needed_keystores"),
    )


def downgrade() -> None:
    """Go down."""
    op.drop_table("needed_keystores")
    for name in _NEW:
        op.drop_column("credentials", name)

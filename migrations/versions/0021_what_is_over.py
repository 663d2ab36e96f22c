"""What is over is found by index, so that it can be pruned; keystores that values needed are remembered by themselves.

Safe online: it adds a table, and indexes beside those who write.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0021"
down_revision: str | Sequence[str] | None = "0017"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_INDEXES = {
    "ix_intakes_settled": ("intakes", ["settled_at", "id"]),
    "ix_intakes_rotation_id": ("intakes", ["rotation_id"]),
    "ix_rotations_ended": ("rotations", ["ended_at", "id"]),
}


def upgrade() -> None:
    """Go up."""
    op.create_table(
        "needed_keystores",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_needed_keystores")),
    )
    op.create_index("ix_leases_until", "leases", ["until", "id"])
    with op.get_context().autocommit_block():
        for name, (table, columns) in _INDEXES.items():
            op.create_index(name, table, columns, postgresql_concurrently=True, if_not_exists=True)


def downgrade() -> None:
    """Go down."""
    for name, (table, _) in _INDEXES.items():
        op.drop_index(name, table)
    op.drop_index("ix_leases_until", "leases")
    op.drop_table("needed_keystores")

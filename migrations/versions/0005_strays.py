"""Notes about values in a Vault that no row refers to.  Safe online: one new table."""

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
        "keystore_strays",
        sa.Column("reference", sa.LargeBinary(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("reference", name=op.f("pk_keystore_strays")),
    )
    op.create_index(op.f("ix_keystore_strays_due_at"), "keystore_strays", ["due_at"])


def downgrade() -> None:
    """Go down."""
    op.drop_table("keystore_strays")

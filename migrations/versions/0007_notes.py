"""What a note about a value in Vault knows: whether it surely was ours, and when to try again.

Safe online: two columns with a default, which brokers from before leave alone.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0007"
down_revision: str | Sequence[str] | None = "0006"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Go up."""
    op.add_column("keystore_strays", sa.Column("stored", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("keystore_strays", sa.Column("retry_at", sa.BigInteger(), server_default="0", nullable=False))


def downgrade() -> None:
    """Go down."""
    op.drop_column("keystore_strays", "retry_at")
    op.drop_column("keystore_strays", "stored")

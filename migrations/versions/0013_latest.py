"""The record's head keeps the time of its latest event.

Safe online: one row.  Brokers from before leave it as it is, which is as if nothing had happened.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0013"
down_revision: str | Sequence[str] | None = "0011"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Go up."""
    op.add_column("audit_head", sa.Column("latest", sa.BigInteger(), server_default=sa.text("0"), nullable=False))
    op.execute("UPDATE audit_head SET latest = (SELECT coalesce(max(time), 0) FROM audit_events)")


def downgrade() -> None:
    """Go down."""
    op.drop_column("audit_head", "latest")

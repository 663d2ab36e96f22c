"""The record's head keeps the time of its latest event, and when a process last believed its clock.

Safe online: one row.  Brokers from before leave it as it is, which is as if nothing had happened.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0013"
down_revision: str | Sequence[str] | None = "0012"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Go up."""
    for name in ("latest", "believed"):
        op.add_column("audit_head", sa.Column(name, sa.BigInteger(), server_default=sa.text("0"), nullable=False))
    op.execute("UPDATE audit_head SET latest = (SELECT coalesce(max(time), 0) FROM audit_events)")
    op.execute("UPDATE audit_head SET believed = latest")


def downgrade() -> None:
    """Go down."""
    for name in ("latest", "believed"):
        op.drop_column("audit_head", name)

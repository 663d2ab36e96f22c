"""Leases that are of use only to whoever holds a key (RFC 9449).

Safe online: a column that may be empty.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0016"
down_revision: str | Sequence[str] | None = "0015"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Go up."""
    op.add_column("leases", sa.Column("jkt", sa.String(), nullable=True))


def downgrade() -> None:
    """Go down: bound leases are not taken any more, as their rows don't fit their authenticators."""
    op.drop_column("leases", "jkt")

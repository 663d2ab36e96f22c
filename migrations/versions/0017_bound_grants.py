"""Grants whose leases are of use only to whoever holds a key.

Safe online: a column that may be empty.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0017"
down_revision: str | Sequence[str] | None = "0016"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Go up."""
    op.add_column("grants", sa.Column("bound", sa.Boolean(), nullable=True))


def downgrade() -> None:
    """Go down: such grants are not taken any more, as their rows don't fit their authenticators."""
    op.drop_column("grants", "bound")

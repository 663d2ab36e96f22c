"""Whether calls under a grant are tried again."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0009"
down_revision: str | Sequence[str] | None = "0008"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Go up."""
    op.add_column("grants", sa.Column("retries", sa.Boolean(), server_default=sa.text("true"), nullable=False))


def downgrade() -> None:
    """Go down; calls are tried again under every grant."""
    op.drop_column("grants", "retries")

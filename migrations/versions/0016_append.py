"""A batch of the record as one statement (PostgreSQL).

Safe online: a new function.
"""

from collections.abc import Sequence

from alembic import op

from broker.audit.on_postgresql import FUNCTION

revision: str = "0016"
down_revision: str | Sequence[str] | None = "0015"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Go up."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute(FUNCTION)


def downgrade() -> None:
    """Go down."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION keybroker_append")

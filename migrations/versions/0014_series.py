"""Series of the record's index, which a restore begins.

Safe online: a new table, which is empty.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0014"
down_revision: str | Sequence[str] | None = "0013"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Go up."""
    op.create_table(
        "audit_series",
        sa.Column("began_at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("base", sa.BigInteger(), nullable=False),
        sa.Column("lost_to", sa.BigInteger(), nullable=True),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("confirmed_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("began_at", name=op.f("pk_audit_series")),
    )


def downgrade() -> None:
    """Go down; refused where the database was restored, as what is kept outside of it then has a series, too."""
    if op.get_bind().scalar(sa.text("SELECT count(*) FROM audit_series")):
        raise RuntimeError("This database was restored once, and an older version would call it behind; stay here.")
    op.drop_table("audit_series")

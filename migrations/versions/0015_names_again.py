"""Names of ended accounts and jobs are free again; an account's previous token ends after its renewal.

Safe online: new columns that are empty, and indexes that allow more than the constraints before them.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0015"
down_revision: str | Sequence[str] | None = "0014"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_TABLES = ("operators", "workloads")


def upgrade() -> None:
    """Go up."""
    active = sa.text("state = 'active'")
    for table in _TABLES:
        with op.batch_alter_table(table) as altered:
            altered.drop_constraint(f"uq_{table}_name", type_="unique")
        op.create_index(
            f"uq_{table}_active", table, ["name"], unique=True, sqlite_where=active, postgresql_where=active
        )
        op.create_index(op.f(f"ix_{table}_name"), table, ["name"])
    with op.batch_alter_table("operators") as operators:
        operators.add_column(sa.Column("previous_token_hash", sa.LargeBinary(), nullable=True))
        operators.add_column(sa.Column("previous_until", sa.BigInteger(), nullable=True))
    op.create_index(op.f("ix_operators_previous_token_hash"), "operators", ["previous_token_hash"], unique=True)


def downgrade() -> None:
    """Go down; refused if a name was used again, or an account was renewed: its row says so, authenticated."""
    renewed = op.get_bind().scalar(sa.text("SELECT count(*) FROM operators WHERE previous_until IS NOT NULL"))
    if renewed:
        raise RuntimeError("Accounts were renewed here, which an older version would call altered; stay here.")
    op.drop_index(op.f("ix_operators_previous_token_hash"), "operators")
    with op.batch_alter_table("operators") as operators:
        operators.drop_column("previous_until")
        operators.drop_column("previous_token_hash")
    for table in _TABLES:
        op.drop_index(op.f(f"ix_{table}_name"), table)
        op.drop_index(f"uq_{table}_active", table)
        with op.batch_alter_table(table) as altered:
            altered.create_unique_constraint(f"uq_{table}_name", ["name"])

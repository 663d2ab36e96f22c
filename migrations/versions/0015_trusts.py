"""Trusts in tokens that platforms give to jobs; leases know what they stand on beside their job.

Safe online: new tables, and a column that may be empty.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0015"
down_revision: str | Sequence[str] | None = "0014"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_ID = sa.String().with_variant(postgresql.UUID(), "postgresql")


def upgrade() -> None:
    """Go up."""
    op.create_table(
        "trusts",
        sa.Column("id", _ID, nullable=False),
        sa.Column("workload_id", _ID, nullable=False),
        sa.Column("issuer", sa.String(), nullable=False),
        sa.Column("claims", sa.JSON(), nullable=False),
        sa.Column("networks", sa.JSON(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("note", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.Column("row_mac", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_trusts"),
    )
    op.create_index("ix_trusts_workload", "trusts", ["workload_id", "id"])
    op.create_index("ix_trusts_issuer", "trusts", ["issuer", "id"])
    for state in ("active", "revoked"):
        where = sa.text(f"state = '{state}'")
        op.create_index(f"ix_trusts_{state}", "trusts", ["id"], sqlite_where=where, postgresql_where=where)
    where = sa.text("state = 'active' AND expires_at IS NOT NULL")
    op.create_index("ix_trusts_expires", "trusts", ["expires_at"], sqlite_where=where, postgresql_where=where)
    op.create_table(
        "issuers",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("era", _ID, nullable=False),
        sa.Column("suspended_at", sa.BigInteger(), nullable=True),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("key_set", sa.String(), nullable=False),
        sa.Column("failing_since", sa.BigInteger(), nullable=True),
        sa.Column("refreshed_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_issuers"),
    )
    op.create_table(
        "used_tokens",
        sa.Column("issuer", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("issuer", "name", name="pk_used_tokens"),
    )
    op.create_index("ix_used_tokens_expires_at", "used_tokens", ["expires_at"])
    op.add_column("leases", sa.Column("via", sa.String(), nullable=True))


def downgrade() -> None:
    """Go down: jobs that prove themselves by a platform's token can't any more."""
    op.drop_column("leases", "via")
    op.drop_table("used_tokens")
    op.drop_table("issuers")
    op.drop_table("trusts")

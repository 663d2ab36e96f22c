"""The record is searched by an index of its own, which a duty of the worker writes; its columns need none.

Until that has followed, a search reads what is not in the index yet.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0020"
down_revision: str | Sequence[str] | None = "0017"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_INDEXES = {
    "ix_audit_events_organization": ["organization_id", "idx"],
    "ix_audit_events_credential": ["credential_id", "idx"],
    "ix_audit_events_actor": ["actor_id", "idx"],
    "ix_audit_events_lease": ["lease_id", "idx"],
    "ix_audit_events_kind": ["kind", "idx"],
    "ix_audit_events_time": ["time"],
}


def upgrade() -> None:
    """Go up."""
    op.create_table(
        "audit_blocks",
        sa.Column("block", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("earliest", sa.BigInteger(), nullable=False),
        sa.Column("latest", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("block", name=op.f("pk_audit_blocks")),
    )
    op.create_table(
        "audit_places",
        sa.Column("span", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("term", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("block", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("places", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("span", "term", "block", name=op.f("pk_audit_places")),
        sqlite_with_rowid=False,
    )
    for name in _INDEXES:
        op.drop_index(name, "audit_events")


def downgrade() -> None:
    """Go down."""
    for name, columns in _INDEXES.items():
        op.create_index(name, "audit_events", columns)
    op.drop_table("audit_places")
    op.drop_table("audit_blocks")

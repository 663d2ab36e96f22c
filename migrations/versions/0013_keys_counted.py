"""Keys are counted by state and age from an index alone.

Safe online: an index, which is made beside those who write.
"""

from collections.abc import Sequence

from alembic import op

revision: str = "0013"
down_revision: str | Sequence[str] | None = "0012"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Go up."""
    with op.get_context().autocommit_block():
        op.create_index(
            "ix_credential_versions_counted",
            "credential_versions",
            ["state", "health", "activated_at", "organization_id"],
            postgresql_concurrently=True,
            if_not_exists=True,
        )


def downgrade() -> None:
    """Go down."""
    op.drop_index("ix_credential_versions_counted", "credential_versions")

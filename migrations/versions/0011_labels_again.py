"""A revoked credential leaves its label to a new one.

Safe online: the new index allows more than the constraint before it.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0011"
down_revision: str | Sequence[str] | None = "0010"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_LABEL = ["organization_id", "provider", "label"]
_CONSTRAINT = "uq_credentials_organization_id_provider_label"


def upgrade() -> None:
    """Go up."""
    with op.batch_alter_table("credentials") as credentials:
        credentials.drop_constraint(_CONSTRAINT, type_="unique")
    active = sa.text("state = 'active'")
    op.create_index(
        "uq_credentials_active", "credentials", _LABEL, unique=True, sqlite_where=active, postgresql_where=active
    )


def downgrade() -> None:
    """Go down; refused where a label was used again."""
    op.drop_index("uq_credentials_active", "credentials")
    with op.batch_alter_table("credentials") as credentials:
        credentials.create_unique_constraint(_CONSTRAINT, _LABEL)

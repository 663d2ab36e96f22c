"""What is due at an upstream is found by an index: of one provider, the first ones.

Safe online: indexes only, made without keeping writers out.
"""

from collections.abc import Sequence

from alembic import op
from sqlalchemy import text

revision: str = "0018"
down_revision: str | Sequence[str] | None = "0017"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_DUE = "ix_credential_versions_due"
_CHECKED = "ix_credential_versions_checked"
_PROBED = {where: text("next_probe_at IS NOT NULL") for where in ("sqlite_where", "postgresql_where")}
_TRIED = {where: text("next_try_at IS NOT NULL") for where in ("sqlite_where", "postgresql_where")}


def upgrade() -> None:
    """Go up."""
    op.drop_index(_DUE, "credential_versions")
    op.create_index(_DUE, "credential_versions", ["state", "provider", "next_probe_at"], **_PROBED)
    op.create_index(_CHECKED, "credential_versions", ["health_at", "next_probe_at"], **_PROBED)
    op.create_index("ix_rotations_due", "rotations", ["state", "provider", "next_try_at"], **_TRIED)
    op.drop_index("ix_intakes_state", "intakes")
    op.create_index("ix_intakes_state", "intakes", ["state", "id"])
    op.create_index("ix_intakes_expiring", "intakes", ["state", "expires_at"])
    op.create_index("ix_organizations_state", "organizations", ["state", "id"])
    op.create_index("ix_credentials_address", "credentials", ["organization_id", "provider", "label"])


def downgrade() -> None:
    """Go down."""
    op.drop_index("ix_credentials_address", "credentials")
    op.drop_index("ix_organizations_state", "organizations")
    op.drop_index("ix_intakes_expiring", "intakes")
    op.drop_index("ix_intakes_state", "intakes")
    op.create_index("ix_intakes_state", "intakes", ["state"])
    op.drop_index("ix_rotations_due", "rotations")
    op.drop_index(_CHECKED, "credential_versions")
    op.drop_index(_DUE, "credential_versions")
    op.create_index(_DUE, "credential_versions", ["state", "next_probe_at"])

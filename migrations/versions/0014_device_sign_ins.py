"""Command lines without a browser, which wait for their person.

Safe online: a new table.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0014"
down_revision: str | Sequence[str] | None = "0013"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_ID = sa.String().with_variant(postgresql.UUID(), "postgresql")


def upgrade() -> None:
    """Go up."""
    op.create_table(
        "device_sign_ins",
        sa.Column("id", _ID, nullable=False),
        sa.Column("secret_hash", sa.LargeBinary(), nullable=False),
        sa.Column("code_hash", sa.LargeBinary(), nullable=False),
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("agent", sa.String(), nullable=False),
        sa.Column("session_id", _ID, nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("asked_at", sa.BigInteger(), nullable=False),
        sa.Column("refused_at", sa.BigInteger(), nullable=True),
        sa.Column("row_mac", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_device_sign_ins"),
        sa.UniqueConstraint("secret_hash", name="uq_device_sign_ins_secret_hash"),
        sa.UniqueConstraint("code_hash", name="uq_device_sign_ins_code_hash"),
    )
    op.create_index("ix_device_sign_ins_expires_at", "device_sign_ins", ["expires_at"])


def downgrade() -> None:
    """Go down: whoever waits for a code's answer has to begin again."""
    op.drop_table("device_sign_ins")

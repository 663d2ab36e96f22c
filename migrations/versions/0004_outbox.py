"""The outbox: notices with what their words need, webhooks, and a delivery for each telling.

Safe online: new columns that are empty or have defaults; the notices of before count as told.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0004"
down_revision: str | Sequence[str] | None = "0003"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Go up."""
    with op.batch_alter_table("notices") as notices:
        notices.add_column(sa.Column("contact", sa.String(), server_default="", nullable=False))
        notices.add_column(sa.Column("dedup", sa.String(), nullable=True))
        notices.add_column(sa.Column("facts", sa.JSON(), server_default="{}", nullable=False))
        notices.add_column(sa.Column("fanned_out_at", sa.BigInteger(), nullable=True))
    op.execute("UPDATE notices SET dedup = id, fanned_out_at = created_at")
    with op.batch_alter_table("notices") as notices:
        notices.alter_column("dedup", existing_type=sa.String(), nullable=False)
        notices.create_unique_constraint(op.f("uq_notices_organization_id_dedup"), ["organization_id", "dedup"])
    op.create_index("ix_notices_outbox", "notices", ["fanned_out_at"])
    op.create_table(
        "webhooks",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("format", sa.String(), nullable=False),
        sa.Column("shown", sa.String(), nullable=False),
        sa.Column("url_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("secret_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("previous_sealed", sa.LargeBinary(), nullable=True),
        sa.Column("previous_until", sa.BigInteger(), nullable=True),
        sa.Column("kinds", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("organization_id", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhooks")),
    )
    op.create_index(op.f("ix_webhooks_organization_id"), "webhooks", ["organization_id"])
    op.create_table(
        "deliveries",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("notice_id", sa.String(), nullable=False),
        sa.Column("channel", sa.String(), nullable=False),
        sa.Column("destination", sa.String(), nullable=False),
        sa.Column("audience", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("tries", sa.BigInteger(), nullable=False),
        sa.Column("next_try_at", sa.BigInteger(), nullable=False),
        sa.Column("last_status", sa.BigInteger(), nullable=True),
        sa.Column("last_error", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("settled_at", sa.BigInteger(), nullable=True),
        sa.Column("organization_id", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deliveries")),
        sa.UniqueConstraint(
            "notice_id", "channel", "destination", name=op.f("uq_deliveries_notice_id_channel_destination")
        ),
    )
    op.create_index(op.f("ix_deliveries_organization_id"), "deliveries", ["organization_id"])
    op.create_index("ix_deliveries_due", "deliveries", ["state", "next_try_at"])
    if op.get_bind().dialect.name == "postgresql":
        _fence("webhooks")
        _fence("deliveries")


def _fence(table: str) -> None:
    inside = (
        "current_setting('broker.tenants', true) = '*' "
        "OR organization_id = ANY(string_to_array(current_setting('broker.tenants', true), ','))"
    )
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY tenant ON {table} USING ({inside}) WITH CHECK ({inside})")


def downgrade() -> None:
    """Go down."""
    op.drop_table("deliveries")
    op.drop_table("webhooks")
    op.drop_index("ix_notices_outbox", "notices")
    with op.batch_alter_table("notices") as notices:
        notices.drop_constraint(op.f("uq_notices_organization_id_dedup"), type_="unique")
        for column in ("contact", "dedup", "facts", "fanned_out_at"):
            notices.drop_column(column)

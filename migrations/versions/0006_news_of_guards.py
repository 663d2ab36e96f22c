"""PostgreSQL tells replicas of every guard that is raised.  Safe online: a trigger on a small table."""

from collections.abc import Sequence

from alembic import op

revision: str = "0006"
down_revision: str | Sequence[str] | None = "0005"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Go up."""
    if op.get_bind().dialect.name != "postgresql":
        return
    op.execute(
        "CREATE FUNCTION keybroker_tell_guard() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "PERFORM pg_notify('keybroker_guards', NEW.id || ' ' || NEW.epoch); RETURN NULL; END $$"
    )
    op.execute(
        "CREATE TRIGGER keybroker_tell_guard AFTER INSERT OR UPDATE ON guards "
        "FOR EACH ROW EXECUTE FUNCTION keybroker_tell_guard()"
    )


def downgrade() -> None:
    """Go down."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP TRIGGER keybroker_tell_guard ON guards")
        op.execute("DROP FUNCTION keybroker_tell_guard()")

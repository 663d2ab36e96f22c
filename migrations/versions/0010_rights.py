"""What shows that the broker wrote the rows that give rights, and who approved grants and accounts.

Empty columns are added, then what exists is authenticated in the same transaction, row by row, while others wait for
these tables.  It needs the broker's own keys, which only `broker migrate` hands over.  Leases that are over stay
without.  Who made an account is read from the record.
"""

import json
from collections.abc import Sequence
from time import time
from typing import Any

import sqlalchemy as sa
from alembic import context, op

from broker.formats import rowmac
from broker.schema import SchemaUnusable

revision: str = "0010"
down_revision: str | Sequence[str] | None = "0009"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_APPROVED = {"needs_approval": sa.Boolean(), "approved_by": sa.String(), "approved_at": sa.BigInteger()}
_TEXT, _NUMBER, _BYTES, _FLAG, _JSON = sa.String(), sa.BigInteger(), sa.LargeBinary(), sa.Boolean(), sa.JSON()
_OWNED = {"id": _TEXT, "organization_id": _TEXT, "provider": _TEXT, "label": _TEXT}
_FIELDS: dict[str, dict[str, Any]] = {
    "organizations": {**dict.fromkeys(("id", "slug", "name"), _TEXT), "created_at": _NUMBER},
    "intakes": {
        **_OWNED,
        **dict.fromkeys(("rotation_id", "credential_id"), _TEXT),
        **dict.fromkeys(("public_key", "proof_hash"), _BYTES),
        **dict.fromkeys(("version", "status_serial", "created_at", "expires_at"), _NUMBER),
    },
    "operators": {
        **dict.fromkeys(("id", "name", "created_by"), _TEXT),
        **dict.fromkeys(("roles", "organizations"), _JSON),
        "token_hash": _BYTES,
        **dict.fromkeys(("created_at", "expires_at"), _NUMBER),
        **_APPROVED,
    },
    "workloads": {
        **dict.fromkeys(("id", "name", "created_by"), _TEXT),
        "jwks": _JSON,
        "secret_hash": _BYTES,
        "created_at": _NUMBER,
    },
    "credentials": {**_OWNED, "variables": _JSON, "created_at": _NUMBER},
    "grants": {
        **_OWNED,
        **dict.fromkeys(("workload_id", "created_by"), _TEXT),
        **dict.fromkeys(("modes", "presets", "rules"), _JSON),
        **dict.fromkeys(("purpose_required", "implicit", "retries"), _FLAG),
        **dict.fromkeys(("max_ttl", "rate_uses", "rate_seconds", "max_uses", "expires_at", "created_at"), _NUMBER),
        **_APPROVED,
    },
    "leases": {
        **_OWNED,
        **dict.fromkeys(("workload_id", "grant_id", "credential_id", "mode", "purpose"), _TEXT),
        **dict.fromkeys(("version", "issued_at", "until"), _NUMBER),
    },
}


def upgrade() -> None:
    """Go up."""
    for table in _FIELDS:
        op.add_column(table, sa.Column("row_mac", sa.LargeBinary(), nullable=True))
    for table in ("grants", "operators"):
        op.add_column(table, sa.Column("needs_approval", sa.Boolean(), server_default=sa.text("false"), nullable=False))
        op.add_column(table, sa.Column("approved_by", sa.String(), nullable=True))
        op.add_column(table, sa.Column("approved_at", sa.BigInteger(), nullable=True))
    op.add_column("operators", sa.Column("created_by", sa.String(), server_default="", nullable=False))
    _name_makers()
    context.config.attributes["authenticated"] = sum(map(_authenticate, _FIELDS))


def _name_makers() -> None:
    events = sa.table("audit_events", sa.column("kind"), sa.column("actor_id"), sa.column("core"))
    operators = sa.table("operators", sa.column("id"), sa.column("created_by"))
    made = sa.select(events.c.actor_id, events.c.core).where(events.c.kind == "operator.created")
    for maker, core in op.get_bind().execute(made).all():
        subject = json.loads(core)["subject"]
        op.execute(operators.update().where(operators.c.id == subject).values(created_by=maker))


def _authenticate(name: str) -> int:
    fields = _FIELDS[name]
    columns = [sa.column(column, type_) for column, type_ in fields.items()]
    table = sa.table(name, *columns, sa.column("row_mac", sa.LargeBinary()), sa.column("ended_at"))
    query = sa.select(*(table.c[column] for column in fields))
    if name == "leases":
        query = query.where(table.c.until > int(time() * 1000), table.c.ended_at.is_(None))
    rows = op.get_bind().execute(query).mappings().all()
    key = context.config.attributes.get("row_key")
    if rows and key is None:
        raise SchemaUnusable(
            "Rows that give rights are from before they were authenticated: look whether that is so, as this makes "
            "them the broker's own, and run `broker migrate`."
        )
    for row in rows:
        fresh = rowmac.mac(key, name, dict(row))
        op.execute(table.update().where(table.c.id == row["id"]).values(row_mac=fresh))
    return len(rows)


def downgrade() -> None:
    """Go down; what waits for an approval is revoked, as nothing would know that it waits."""
    now = int(time() * 1000)
    for table in ("grants", "operators"):
        op.execute(
            f"UPDATE {table} SET state = 'revoked', revoked_at = {now} "  # noqa: S608 - no input in it
            "WHERE state = 'active' AND needs_approval AND approved_by IS NULL"
        )
    op.drop_column("operators", "created_by")
    for table in ("grants", "operators"):
        for column in _APPROVED:
            op.drop_column(table, column)
    for table in _FIELDS:
        op.drop_column(table, "row_mac")

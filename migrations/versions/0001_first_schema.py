"""The first schema: every table of the main job, row-level security, and a record that only grows.

Safe on an empty database only; going down drops everything.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0001"
down_revision: str | Sequence[str] | None = None
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

TABLES = (
    "audit_batches",
    "audit_events",
    "audit_head",
    "bootstrap",
    "credential_versions",
    "credentials",
    "grants",
    "guards",
    "idempotency",
    "identity_evidence",
    "intakes",
    "internal_keys",
    "key_fingerprints",
    "leases",
    "operators",
    "organizations",
    "signing_keys",
    "throttles",
    "used_assertions",
    "uses",
    "workloads",
)

TENANT_COLUMNS = {
    "organizations": "id",
    "credentials": "organization_id",
    "credential_versions": "organization_id",
    "grants": "organization_id",
    "intakes": "organization_id",
    "leases": "organization_id",
    "uses": "organization_id",
    "audit_events": "organization_id",
}


def upgrade() -> None:
    """Go up."""
    op.create_table(
        "audit_batches",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("base", sa.BigInteger(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_batches")),
    )
    op.create_table(
        "audit_events",
        sa.Column("idx", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("decision", sa.String(), nullable=False),
        sa.Column("organization_id", sa.String(), nullable=False),
        sa.Column("actor_id", sa.String(), nullable=False),
        sa.Column("credential_id", sa.String(), nullable=False),
        sa.Column("lease_id", sa.String(), nullable=False),
        sa.Column("core", sa.LargeBinary(), nullable=False),
        sa.Column("personal", sa.LargeBinary(), nullable=False),
        sa.Column("salt_core", sa.LargeBinary(), nullable=False),
        sa.Column("salt_personal", sa.LargeBinary(), nullable=False),
        sa.Column("entry", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("idx", name=op.f("pk_audit_events")),
    )
    with op.batch_alter_table("audit_events", schema=None) as batch_op:
        batch_op.create_index("ix_audit_events_actor", ["actor_id", "idx"], unique=False)
        batch_op.create_index("ix_audit_events_credential", ["credential_id", "idx"], unique=False)
        batch_op.create_index("ix_audit_events_kind", ["kind", "idx"], unique=False)
        batch_op.create_index("ix_audit_events_lease", ["lease_id", "idx"], unique=False)
        batch_op.create_index("ix_audit_events_organization", ["organization_id", "idx"], unique=False)
        batch_op.create_index("ix_audit_events_time", ["time"], unique=False)

    op.create_table(
        "audit_head",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_head")),
    )
    op.create_table(
        "bootstrap",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_bootstrap")),
    )
    op.create_table(
        "credential_versions",
        sa.Column("credential_id", sa.String(), nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("last4", sa.String(), nullable=False),
        sa.Column("intake_id", sa.String(), nullable=True),
        sa.Column("verdict", sa.String(), nullable=False),
        sa.Column("probes", sa.BigInteger(), nullable=False),
        sa.Column("next_probe_at", sa.BigInteger(), nullable=True),
        sa.Column("staged_at", sa.BigInteger(), nullable=False),
        sa.Column("verified_at", sa.BigInteger(), nullable=True),
        sa.Column("activated_at", sa.BigInteger(), nullable=True),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.Column("destroyed_at", sa.BigInteger(), nullable=True),
        sa.Column("organization_id", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("credential_id", "number", name=op.f("pk_credential_versions")),
    )
    with op.batch_alter_table("credential_versions", schema=None) as batch_op:
        batch_op.create_index("ix_credential_versions_due", ["state", "next_probe_at"], unique=False)
        batch_op.create_index(batch_op.f("ix_credential_versions_organization_id"), ["organization_id"], unique=False)

    op.create_table(
        "credentials",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("label", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("variables", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.Column("organization_id", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_credentials")),
        sa.UniqueConstraint(
            "organization_id", "provider", "label", name=op.f("uq_credentials_organization_id_provider_label")
        ),
    )
    with op.batch_alter_table("credentials", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_credentials_organization_id"), ["organization_id"], unique=False)

    op.create_table(
        "grants",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("workload_id", sa.String(), nullable=False),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("label", sa.String(), nullable=True),
        sa.Column("modes", sa.JSON(), nullable=False),
        sa.Column("max_ttl", sa.BigInteger(), nullable=False),
        sa.Column("purpose_required", sa.Boolean(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.Column("organization_id", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_grants")),
    )
    with op.batch_alter_table("grants", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_grants_organization_id"), ["organization_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_grants_workload_id"), ["workload_id"], unique=False)

    op.create_table(
        "guards",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_guards")),
    )
    op.create_table(
        "idempotency",
        sa.Column("principal_id", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("request_hash", sa.String(), nullable=False),
        sa.Column("status", sa.BigInteger(), nullable=False),
        sa.Column("answer_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("principal_id", "key", name=op.f("pk_idempotency")),
    )
    with op.batch_alter_table("idempotency", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_idempotency_expires_at"), ["expires_at"], unique=False)

    op.create_table(
        "identity_evidence",
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("id_hash", sa.String(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("provider", "id_hash", name=op.f("pk_identity_evidence")),
    )
    with op.batch_alter_table("identity_evidence", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_identity_evidence_owner"), ["owner"], unique=False)

    op.create_table(
        "intakes",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("label", sa.String(), nullable=False),
        sa.Column("contact", sa.String(), nullable=False),
        sa.Column("purpose", sa.String(), nullable=False),
        sa.Column("requested_by", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("proof_hash", sa.LargeBinary(), nullable=False),
        sa.Column("public_key", sa.LargeBinary(), nullable=False),
        sa.Column("private_sealed", sa.LargeBinary(), nullable=True),
        sa.Column("credential_id", sa.String(), nullable=True),
        sa.Column("version", sa.BigInteger(), nullable=True),
        sa.Column("refusal", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("submitted_at", sa.BigInteger(), nullable=True),
        sa.Column("settled_at", sa.BigInteger(), nullable=True),
        sa.Column("organization_id", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_intakes")),
    )
    with op.batch_alter_table("intakes", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_intakes_organization_id"), ["organization_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_intakes_state"), ["state"], unique=False)

    op.create_table(
        "internal_keys",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_internal_keys")),
    )
    op.create_table(
        "key_fingerprints",
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("fingerprint", name=op.f("pk_key_fingerprints")),
    )
    op.create_table(
        "leases",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("workload_id", sa.String(), nullable=False),
        sa.Column("grant_id", sa.String(), nullable=False),
        sa.Column("credential_id", sa.String(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("label", sa.String(), nullable=False),
        sa.Column("mode", sa.String(), nullable=False),
        sa.Column("purpose", sa.String(), nullable=False),
        sa.Column("issued_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("end_reason", sa.String(), nullable=False),
        sa.Column("organization_id", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_leases")),
    )
    with op.batch_alter_table("leases", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_leases_credential_id"), ["credential_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_leases_organization_id"), ["organization_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_leases_workload_id"), ["workload_id"], unique=False)

    op.create_table(
        "operators",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("roles", sa.JSON(), nullable=False),
        sa.Column("organizations", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_operators")),
        sa.UniqueConstraint("name", name=op.f("uq_operators_name")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_operators_token_hash")),
    )
    op.create_table(
        "organizations",
        sa.Column("slug", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.Column("id", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_organizations")),
        sa.UniqueConstraint("slug", name=op.f("uq_organizations_slug")),
    )
    op.create_table(
        "signing_keys",
        sa.Column("kid", sa.String(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("kid", name=op.f("pk_signing_keys")),
    )
    op.create_table(
        "throttles",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("window", sa.BigInteger(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_throttles")),
    )
    with op.batch_alter_table("throttles", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_throttles_window"), ["window"], unique=False)

    op.create_table(
        "used_assertions",
        sa.Column("workload_id", sa.String(), nullable=False),
        sa.Column("jti", sa.String(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("workload_id", "jti", name=op.f("pk_used_assertions")),
    )
    with op.batch_alter_table("used_assertions", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_used_assertions_expires_at"), ["expires_at"], unique=False)

    op.create_table(
        "uses",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("lease_id", sa.String(), nullable=False),
        sa.Column("credential_id", sa.String(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("workload_id", sa.String(), nullable=False),
        sa.Column("method", sa.String(), nullable=False),
        sa.Column("authorized_at", sa.BigInteger(), nullable=False),
        sa.Column("completed_at", sa.BigInteger(), nullable=True),
        sa.Column("status", sa.BigInteger(), nullable=True),
        sa.Column("organization_id", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_uses")),
    )
    with op.batch_alter_table("uses", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_uses_lease_id"), ["lease_id"], unique=False)
        batch_op.create_index("ix_uses_open", ["completed_at", "authorized_at"], unique=False)
        batch_op.create_index(batch_op.f("ix_uses_organization_id"), ["organization_id"], unique=False)

    op.create_table(
        "workloads",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("jwks", sa.JSON(), nullable=False),
        sa.Column("secret_hash", sa.LargeBinary(), nullable=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workloads")),
        sa.UniqueConstraint("name", name=op.f("uq_workloads_name")),
    )

    op.execute("INSERT INTO audit_head (id, size) VALUES (1, 0)")
    if op.get_bind().dialect.name == "postgresql":
        _fence_tenants()
    _refuse_changes_to_the_record()


def _fence_tenants() -> None:
    """Row-level security: a session sees the tenants in ``broker.tenants``; unset, it sees none."""
    for table, column in TENANT_COLUMNS.items():
        inside = (
            f"current_setting('broker.tenants', true) = '*' "
            f"OR {column} = ANY(string_to_array(current_setting('broker.tenants', true), ','))"
        )
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        # Also for the table's owner, which the broker's role usually is.
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY tenant ON {table} USING ({inside}) WITH CHECK ({inside})")


def _refuse_changes_to_the_record() -> None:
    """Hygiene, not evidence: a superuser can switch triggers off."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'the record only grows'; END $$"
        )
        op.execute(
            "CREATE TRIGGER audit_events_only_grow BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_events "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
        return
    for change in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER audit_events_no_{change.lower()} BEFORE {change} ON audit_events "
            "BEGIN SELECT RAISE(ABORT, 'the record only grows'); END"
        )


def downgrade() -> None:
    """Go down."""
    for table in TABLES:
        op.drop_table(table)
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION refuse_change()")

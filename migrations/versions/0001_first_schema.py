"""The first schema: every table, row-level security, and a record that only grows.

Safe on an empty database only; going down drops everything.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from broker.audit.months import HEAD, MONTH
from broker.audit.on_postgresql import FUNCTION

revision: str = "0001"
down_revision: str | Sequence[str] | None = None
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

TABLES = (
    "allowances",
    "audit_archives",
    "audit_blocks",
    "audit_cursors",
    "audit_events",
    "audit_head",
    "audit_places",
    "audit_series",
    "bootstrap",
    "credential_versions",
    "credentials",
    "deliveries",
    "delivery_queues",
    "exposures",
    "findings",
    "grants",
    "guards",
    "idempotency",
    "identity_evidence",
    "intakes",
    "internal_keys",
    "key_evidence",
    "key_fingerprints",
    "keystore_strays",
    "leases",
    "notices",
    "operators",
    "organizations",
    "rotations",
    "signing_keys",
    "throttles",
    "use_days",
    "used_assertions",
    "used_challenges",
    "uses",
    "webhooks",
    "workloads",
)

TENANT_COLUMNS = {
    "audit_events": "organization_id",
    "credential_versions": "organization_id",
    "credentials": "organization_id",
    "deliveries": "organization_id",
    "exposures": "organization_id",
    "findings": "organization_id",
    "grants": "organization_id",
    "intakes": "organization_id",
    "key_evidence": "organization_id",
    "leases": "organization_id",
    "notices": "organization_id",
    "organizations": "id",
    "rotations": "organization_id",
    "use_days": "organization_id",
    "uses": "organization_id",
    "webhooks": "organization_id",
}

_ID = sa.String().with_variant(postgresql.UUID(), "postgresql")
# A partitioned table's key names what it is partitioned by.
_EVENT_KEY = {"postgresql": ("idx", "month"), "sqlite": ("idx",)}

_ACCESS_OF = """
DECLARE
    job uuid;
    named_id uuid;
    named_slug text;
    tenant uuid;
    of_provider text;
    of_label text;
    found json[];
    scope text := coalesce(current_setting('broker.tenants', true), '');
BEGIN
    IF current_setting('transaction_read_only')::boolean THEN
        RAISE read_only_sql_transaction USING MESSAGE = 'the server takes no writes';
    END IF;
    FOR job, named_id, named_slug, of_provider, of_label IN
        SELECT substr(target->>0, 5), substr(target->>1, 5), target->>2, target->>3, target->>4
        FROM json_array_elements(targets) target
    LOOP
        PERFORM set_config('broker.tenants', '*', true);
        tenant := (SELECT id FROM organizations WHERE id = named_id OR slug = named_slug);
        PERFORM set_config('broker.tenants', coalesce(tenant::text, ''), true);
        found := found || (
            SELECT json_build_object(
                'workload', (SELECT row_to_json(w) FROM workloads w WHERE w.id = job),
                'organization', (SELECT row_to_json(o) FROM organizations o WHERE o.id = tenant),
                'credential', row_to_json(c),
                'versions', (
                    SELECT json_agg(v) FROM credential_versions v
                    WHERE v.credential_id = c.id AND v.organization_id = tenant
                        AND (v.state IN ('active', 'retiring') OR v.retired_at IS NOT NULL)
                ),
                'grants', (
                    SELECT json_agg(g) FROM grants g
                    WHERE g.workload_id = job AND g.organization_id = tenant AND g.provider = of_provider
                ),
                'epochs', (
                    SELECT json_object_agg(e.id, e.epoch) FROM guards e
                    WHERE e.id = ANY(ARRAY[
                        'wkl_' || replace(job::text, '-', ''), 'org_' || replace(tenant::text, '-', ''),
                        'crd_' || replace(c.id::text, '-', '')
                    ] || ARRAY(
                        SELECT 'grt_' || replace(g.id::text, '-', '') FROM grants g
                        WHERE g.workload_id = job AND g.organization_id = tenant AND g.provider = of_provider
                    ))
                )
            )
            FROM (VALUES (1)) one LEFT JOIN LATERAL (
                SELECT * FROM credentials
                WHERE organization_id = tenant AND provider = of_provider AND label = of_label
                ORDER BY state <> 'active', created_at DESC, id DESC LIMIT 1
            ) c ON true
        );
    END LOOP;
    PERFORM set_config('broker.tenants', scope, true);
    RETURN array_to_json(found);
END
"""


def upgrade() -> None:
    """Go up."""
    op.create_table(
        "allowances",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_allowances"),
    )
    op.create_table(
        "audit_archives",
        sa.Column("month", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("first", sa.BigInteger(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("root", sa.LargeBinary(), nullable=False),
        sa.Column("earliest", sa.BigInteger(), nullable=False),
        sa.Column("latest", sa.BigInteger(), nullable=False),
        sa.Column("archived_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("month", name="pk_audit_archives"),
    )
    op.create_table(
        "audit_blocks",
        sa.Column("block", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("earliest", sa.BigInteger(), nullable=False),
        sa.Column("latest", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("block", name="pk_audit_blocks"),
    )
    op.create_table(
        "audit_cursors",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("next", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_audit_cursors"),
    )
    op.create_table(
        "audit_events",
        sa.Column("idx", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("month", sa.BigInteger(), nullable=False),
        sa.Column("id", _ID, nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("decision", sa.String(), nullable=False),
        sa.Column("organization_id", _ID, nullable=False),
        sa.Column("actor_id", sa.String(), nullable=False),
        sa.Column("credential_id", _ID, nullable=False),
        sa.Column("lease_id", _ID, nullable=False),
        sa.Column("core", sa.LargeBinary(), nullable=False),
        sa.Column("personal", sa.LargeBinary(), nullable=False),
        sa.Column("salt_core", sa.LargeBinary(), nullable=False),
        sa.Column("personal_commitment", sa.LargeBinary(), nullable=False),
        sa.Column("entry", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint(*_EVENT_KEY[op.get_bind().dialect.name], name="pk_audit_events"),
        postgresql_partition_by="LIST (month)",
    )
    op.create_index(
        "ix_audit_events_id",
        "audit_events",
        ["id"],
    )
    op.create_table(
        "audit_head",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("tried", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("month", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("latest", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("believed", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit_head"),
    )
    op.create_table(
        "audit_places",
        sa.Column("span", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("term", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("block", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("places", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("span", "term", "block", name="pk_audit_places"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "audit_series",
        sa.Column("began_at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("base", sa.BigInteger(), nullable=False),
        sa.Column("lost_to", sa.BigInteger(), nullable=True),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("confirmed_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("began_at", name="pk_audit_series"),
    )
    op.create_table(
        "bootstrap",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_bootstrap"),
    )
    op.create_table(
        "credential_versions",
        sa.Column("credential_id", _ID, nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("last4", sa.String(), nullable=False),
        sa.Column("intake_id", _ID, nullable=True),
        sa.Column("verdict", sa.String(), nullable=False),
        sa.Column("health", sa.String(), server_default="healthy", nullable=False),
        sa.Column("health_at", sa.BigInteger(), nullable=True),
        sa.Column("probes", sa.BigInteger(), nullable=False),
        sa.Column("next_probe_at", sa.BigInteger(), nullable=True),
        sa.Column("staged_at", sa.BigInteger(), nullable=False),
        sa.Column("verified_at", sa.BigInteger(), nullable=True),
        sa.Column("activated_at", sa.BigInteger(), nullable=True),
        sa.Column("retired_at", sa.BigInteger(), nullable=True),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.Column("confirmed_at", sa.BigInteger(), nullable=True),
        sa.Column("destroyed_at", sa.BigInteger(), nullable=True),
        sa.Column("reminders", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("upstream_id", sa.String(), server_default="", nullable=False),
        sa.Column("leak_mark", sa.String(), nullable=True),
        sa.Column("organization_id", _ID, nullable=False),
        sa.PrimaryKeyConstraint("credential_id", "number", name="pk_credential_versions"),
    )
    op.create_index(
        "ix_credential_versions_due",
        "credential_versions",
        ["state", "next_probe_at"],
    )
    op.create_index(
        "ix_credential_versions_leak_mark",
        "credential_versions",
        ["leak_mark"],
    )
    op.create_index(
        "ix_credential_versions_organization_id",
        "credential_versions",
        ["organization_id"],
    )
    op.create_table(
        "credentials",
        sa.Column("id", _ID, nullable=False),
        sa.Column("organization_id", _ID, nullable=False),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("label", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("variables", sa.JSON(), nullable=False),
        sa.Column("contact", sa.String(), server_default="", nullable=False),
        sa.Column("paused_at", sa.BigInteger(), nullable=True),
        sa.Column("rotation_days", sa.BigInteger(), nullable=True),
        sa.Column("max_age_days", sa.BigInteger(), nullable=True),
        sa.Column("on_max_age", sa.String(), server_default="warn", nullable=False),
        sa.Column("used_at", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.Column("row_mac", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_credentials"),
    )
    op.create_index(
        "ix_credentials_organization_id",
        "credentials",
        ["organization_id"],
    )
    op.create_index(
        "uq_credentials_active",
        "credentials",
        ["organization_id", "provider", "label"],
        unique=True,
        sqlite_where=sa.text("state = 'active'"),
        postgresql_where=sa.text("state = 'active'"),
    )
    op.create_table(
        "deliveries",
        sa.Column("id", _ID, nullable=False),
        sa.Column("organization_id", _ID, nullable=False),
        sa.Column("notice_id", _ID, nullable=False),
        sa.Column("channel", sa.String(), nullable=False),
        sa.Column("destination", sa.String(), nullable=False),
        sa.Column("queue", sa.String(), nullable=False),
        sa.Column("audience", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("tries", sa.BigInteger(), nullable=False),
        sa.Column("next_try_at", sa.BigInteger(), nullable=False),
        sa.Column("last_status", sa.BigInteger(), nullable=True),
        sa.Column("last_error", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("settled_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_deliveries"),
        sa.UniqueConstraint("notice_id", "channel", "destination", name="uq_deliveries_notice_id_channel_destination"),
    )
    op.create_index(
        "ix_deliveries_queue",
        "deliveries",
        ["queue", "next_try_at", "id"],
        sqlite_where=sa.text("state = 'pending'"),
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.create_index(
        "ix_deliveries_organization_id",
        "deliveries",
        ["organization_id"],
    )
    op.create_table(
        "delivery_queues",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("urgent", sa.Boolean(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("rests_until", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_delivery_queues"),
    )
    op.create_index(
        "ix_delivery_queues_due",
        "delivery_queues",
        ["urgent", "due_at", "id"],
    )
    op.create_table(
        "exposures",
        sa.Column("id", _ID, nullable=False),
        sa.Column("organization_id", _ID, nullable=False),
        sa.Column("credential_id", _ID, nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("found_by", sa.String(), nullable=False),
        sa.Column("found_where", sa.String(), nullable=False),
        sa.Column("note", sa.String(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("reported_by", sa.String(), nullable=False),
        sa.Column("reported_at", sa.BigInteger(), nullable=False),
        sa.Column("rotation_id", _ID, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_exposures"),
        sa.UniqueConstraint("credential_id", "version", name="uq_exposures_credential_id_version"),
    )
    op.create_index(
        "ix_exposures_organization_id",
        "exposures",
        ["organization_id"],
    )
    op.create_table(
        "findings",
        sa.Column("id", _ID, nullable=False),
        sa.Column("organization_id", _ID, nullable=False),
        sa.Column("credential_id", _ID, nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("place", sa.String(), nullable=False),
        sa.Column("place_hash", sa.String(), nullable=False),
        sa.Column("found_by", sa.String(), nullable=False),
        sa.Column("found_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_findings"),
        sa.UniqueConstraint(
            "credential_id", "version", "place_hash", name="uq_findings_credential_id_version_place_hash"
        ),
    )
    op.create_index(
        "ix_findings_organization_id",
        "findings",
        ["organization_id"],
    )
    op.create_table(
        "grants",
        sa.Column("id", _ID, nullable=False),
        sa.Column("organization_id", _ID, nullable=False),
        sa.Column("workload_id", _ID, nullable=False),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("label", sa.String(), nullable=True),
        sa.Column("modes", sa.JSON(), nullable=False),
        sa.Column("max_ttl", sa.BigInteger(), nullable=False),
        sa.Column("purpose_required", sa.Boolean(), nullable=False),
        sa.Column("presets", sa.JSON(), server_default="[]", nullable=False),
        sa.Column("rules", sa.JSON(), server_default="[]", nullable=False),
        sa.Column("rate_uses", sa.BigInteger(), nullable=True),
        sa.Column("rate_seconds", sa.BigInteger(), nullable=True),
        sa.Column("max_uses", sa.BigInteger(), nullable=True),
        sa.Column("implicit", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("retries", sa.Boolean(), server_default="true", nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("needs_approval", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("approved_by", sa.String(), nullable=True),
        sa.Column("approved_at", sa.BigInteger(), nullable=True),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.Column("row_mac", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_grants"),
    )
    op.create_index(
        "ix_grants_organization_id",
        "grants",
        ["organization_id"],
    )
    op.create_table(
        "guards",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_guards"),
    )
    op.create_table(
        "idempotency",
        sa.Column("principal_id", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("request_hash", sa.String(), nullable=False),
        sa.Column("status", sa.BigInteger(), nullable=False),
        sa.Column("answer_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("principal_id", "key", name="pk_idempotency"),
    )
    op.create_index(
        "ix_idempotency_expires_at",
        "idempotency",
        ["expires_at"],
    )
    op.create_table(
        "identity_evidence",
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("id_hash", sa.String(), nullable=False),
        sa.Column("owner", _ID, nullable=False),
        sa.PrimaryKeyConstraint("provider", "id_hash", name="pk_identity_evidence"),
    )
    op.create_index(
        "ix_identity_evidence_owner",
        "identity_evidence",
        ["owner"],
    )
    op.create_table(
        "intakes",
        sa.Column("id", _ID, nullable=False),
        sa.Column("organization_id", _ID, nullable=False),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("label", sa.String(), nullable=False),
        sa.Column("contact", sa.String(), nullable=False),
        sa.Column("purpose", sa.String(), nullable=False),
        sa.Column("requested_by", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("proof_hash", sa.LargeBinary(), nullable=False),
        sa.Column("link_key", sa.LargeBinary(), nullable=True),
        sa.Column("status_key", sa.LargeBinary(), nullable=True),
        sa.Column("public_key", sa.LargeBinary(), nullable=False),
        sa.Column("private_sealed", sa.LargeBinary(), nullable=True),
        sa.Column("rotation_id", _ID, nullable=True),
        sa.Column("status_serial", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("credential_id", _ID, nullable=True),
        sa.Column("version", sa.BigInteger(), nullable=True),
        sa.Column("refusal", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("drawn_at", sa.BigInteger(), nullable=True),
        sa.Column("submitted_at", sa.BigInteger(), nullable=True),
        sa.Column("settled_at", sa.BigInteger(), nullable=True),
        sa.Column("row_mac", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_intakes"),
    )
    op.create_index(
        "ix_intakes_organization_id",
        "intakes",
        ["organization_id"],
    )
    op.create_index(
        "ix_intakes_state",
        "intakes",
        ["state"],
    )
    op.create_table(
        "internal_keys",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_internal_keys"),
    )
    op.create_table(
        "key_evidence",
        sa.Column("credential_id", _ID, nullable=False),
        sa.Column("version", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("id_hash", sa.String(), nullable=False),
        sa.Column("organization_id", _ID, nullable=False),
        sa.PrimaryKeyConstraint("credential_id", "version", "id_hash", name="pk_key_evidence"),
    )
    op.create_index(
        "ix_key_evidence_organization_id",
        "key_evidence",
        ["organization_id"],
    )
    op.create_table(
        "key_fingerprints",
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("owner", _ID, nullable=False),
        sa.PrimaryKeyConstraint("fingerprint", name="pk_key_fingerprints"),
    )
    op.create_table(
        "keystore_strays",
        sa.Column("reference", sa.LargeBinary(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("stored", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("retry_at", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("reference", name="pk_keystore_strays"),
    )
    op.create_index(
        "ix_keystore_strays_due_at",
        "keystore_strays",
        ["due_at"],
    )
    op.create_table(
        "leases",
        sa.Column("id", _ID, nullable=False),
        sa.Column("organization_id", _ID, nullable=False),
        sa.Column("workload_id", _ID, nullable=False),
        sa.Column("grant_id", _ID, nullable=False),
        sa.Column("credential_id", _ID, nullable=False),
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
        sa.Column("row_mac", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_leases"),
    )
    op.create_index(
        "ix_leases_credential",
        "leases",
        ["credential_id", "expires_at"],
    )
    op.create_index(
        "ix_leases_ended",
        "leases",
        ["issued_at", "id"],
        sqlite_where=sa.text("ended_at IS NOT NULL"),
        postgresql_where=sa.text("ended_at IS NOT NULL"),
    )
    op.create_index(
        "ix_leases_issued",
        "leases",
        ["issued_at", "id"],
    )
    op.create_index(
        "ix_leases_organization",
        "leases",
        ["organization_id", "issued_at", "id"],
    )
    op.create_index(
        "ix_leases_provider",
        "leases",
        ["provider", "issued_at", "id"],
    )
    op.create_index(
        "ix_leases_revoked",
        "leases",
        ["issued_at", "id"],
        sqlite_where=sa.text("ended_at IS NOT NULL AND end_reason = 'lease.revoked'"),
        postgresql_where=sa.text("ended_at IS NOT NULL AND end_reason = 'lease.revoked'"),
    )
    op.create_index(
        "ix_leases_standing",
        "leases",
        ["expires_at"],
        sqlite_where=sa.text("ended_at IS NULL"),
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.create_index(
        "ix_leases_workload",
        "leases",
        ["workload_id", "issued_at", "id"],
    )
    op.create_table(
        "notices",
        sa.Column("id", _ID, nullable=False),
        sa.Column("organization_id", _ID, nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("credential_id", _ID, nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("contact", sa.String(), server_default="", nullable=False),
        sa.Column("dedup", sa.String(), nullable=False),
        sa.Column("facts", sa.JSON(), server_default="{}", nullable=False),
        sa.Column("fanned_out_at", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_notices"),
        sa.UniqueConstraint("organization_id", "dedup", name="uq_notices_organization_id_dedup"),
    )
    op.create_index(
        "ix_notices_organization_id",
        "notices",
        ["organization_id"],
    )
    op.create_index(
        "ix_notices_outbox",
        "notices",
        ["fanned_out_at"],
    )
    op.create_table(
        "operators",
        sa.Column("id", _ID, nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("roles", sa.JSON(), nullable=False),
        sa.Column("organizations", sa.JSON(), nullable=True),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.String(), server_default="", nullable=False),
        sa.Column("needs_approval", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("approved_by", sa.String(), nullable=True),
        sa.Column("approved_at", sa.BigInteger(), nullable=True),
        sa.Column("previous_token_hash", sa.LargeBinary(), nullable=True),
        sa.Column("previous_until", sa.BigInteger(), nullable=True),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.Column("row_mac", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_operators"),
        sa.UniqueConstraint("token_hash", name="uq_operators_token_hash"),
    )
    op.create_index(
        "ix_operators_name",
        "operators",
        ["name"],
    )
    op.create_index(
        "ix_operators_previous_token_hash",
        "operators",
        ["previous_token_hash"],
        unique=True,
    )
    op.create_index(
        "uq_operators_active",
        "operators",
        ["name"],
        unique=True,
        sqlite_where=sa.text("state = 'active'"),
        postgresql_where=sa.text("state = 'active'"),
    )
    op.create_table(
        "organizations",
        sa.Column("slug", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("rotation_days", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.Column("id", _ID, nullable=False),
        sa.Column("row_mac", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_organizations"),
        sa.UniqueConstraint("slug", name="uq_organizations_slug"),
    )
    op.create_table(
        "rotations",
        sa.Column("id", _ID, nullable=False),
        sa.Column("organization_id", _ID, nullable=False),
        sa.Column("credential_id", _ID, nullable=False),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("requested_by", sa.String(), nullable=False),
        sa.Column("intake_id", _ID, nullable=True),
        sa.Column("from_version", sa.BigInteger(), nullable=True),
        sa.Column("to_version", sa.BigInteger(), nullable=True),
        sa.Column("seen_ids", sa.BigInteger(), nullable=True),
        sa.Column("known_ids", sa.BigInteger(), nullable=True),
        sa.Column("shared_ids", sa.BigInteger(), nullable=True),
        sa.Column("grace_minutes", sa.BigInteger(), nullable=False),
        sa.Column("deadline_hours", sa.BigInteger(), nullable=False),
        sa.Column("opened_at", sa.BigInteger(), nullable=False),
        sa.Column("activated_at", sa.BigInteger(), nullable=True),
        sa.Column("grace_until", sa.BigInteger(), nullable=True),
        sa.Column("retire_by", sa.BigInteger(), nullable=True),
        sa.Column("failing_at", sa.BigInteger(), nullable=True),
        sa.Column("tries", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("next_try_at", sa.BigInteger(), nullable=True),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_rotations"),
    )
    op.create_index(
        "ix_rotations_credential_id",
        "rotations",
        ["credential_id"],
    )
    op.create_index(
        "ix_rotations_organization_id",
        "rotations",
        ["organization_id"],
    )
    op.create_index(
        "ix_rotations_state",
        "rotations",
        ["state", "grace_until"],
    )
    op.create_index(
        "uq_rotations_open",
        "rotations",
        ["credential_id"],
        unique=True,
        sqlite_where=sa.text("ended_at IS NULL"),
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.create_table(
        "signing_keys",
        sa.Column("kid", sa.String(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("kid", name="pk_signing_keys"),
    )
    op.create_table(
        "throttles",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("window", sa.BigInteger(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_throttles"),
    )
    op.create_index(
        "ix_throttles_window",
        "throttles",
        ["window"],
    )
    op.create_table(
        "use_days",
        sa.Column("credential_id", _ID, nullable=False),
        sa.Column("version", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("workload_id", _ID, nullable=False),
        sa.Column("day", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("uses", sa.BigInteger(), nullable=False),
        sa.Column("reveals", sa.BigInteger(), nullable=False),
        sa.Column("last_use", sa.BigInteger(), nullable=False),
        sa.Column("last_reveal", sa.BigInteger(), nullable=False),
        sa.Column("last_lease", sa.BigInteger(), nullable=False),
        sa.Column("organization_id", _ID, nullable=False),
        sa.PrimaryKeyConstraint("credential_id", "version", "workload_id", "day", name="pk_use_days"),
    )
    op.create_index(
        "ix_use_days_day",
        "use_days",
        ["day", "credential_id", "version", "workload_id"],
    )
    op.create_index(
        "ix_use_days_organization_id",
        "use_days",
        ["organization_id"],
    )
    op.create_table(
        "used_assertions",
        sa.Column("workload_id", _ID, nullable=False),
        sa.Column("jti", sa.String(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("workload_id", "jti", name="pk_used_assertions"),
    )
    op.create_index(
        "ix_used_assertions_expires_at",
        "used_assertions",
        ["expires_at"],
    )
    op.create_table(
        "used_challenges",
        sa.Column("nonce", sa.String(), nullable=False),
        sa.Column("used_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("nonce", name="pk_used_challenges"),
    )
    op.create_index(
        "ix_used_challenges_used_at",
        "used_challenges",
        ["used_at"],
    )
    op.create_table(
        "uses",
        sa.Column("id", _ID, nullable=False),
        sa.Column("lease_id", _ID, nullable=False),
        sa.Column("credential_id", _ID, nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("workload_id", _ID, nullable=False),
        sa.Column("grant_id", _ID, nullable=False),
        sa.Column("method", sa.String(), nullable=False),
        sa.Column("authorized_at", sa.BigInteger(), nullable=False),
        sa.Column("organization_id", _ID, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_uses"),
    )
    op.create_index(
        "ix_uses_credential",
        "uses",
        ["credential_id"],
    )
    op.create_index(
        "ix_uses_organization_id",
        "uses",
        ["organization_id"],
    )
    op.create_table(
        "webhooks",
        sa.Column("id", _ID, nullable=False),
        sa.Column("organization_id", _ID, nullable=False),
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
        sa.PrimaryKeyConstraint("id", name="pk_webhooks"),
    )
    op.create_index(
        "ix_webhooks_organization_id",
        "webhooks",
        ["organization_id"],
    )
    op.create_table(
        "workloads",
        sa.Column("id", _ID, nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("jwks", sa.JSON(), nullable=False),
        sa.Column("secret_hash", sa.LargeBinary(), nullable=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.Column("row_mac", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_workloads"),
    )
    op.create_index(
        "ix_workloads_name",
        "workloads",
        ["name"],
    )
    op.create_index(
        "uq_workloads_active",
        "workloads",
        ["name"],
        unique=True,
        sqlite_where=sa.text("state = 'active'"),
        postgresql_where=sa.text("state = 'active'"),
    )

    op.execute("INSERT INTO audit_head (id, size) VALUES (1, 0)")
    if op.get_bind().dialect.name == "postgresql":
        _fence_tenants()
        _tell_guards()
    _refuse_changes_to_the_record()
    if op.get_bind().dialect.name == "postgresql":
        _make_functions()


def _fence_tenants() -> None:
    """Row-level security: a session sees the tenants in ``broker.tenants``; unset, it sees none."""
    scope = "current_setting('broker.tenants', true)"
    for table, column in TENANT_COLUMNS.items():
        named = f"string_to_array(CASE WHEN {scope} = '*' THEN '' ELSE {scope} END, ',')::uuid[]"
        inside = f"{scope} = '*' OR {column} = ANY({named})"
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        # Also for the table's owner, which the broker's role usually is.
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY tenant ON {table} USING ({inside}) WITH CHECK ({inside})")


def _tell_guards() -> None:
    """Replicas are told of every guard that is raised."""
    op.execute(
        "CREATE FUNCTION keybroker_tell_guard() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "PERFORM pg_notify('keybroker_guards', NEW.id || ' ' || NEW.epoch); RETURN NULL; END $$"
    )
    op.execute(
        "CREATE TRIGGER keybroker_tell_guard AFTER INSERT OR UPDATE ON guards "
        "FOR EACH ROW EXECUTE FUNCTION keybroker_tell_guard()"
    )


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


def _make_functions() -> None:
    """The record's months and its append, and what a lease is decided on, in one round trip each."""
    for function in (MONTH, HEAD, FUNCTION):
        op.execute(function)
    op.execute("SELECT keybroker_month(0), keybroker_month(1)")
    # Its settings hold within it: it goes by indexes, however few rows there were when it was planned, and bytes are in
    # hexadecimal.
    op.execute(
        "CREATE FUNCTION access_of(targets json) RETURNS json LANGUAGE plpgsql STABLE "
        "SET enable_seqscan = off SET bytea_output = 'hex' "
        f"AS $access_of${_ACCESS_OF}$access_of$"
    )


def downgrade() -> None:
    """Go down."""
    for table in TABLES:
        op.drop_table(table)
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION access_of(json), keybroker_append, keybroker_head, keybroker_month(int)")
        op.execute("DROP FUNCTION keybroker_tell_guard, refuse_change")

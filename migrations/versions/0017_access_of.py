"""What a lease is decided on is read in one round trip, by a function of PostgreSQL; an index for a job's grants.

Safe online: nothing that is there is changed, but that the index of jobs in grants names their organizations, too.
"""

from collections.abc import Sequence

from alembic import op

revision: str = "0017"
down_revision: str | Sequence[str] | None = "0016"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_BODY = """
DECLARE
    job text;
    named_id text;
    named_slug text;
    tenant text;
    of_provider text;
    of_label text;
    found json[];
    scope text := coalesce(current_setting('broker.tenants', true), '');
BEGIN
    IF current_setting('transaction_read_only')::boolean THEN
        RAISE read_only_sql_transaction USING MESSAGE = 'the server takes no writes';
    END IF;
    FOR job, named_id, named_slug, of_provider, of_label IN
        SELECT target->>0, target->>1, target->>2, target->>3, target->>4 FROM json_array_elements(targets) target
    LOOP
        PERFORM set_config('broker.tenants', '*', true);
        tenant := (SELECT id FROM organizations WHERE id = named_id OR slug = named_slug);
        PERFORM set_config('broker.tenants', coalesce(tenant, ''), true);
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
                    WHERE e.id = ANY(ARRAY[job, tenant, c.id] || ARRAY(
                        SELECT g.id FROM grants g
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
    op.create_index("ix_grants_target", "grants", ["workload_id", "organization_id"])
    op.drop_index("ix_grants_workload_id", "grants")
    if op.get_bind().dialect.name == "postgresql":
        # Its settings hold within it: it goes by indexes, however few rows there were when it was planned, and bytes
        # are in hexadecimal.
        op.execute(
            "CREATE FUNCTION access_of(targets json) RETURNS json LANGUAGE plpgsql STABLE "
            "SET enable_seqscan = off SET bytea_output = 'hex' "
            f"AS $access_of${_BODY}$access_of$"
        )


def downgrade() -> None:
    """Go down."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION access_of(json)")
    op.create_index("ix_grants_workload_id", "grants", ["workload_id"])
    op.drop_index("ix_grants_target", "grants")

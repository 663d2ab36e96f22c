"""The text of :mod:`broker.leases.lookup`, in each dialect's own words.

Its parameter is a JSON list of targets: job, organization's id or else its slug, provider, label.  Its answer is a JSON
list with what there is for each, in that order, with ids as the database has them.  What reads a tenant's row names the
tenant, by the index that makes it as quick among a million.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import JSON, BigInteger, Boolean, Column, LargeBinary

from broker.base.db import Table, table
from broker.credentials.tables import CredentialRow, VersionRow
from broker.grants.tables import GrantRow
from broker.identity.tables import WorkloadRow
from broker.organizations.tables import OrganizationRow

# What the migration made, without its head; a change of it is a new migration. STABLE: all its statements see what the
# calling one sees. A server that takes no writes has what is out of date, and its connection is of no more use.
BODY: Final = """
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


def _object(alias: str, row: type[Table]) -> str:
    """A JSON object of every column, for SQLite, whatever else than the broker put into one."""
    named = ", ".join(f"'{column.name}', {_value(f'{alias}.{column.name}', column)}" for column in table(row).columns)
    return f"json_object({named})"


def _value(name: str, column: Column[Any]) -> str:
    kind = column.type
    if isinstance(kind, LargeBinary):
        return f"CASE WHEN {name} IS NOT NULL THEN hex({name}) END"
    if isinstance(kind, Boolean):
        return f"CASE {name} WHEN 1 THEN json('true') WHEN 0 THEN json('false') END"
    if isinstance(kind, JSON):
        return f"CASE WHEN json_valid({name}) THEN json({name}) END"
    return f"CAST({name} AS {'INTEGER' if isinstance(kind, BigInteger) else 'TEXT'})"


_GRANTS = "FROM grants g WHERE g.workload_id = t.job AND g.organization_id = t.tenant AND g.provider = t.provider"
_SQLITE = f"""
WITH asked AS MATERIALIZED (
    SELECT
        key AS place,
        json_extract(value, '$[0]') AS job,
        json_extract(value, '$[1]') AS named_id,
        json_extract(value, '$[2]') AS named_slug,
        json_extract(value, '$[3]') AS provider,
        json_extract(value, '$[4]') AS label
    FROM json_each(?)
), within AS MATERIALIZED (
    SELECT *, (SELECT id FROM organizations WHERE id = named_id OR slug = named_slug) AS tenant FROM asked
), t AS MATERIALIZED (
    SELECT *, (
        SELECT id FROM credentials c
        WHERE c.organization_id = within.tenant AND c.provider = within.provider AND c.label = within.label
        ORDER BY c.state <> 'active', c.created_at DESC, c.id DESC LIMIT 1
    ) AS credential
    FROM within ORDER BY place
)
SELECT json_group_array(json_object(
    'workload', json((SELECT {_object("w", WorkloadRow)} FROM workloads w WHERE w.id = t.job)),
    'organization', json((SELECT {_object("o", OrganizationRow)} FROM organizations o WHERE o.id = t.tenant)),
    'credential', json((
        SELECT {_object("c", CredentialRow)} FROM credentials c
        WHERE c.id = t.credential AND c.organization_id = t.tenant
    )),
    'versions', json((
        SELECT json_group_array({_object("v", VersionRow)}) FROM credential_versions v
        WHERE v.credential_id = t.credential AND v.organization_id = t.tenant
            AND (v.state IN ('active', 'retiring') OR v.retired_at IS NOT NULL)
    )),
    'grants', json((SELECT json_group_array({_object("g", GrantRow)}) {_GRANTS})),
    'epochs', json((
        SELECT json_group_object(e.id, e.epoch) FROM guards e
        WHERE e.id IN (SELECT t.job UNION SELECT t.tenant UNION SELECT t.credential UNION SELECT g.id {_GRANTS})
    ))
)) FROM t
"""  # noqa: S608 - no input is in it, only the names of columns

QUERY: Final = {"postgresql": "SELECT access_of($1)", "sqlite": _SQLITE}

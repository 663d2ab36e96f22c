"""A batch on PostgreSQL: one statement, whose answer says that it is durable.

A function carries it out.

The function decides as :mod:`broker.audit.on_sqlite` does; one suite of tests runs both.  It is VOLATILE, and so each
of its statements has a snapshot of its own under READ COMMITTED.  The head row is locked first.  What the decision
relies on is compared in a *later* statement, which sees a revocation that committed while the lock was waited for.  A
single statement with everything in it (a CTE) would compare with a snapshot from before the wait.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import asyncpg
import msgspec

from broker.audit.batch import Batch, Decided, EventValues, Piece
from broker.audit.quota import SKEW_MS, Quota, Rate, Total
from broker.audit.unavailable import DatabaseBehind
from broker.base.db import Database
from broker.base.faults import is_away
from broker.base.id_column import as_uuid
from broker.base.many_rows import apart, on_json

# The function that the first migration makes.  Arrays of events and of guards are by place, from 1.  A row of
# ``p_rows`` begins with the place of its event.  The statements in ``p_statements`` run with the caller's own rights,
# as the function does.
FUNCTION: Final = f"""
CREATE OR REPLACE FUNCTION keybroker_append(
    p_floor bigint, p_repeated boolean,
    p_guards text[], p_epochs bigint[], p_relied text,
    p_quotas text[], p_take_for int[], p_take_from int[], p_take_rule int[], p_take_most bigint[], p_take_ms bigint[],
    p_ids uuid[], p_times bigint[], p_kinds text[], p_decisions text[], p_organizations uuid[], p_actors text[],
    p_credentials uuid[], p_leases uuid[], p_cores bytea[], p_personals bytea[], p_salts_core bytea[],
    p_commitments bytea[], p_entries bytea[],
    p_statements text[], p_rows text[],
    OUT o_size bigint, OUT o_accepted boolean[], OUT o_refused int[], OUT o_used_up int[], OUT o_waits bigint[]
) LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    head record;
    moved int[];
    kept bigint := cardinality(p_ids);
    before bigint[];
    after bigint[];
    undo bigint[];
    place int := 0;
    first int;
    value bigint;
    arrival bigint;
    span bigint;
    wait bigint;
    refused boolean;
    given jsonb;
BEGIN
    PERFORM set_config('broker.tenants', '*', true);
    SELECT * INTO head FROM keybroker_head();
    o_size := head.size;
    IF head.size < p_floor THEN
        o_size := -1;
        RETURN;
    END IF;

    IF p_repeated THEN
        SELECT min(e.idx) INTO value FROM audit_events e WHERE e.id = ANY (p_ids);
        IF value IS NOT NULL THEN
            o_size := value;
            o_accepted := ARRAY(
                SELECT EXISTS (SELECT FROM audit_events e WHERE e.id = p.id)
                FROM unnest(p_ids) WITH ORDINALITY AS p(id, n) ORDER BY p.n
            );
            RETURN;
        END IF;
    END IF;

    SELECT array_agg(p.n) INTO moved FROM unnest(p_guards, p_epochs) WITH ORDINALITY AS p(id, epoch, n)
    WHERE p.epoch <> COALESCE((SELECT g.epoch FROM guards g WHERE g.id = p.id), 0);
    IF moved IS NOT NULL THEN
        o_accepted := ARRAY(
            SELECT NOT EXISTS (SELECT FROM jsonb_array_elements(p.relied) AS g(n) WHERE g.n::int = ANY (moved))
            FROM jsonb_array_elements(p_relied::jsonb) WITH ORDINALITY AS p(relied, n) ORDER BY p.n
        );
    END IF;

    IF cardinality(p_quotas) > 0 THEN
        before := ARRAY(
            SELECT COALESCE((SELECT a.value FROM allowances a WHERE a.id = p.id), 0)
            FROM unnest(p_quotas) WITH ORDINALITY AS p(id, n) ORDER BY p.n
        );
        after := before;
        undo := before;
        FOR i IN 1 .. cardinality(p_take_for) LOOP
            IF p_take_for[i] <> place THEN
                place := p_take_for[i];
                first := i;
            END IF;
            CONTINUE WHEN NOT o_accepted[place];
            value := after[p_take_from[i]];
            undo[p_take_from[i]] := value;
            refused := false;
            wait := NULL;
            CASE p_take_rule[i]
            WHEN 1 THEN
                refused := value >= p_take_most[i];
                value := value + 1;
            WHEN 2 THEN
                arrival := p_times[place] * 1000;
                span := p_take_ms[i] * 1000;
                IF value > arrival + span + {SKEW_MS} * 1000 THEN
                    value := arrival;
                END IF;
                value := LEAST(GREATEST(value, arrival), arrival + span) + span / p_take_most[i];
                wait := value - arrival - span;
                refused := wait > 0;
                wait := (wait + 999) / 1000;
            ELSE
                span := p_times[place];
                refused := value > span AND value <= span + p_take_ms[i] + {SKEW_MS};
                wait := LEAST(value - span, p_take_ms[i]);
            END CASE;
            IF refused THEN
                o_accepted := COALESCE(o_accepted, array_fill(true, ARRAY[cardinality(p_ids)]));
                o_accepted[place] := false;
                o_refused := o_refused || place;
                o_used_up := o_used_up || i;
                o_waits := o_waits || wait;
                FOR j IN first .. i - 1 LOOP
                    after[p_take_from[j]] := undo[p_take_from[j]];
                END LOOP;
            ELSE
                after[p_take_from[i]] := value;
            END IF;
        END LOOP;
        IF after <> before THEN
            INSERT INTO allowances AS a (id, value)
            SELECT p.id, p.after FROM unnest(p_quotas, before, after) AS p(id, before, after) WHERE p.before <> p.after
            ON CONFLICT (id) DO UPDATE SET value = excluded.value;
        END IF;
    END IF;

    IF o_accepted IS NOT NULL THEN
        SELECT count(*) INTO kept FROM unnest(o_accepted) AS p(accepted) WHERE p.accepted;
        IF kept = 0 THEN
            RETURN;
        END IF;
    END IF;

    INSERT INTO audit_events (
        idx, month, id, time, kind, decision, organization_id, actor_id, credential_id, lease_id, core, personal,
        salt_core, personal_commitment, entry
    )
    SELECT head.size - 1 + row_number() OVER (ORDER BY p.n), head.month, p.id, p.time, p.kind, p.decision,
        p.organization_id, p.actor_id, p.credential_id, p.lease_id, p.core, p.personal, p.salt_core,
        p.personal_commitment, p.entry
    FROM unnest(
        p_ids, p_times, p_kinds, p_decisions, p_organizations, p_actors, p_credentials, p_leases, p_cores, p_personals,
        p_salts_core, p_commitments, p_entries
    ) WITH ORDINALITY AS p(
        id, time, kind, decision, organization_id, actor_id, credential_id, lease_id, core, personal, salt_core,
        personal_commitment, entry, n
    ) WHERE o_accepted IS NULL OR o_accepted[p.n];
    UPDATE audit_head SET size = head.size + kept, month = head.month, latest = GREATEST(
        head.latest,
        (
            SELECT max(p.time) FROM unnest(p_times) WITH ORDINALITY AS p(time, n)
            WHERE o_accepted IS NULL OR o_accepted[p.n]
        )
    ) WHERE id = 1;

    FOR i IN 1 .. cardinality(p_statements) LOOP
        given := p_rows[i];
        IF o_accepted IS NOT NULL THEN
            SELECT jsonb_agg(p.item ORDER BY p.n) INTO given
            FROM jsonb_array_elements(given) WITH ORDINALITY AS p(item, n) WHERE o_accepted[(p.item->>0)::int];
            CONTINUE WHEN given IS NULL;
        END IF;
        EXECUTE p_statements[i] USING given;
    END LOOP;
END
$$
"""  # noqa: S608 - no input in it

_APPEND: Final = f"SELECT * FROM keybroker_append({', '.join(f'${number}' for number in range(1, 27))})"  # noqa: S608 - as above
# A frozen server must not keep the record's callers for longer than a lock does.
_LONGEST_S: Final = 10.0
# In one snapshot for all its statements every wait for the head would end with an error, and be tried again.
_SETTINGS: Final = {"default_transaction_isolation": "read committed", "lock_timeout": "5000"}


class PostgresCommits:
    """Batches of one process on PostgreSQL, over a connection of their own."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._connection: asyncpg.Connection | None = None

    async def commit(self, batch: Batch) -> Decided:
        if self._connection is None:
            self._connection = await self._db.dedicated("record", longest_s=_LONGEST_S, settings=_SETTINGS)
        try:
            row = await self._connection.fetchrow(_APPEND, *_parameters(batch))
        except BaseException as error:
            # A new one may lead to another server; what a call that was cancelled left behind isn't known.
            if not isinstance(error, Exception) or is_away(error):
                await self.close()
            raise
        assert row is not None
        return _decided(batch, *row)

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()


def _parameters(batch: Batch) -> Iterable[Any]:
    pieces = batch.pieces
    guards, relied = _guards(pieces)
    quotas: dict[str, int] = {}
    takes: list[tuple[int, int, int, int, int]] = []
    for place, piece in enumerate(pieces, 1):
        takes += [(place, quotas.setdefault(quota.id, len(quotas) + 1), *_rule(quota)) for quota in piece.quotas]
    statements, rows = _writes(pieces)
    return (
        *(batch.floor, batch.repeated),
        *([guard for guard, _ in guards], [epoch for _, epoch in guards], relied),
        *([*quotas], *(zip(*takes, strict=True) if takes else [()] * 5)),
        *zip(*[_row(piece.values) for piece in pieces], strict=True),
        *(statements, rows),
    )


def _row(values: EventValues) -> tuple[Any, ...]:
    """The columns of an event, its ids as PostgreSQL takes them."""
    event_id, time, kind, decision, organization, actor, credential, lease, *rest = values
    uuids = as_uuid(event_id), as_uuid(organization), as_uuid(credential), as_uuid(lease)
    return (uuids[0], time, kind, decision, uuids[1], actor, uuids[2], uuids[3], *rest)


def _guards(pieces: Sequence[Piece]) -> tuple[dict[tuple[str, int], int], str]:
    """Each guard with an epoch, by its place, and which of them the pieces rely on."""
    places: dict[tuple[str, int], int] = {}
    relied = [[places.setdefault(guard, len(places) + 1) for guard in piece.guards.items()] for piece in pieces]
    return places, msgspec.json.encode(relied).decode()


def _rule(quota: Quota) -> tuple[int, int, int]:
    """The rule, how many, and milliseconds."""
    if isinstance(quota, Total):
        return 1, quota.limit, 0
    if isinstance(quota, Rate):
        return 2, quota.events, quota.period
    return 3, 0, quota.longest


def _writes(pieces: Sequence[Piece]) -> tuple[list[str], list[str]]:
    """Statements, and the rows of each with the places of their pieces."""
    groups: dict[str, list[tuple[Any, ...]]] = {}
    for place, piece in enumerate(pieces, 1):
        for sql, values in piece.writes:
            groups.setdefault(sql, []).append((place, *values))
    statements: list[str] = []
    rows: list[str] = []
    for sql, placed in groups.items():
        for group in apart(sql, placed, 1):
            statements.append(on_json(sql))
            rows.append(msgspec.json.encode(group).decode())
    return statements, rows


def _decided(
    batch: Batch,
    size: int,
    accepted: Sequence[bool] | None,
    refused: Sequence[int] | None,
    used_up: Sequence[int] | None,
    waits: Sequence[int | None] | None,
) -> Decided:
    if size < 0:
        raise DatabaseBehind
    taken = [quota.id for piece in batch.pieces for quota in piece.quotas]
    exhausted = {
        place - 1: (taken[number - 1], wait)
        for place, number, wait in zip(refused or (), used_up or (), waits or (), strict=True)
    }
    return Decided(size, tuple(accepted or [True] * len(batch.pieces)), exhausted)

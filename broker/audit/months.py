"""The record in months, which can be archived one by one.

An event's month is that in which it was committed, by the database's own clock (UTC), and never one before its
predecessor's.  So a month is a range of indices, whatever the clocks of brokers say.  On PostgreSQL each is a partition
of its own, which is there before its first event is.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from broker.base.clock import Millis

# Locks the head, and has its month be the present one.
HEAD: Final = """
CREATE FUNCTION keybroker_head(OUT size bigint, OUT latest bigint, OUT month bigint) LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    present int := to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYYMM');
BEGIN
    SELECT h.size, h.latest, h.month INTO size, latest, month FROM audit_head h WHERE h.id = 1 FOR UPDATE;
    IF month < present THEN
        PERFORM keybroker_month(0);
        month := present;
    END IF;
END
$$
"""

# The broker's role may insert into the record and owns nothing; so this runs with the rights of who migrated. Nobody
# reads or writes a month but by way of the whole, whose fences hold then.
MONTH: Final = """
CREATE FUNCTION keybroker_month(ahead int) RETURNS void LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path FROM CURRENT SET lock_timeout = '1s' AS $$
DECLARE
    first timestamp := date_trunc('month', clock_timestamp() AT TIME ZONE 'UTC')
        + make_interval(months => LEAST(GREATEST(ahead, 0), 3));
    month text := to_char(first, 'YYYYMM');
    name text := 'audit_events_' || month;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('keybroker_month'));
    IF to_regclass(name) IS NOT NULL THEN
        RETURN;
    END IF;
    EXECUTE format('CREATE TABLE %I (LIKE audit_events INCLUDING ALL)', name);
    EXECUTE format(
        'CREATE TRIGGER audit_events_only_grow BEFORE UPDATE OR DELETE OR TRUNCATE ON %I '
        'FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()', name
    );
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
    EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
    EXECUTE format('ALTER TABLE audit_events ATTACH PARTITION %I FOR VALUES IN (%s)', name, month);
END
$$
"""


def month_of(time: Millis) -> int:
    """The month (UTC) of a time in milliseconds, as in 202611."""
    day = datetime.fromtimestamp(time / 1000, UTC)
    return day.year * 100 + day.month

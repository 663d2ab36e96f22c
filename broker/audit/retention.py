"""Keep events for as long as their class is, then prune them; their entries stay in the log.

A block of the search's index (:mod:`broker.audit.places`) is looked at once all of its events are older than a class is
kept, are in the log, and were seen by everybody who follows the record.  Its events of that class go in pages, each in
a transaction that notes which they are (:mod:`broker.audit.pruned`) and puts it on the record.  A legal hold keeps
those of its organization, or all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from sqlalchemy import delete, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit import archives, holds, integrating, places, pruned
from broker.audit.events import BROKER, KINDS, Event
from broker.audit.head import lock_head
from broker.audit.record import record
from broker.audit.tables import BlockRow, CursorRow, EventRow
from broker.base.clock import DAY_MS, Clock, Millis, later
from broker.base.db import EVERY_TENANT, Database
from broker.base.duty import Duty
from broker.base.statements import OnConnection
from broker.formats.ids import NoId, OrganizationId

Class = Literal["uses", "decisions", "changes"]

# What says how the record itself came to be as it is, what proves that an export is whole, and the first account:
# whatever is pruned, these stay.
FOR_GOOD: Final = frozenset(
    {
        *("audit.pruned", "audit.erased", "audit.hold_placed", "audit.hold_lifted"),
        *("audit.head", "log.key_rotated", "log.key_retired"),
        *("record.archive_begun", "record.archived", "database.restored", "database.restore_confirmed"),
        "operator.bootstrapped",
    }
)
_USES: Final = frozenset({"use.authorized", "use.completed", "use.outcome_unknown"})
_DECISIONS: Final = (
    *("lease.", "auth.", "session.", "passkey.used", "passkey.refused"),
    *("use.denied", "audit.read", "intake.proof_refused", "leak.checked"),
)

# Events of one transaction, and transactions of one turn; the rest has the next one.
PAGE: Final = 1_000
_PAGES: Final = 64
_EVERY_MS: Final = 60_000

_PRUNE: Final = text("SELECT keybroker_prune(:indices)")
_TRIGGER: Final = "SELECT sql FROM sqlite_master WHERE type = 'trigger' AND name = 'audit_events_no_delete'"
_LIFT: Final = "DROP TRIGGER audit_events_no_delete"

# On PostgreSQL the broker's role can't delete what was recorded, but by this; what is for good stays for it, too.
FUNCTIONS: Final = (
    """
CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF TG_OP = 'DELETE' AND current_setting('broker.pruning', true) = 'on'
        AND current_user = (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = TG_RELID) THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION 'the record only grows';
END $$
""",
    f"""
CREATE FUNCTION keybroker_prune(p_indices bigint[]) RETURNS bigint LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path FROM CURRENT AS $$
DECLARE
    gone bigint;
BEGIN
    PERFORM set_config('broker.pruning', 'on', true);
    DELETE FROM audit_events WHERE idx = ANY (p_indices) AND idx < (SELECT min(size) FROM audit_checkpoint)
        AND kind <> ALL ('{{{",".join(sorted(FOR_GOOD))}}}');
    GET DIAGNOSTICS gone = ROW_COUNT;
    PERFORM set_config('broker.pruning', '', true);
    RETURN gone;
END $$
""",  # noqa: S608 - no input in it
)


class _Changed(Exception):
    """What this page stands on has changed since it began; it is begun again."""


@dataclass(frozen=True, slots=True)
class Retention:
    """Days that each class of events is kept; None is for ever."""

    uses: int | None = None
    decisions: int | None = None
    changes: int | None = None

    def limited(self) -> Mapping[Class, int]:
        """The classes that aren't kept for ever."""
        days: dict[Class, int | None] = {"uses": self.uses, "decisions": self.decisions, "changes": self.changes}
        return {name: limit for name, limit in days.items() if limit is not None}


def class_of(kind: str) -> Class | None:
    """The class of a kind of events; None if it is kept for good."""
    if kind in FOR_GOOD:
        return None
    if kind in _USES:
        return "uses"
    return "decisions" if kind.startswith(_DECISIONS) else "changes"


def duty(db: Database, clock: Clock, retention: Retention) -> Duty:
    """Prunes what is over."""

    async def prune_record() -> None:
        for name, days in retention.limited().items():
            await prune(db, name, days, clock())

    return Duty("prune_record", prune_record, every=_EVERY_MS, final=True)


async def prune(db: Database, name: Class, days: int, now: Millis) -> None:
    """Prune the events of a class that are older than it is kept, as many as one turn may."""
    for _ in range(_PAGES):
        try:
            if not await _page(db, name, days, now):
                return
        except _Changed:
            continue


async def _page(db: Database, name: Class, days: int, now: Millis) -> bool:
    """Prune some of the next block; says whether there may be more."""
    async with db.write(EVERY_TENANT) as session:
        cursor = await pruned.cursor(session, name)
        begin = max(cursor.next, await archives.first_here(session))
        block = begin // places.BLOCK
        end = (block + 1) * places.BLOCK
        held = await _held(session)
        if holds.EVERY in held or not await _is_over(session, block, end, later(now, -days * DAY_MS)):
            return False
        found = await _of_class(session, name, range(begin, end), held)
        if not found:
            cursor.next = end
            return True
        await _delete(session, found)
        await pruned.note(session, block, found)
        await (await session.connection()).run_sync(lambda sync: lock_head(OnConnection(sync)))
        if not await _held(session) <= held:
            raise _Changed
        reason = f"class={name},days={days},first={found[0]},last={found[-1]},count={len(found)}"
        await record(session, Event(kind="audit.pruned", time=now, actor=BROKER, reason=reason))
    return True


async def _held(session: AsyncSession) -> frozenset[OrganizationId | NoId]:
    return frozenset(row.whose for row in await holds.placed(session))


async def _is_over(session: AsyncSession, block: int, end: int, before: Millis) -> bool:
    """Whether all events of a block are older, in the log, and seen by all who follow them."""
    row = await session.get(BlockRow, block)
    followed = await session.scalar(select(func.min(CursorRow.next)).where(~pruned.is_own(CursorRow.name)))
    seen = await integrating.size(session) if followed is None else min(followed, await integrating.size(session))
    return row is not None and row.latest < before and end <= seen


async def _of_class(
    session: AsyncSession, name: Class, within: range, held: frozenset[OrganizationId | NoId]
) -> Sequence[int]:
    """The indices of the first events of a class, that no hold keeps."""
    kinds = [kind for kind in KINDS if class_of(kind) == name]
    query = select(EventRow.idx).where(EventRow.idx >= within.start, EventRow.idx < within.stop)
    query = query.where(EventRow.kind.in_(kinds), EventRow.organization_id.not_in(held))
    return (await session.scalars(query.order_by(EventRow.idx).limit(PAGE))).all()


async def _delete(session: AsyncSession, indices: Sequence[int]) -> None:
    connection = await session.connection()
    if connection.dialect.name == "postgresql":
        gone = (await connection.execute(_PRUNE, {"indices": list(indices)})).scalar_one()
    else:
        trigger = str((await connection.exec_driver_sql(_TRIGGER)).scalar_one())
        await connection.exec_driver_sql(_LIFT)
        gone = (await connection.execute(delete(EventRow).where(EventRow.idx.in_(indices)))).rowcount
        await connection.exec_driver_sql(trigger)
    if gone != len(indices):
        raise _Changed

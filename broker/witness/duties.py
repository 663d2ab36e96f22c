"""What the worker does about witnesses: it has them cosign the log's newest checkpoint.

Each is asked beside the others, and none of them holds up the log: one that doesn't answer is asked again at the next
turn.  If one has another history, the log stops (:mod:`broker.audit.integrating`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog
from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit import integrating, proving
from broker.audit.tables import CheckpointRow, CosignedRow, WitnessRow
from broker.base.clock import Millis, rfc3339
from broker.base.db import EVERY_TENANT
from broker.base.duty import Counts, Duty, together
from broker.formats.signed_note import Line, taken_apart
from broker.notifications.notices import notify
from broker.parts import Parts
from broker.witness.asking import Contradicts, Shown, Silent, cosigned
from broker.witness.listed import Listed

_log = structlog.get_logger()

# So long too few may cosign before people are told.
ALARM_MS = 300_000


def duties(parts: Parts, listed: Sequence[Listed], quorum: int) -> tuple[Duty, ...]:
    """The duty about witnesses; none where none is listed."""
    return (Duty("ask_witnesses", _Asking(parts, listed, quorum).turn),) if listed else ()


class _Asking:
    def __init__(self, parts: Parts, listed: Sequence[Listed], quorum: int) -> None:
        self._db, self._outbound, self._clock = parts.db, parts.outbound, parts.clock
        self._listed = listed
        self._quorum = quorum
        self._keeping = asyncio.Lock()  # of a checkpoint's cosignatures, which come at once

    async def turn(self) -> Counts:
        """Show every witness the newest checkpoint; tell by witness what it has, and since when."""
        async with self._db.read(EVERY_TENANT) as session:
            newest = await integrating.newest(session)
            known = {row.key: row for row in await session.scalars(select(WitnessRow))}
        if newest is None:
            return {}
        await self._forget(known.keys() - {witness.key.line() for witness in self._listed})
        await together(*(self._ask(witness, newest, known.get(witness.key.line())) for witness in self._listed))
        return await self._told()

    async def _ask(self, witness: Listed, newest: CheckpointRow, known: WitnessRow | None) -> None:
        has = known.size if known is not None and known.origin == newest.origin else 0
        if known is not None and known.failing_since is None and (known.origin, has) == (newest.origin, newest.size):
            return
        shown = Shown(newest.size, newest.note, lambda old: self._proof(old, newest.size))
        try:
            line = await cosigned(self._outbound, witness, shown, has)
        except Silent as silent:
            if known is None or known.failing_since is None:
                await self._note_silence(witness, str(silent))
        except Contradicts as other:
            await self._note_contradiction(witness, newest, other.size)
        else:
            await self._keep(witness, newest, line)

    async def _proof(self, old: int, size: int) -> Sequence[bytes]:
        async with self._db.read(EVERY_TENANT) as session:
            return await proving.consistency(session, old, size)

    async def _keep(self, witness: Listed, of: CheckpointRow, line: Line) -> None:
        """Keep a cosignature beside its checkpoint, and no longer what is of no use now."""
        async with self._keeping, self._db.write(EVERY_TENANT) as session:
            row = await _row(session, witness)
            row.origin, row.size, row.cosigned_at = of.origin, of.size, self._clock()
            row.failing_since = row.contradicts = None
            kept = await session.get(CosignedRow, (of.origin, of.size), with_for_update=True)
            if kept is None:
                session.add(CosignedRow(origin=of.origin, size=of.size, note=of.note + line.text().encode(), count=1))
            elif not _has(kept.note, line):
                kept.note, kept.count = kept.note + line.text().encode(), kept.count + 1
            await session.flush()
            await self._prune(session, of)

    async def _prune(self, session: AsyncSession, newest: CheckpointRow) -> None:
        of_log = CosignedRow.origin == newest.origin
        enough = select(func.max(CosignedRow.size)).where(of_log, CosignedRow.count >= self._quorum)
        last = await session.scalar(enough) or 0
        too_few = (CosignedRow.size < newest.size) & (CosignedRow.count < self._quorum)
        await session.execute(delete(CosignedRow).where(of_log, (CosignedRow.size < last) | too_few))

    async def _note_silence(self, witness: Listed, why: str) -> None:
        async with self._db.write(EVERY_TENANT) as session:
            row = await _row(session, witness)
            row.failing_since = row.failing_since or self._clock()
        _log.warning("witness.silent", witness=witness.key.name, why=why)

    async def _note_contradiction(self, witness: Listed, shown: CheckpointRow, size: int) -> None:
        """Stop the log, and tell people.

        Not if the log has meanwhile gone on to what the witness has.
        """
        async with self._db.write(EVERY_TENANT) as session:
            newest = await integrating.newest(session)
            assert newest is not None
            if newest.origin != shown.origin or shown.size < size <= newest.size:
                return
            row, now = await _row(session, witness), self._clock()
            if row.origin != shown.origin:
                row.origin, row.size = shown.origin, 0
            row.contradicts, row.failing_since = size, row.failing_since or now
            told = await notify(
                session,
                "log_contradicted",
                organization="",
                provider="",
                now=now,
                dedup=f"log_contradicted/{shown.origin}/{witness.key.id.hex()}",
                facts={"witness": witness.key.name, "events": size},
            )
        if told:
            _log.critical("witness.contradicts", witness=witness.key.name, size=size, shown=shown.size)

    async def _told(self) -> Counts:
        """What each witness has; people are told if too few have cosigned for a while."""
        async with self._db.read(EVERY_TENANT) as session:
            rows = {row.key: row for row in await session.scalars(select(WitnessRow))}
        failing = sorted(row.failing_since for row in rows.values() if row.failing_since is not None)
        # Those that had failed by then left too few.
        too_many = len(self._listed) - self._quorum
        if len(failing) > too_many and self._clock() - failing[too_many] >= ALARM_MS:
            await self._tell(failing[too_many])
        counts: dict[tuple[str, ...], float] = {}
        for witness in self._listed:
            if (row := rows.get(witness.key.line())) is not None:
                counts[witness.key.name, "size"] = row.size
                counts[witness.key.name, "seconds"] = (row.cosigned_at or 0) / 1000
        return counts

    async def _tell(self, since: Millis) -> None:
        async with self._db.write(EVERY_TENANT) as session:
            await notify(
                session,
                "log_unwitnessed",
                organization="",
                provider="",
                now=self._clock(),
                dedup=f"log_unwitnessed/{since}",
                facts={"since": rfc3339(since)},
            )

    async def _forget(self, keys: set[str]) -> None:
        """Forget witnesses that are listed no more."""
        if keys:
            async with self._db.write(EVERY_TENANT) as session:
                await session.execute(delete(WitnessRow).where(WitnessRow.key.in_(keys)))


async def _row(session: AsyncSession, witness: Listed) -> WitnessRow:
    key = witness.key.line()
    if (row := await session.get(WitnessRow, key, with_for_update=True)) is None:
        row = WitnessRow(key=key, origin="", size=0, cosigned_at=None, failing_since=None, contradicts=None)
        session.add(row)
    return row


def _has(note: bytes, line: Line) -> bool:
    return any((each.name, each.id) == (line.name, line.id) for each in taken_apart(note)[1])

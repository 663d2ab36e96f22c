"""Archive months of the record: into signed files, and then out of the database.

For each month that is over, the oldest first::

    1   its events are written to a file beside, which is read back, verified and put in its place with a signed note
    2   one transaction notes the archive and puts it on the record
    3   the archive is verified where it is, and the month is taken out

Whatever ends in between, the next run goes on: a file that is there already is compared with what it would write, and a
month that is noted and still here is taken out.  Whoever has used the record by then has counted it
(:mod:`broker.leases.use_days`), has put it into the log (:mod:`broker.audit.integrating`), and has pushed it to every
sink (:mod:`broker.siem`), or nothing is archived.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.app import Broker
from broker.audit import archives, detaching, indexing, integrating, pruned, series
from broker.audit.archive_file import ArchiveFile
from broker.audit.events import BROKER, Event
from broker.audit.months import month_of
from broker.audit.record import record
from broker.audit.subjects import Part, subjects_of
from broker.audit.tables import ArchiveRow, EventRow
from broker.base.clock import Millis
from broker.base.db import EVERY_TENANT
from broker.base.errors import Conflict, Forbidden, Invalid
from broker.formats.archive import ArchiveRefused, Span, Stored, Writing
from broker.formats.audit_event import LARGEST
from broker.leases import use_days
from broker.siem import cursors

_PAGE: Final = 2_000

# Told of how many events how many are done.
Advance = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Archived:
    """An archive of a month: its file, and what it has."""

    month: str
    file: Path
    first: int
    events: int


class Archiving:
    """Archives of one database in one folder, which nobody else writes to meanwhile."""

    def __init__(self, broker: Broker, folder: Path, advance: Advance) -> None:
        parts = broker.services.parts
        self._db, self._clock = parts.db, parts.clock
        self._database, self._signer = parts.keys.database_id, parts.keys.archives
        self._folder = folder
        self._advance = advance

    async def before(self, month: int) -> AsyncIterator[Archived]:
        """Archive the months before ``month``; yields each once it is taken out.

        Raises:
            Forbidden: this role can't take months out. Invalid: ``month`` is still to come.
            Conflict: a month can't be archived now; says why, and nothing of it was taken out.
        """
        if not await detaching.may(self._db):
            raise Forbidden(
                "This role of BROKER_DATABASE_URL can't take months out of the record. Name the role that owns the "
                "schema, as for `broker migrate`."
            )
        if month > month_of(self._clock()):
            raise Invalid("--before: is still to come; name a month until which all are over, such as the present one.")
        begun = False
        while True:
            for left in await detaching.left(self._db, month):
                if done := await self._finish(left):
                    yield done
            oldest = await self._oldest()
            if oldest is None or oldest >= month:
                return
            if not begun:  # this puts the head into the present month, so that the ones before are over
                reason = f"before={archives.named(month)}"
                event = Event(kind="record.archive_begun", time=self._clock(), actor=BROKER, reason=reason)
                async with self._db.write(EVERY_TENANT) as session:
                    await record(session, event)
                begun = True
            await self._write(oldest)

    async def _oldest(self) -> int | None:
        async with self._db.read(EVERY_TENANT) as session:
            return await archives.oldest(session)

    async def _write(self, month: int) -> None:
        """Write a month's archive, and note it."""
        span, writing = await self._begin(month)
        file = ArchiveFile.of(self._folder, month)
        try:
            with file.draft() as draft:
                draft.write(writing.header())
                earliest, latest = await self._events(month, span, writing, draft.write)
            manifest = writing.manifest()
            await self._follow(file.draft_verified(manifest), span)
            file.place(manifest, self._signer)
        except ArchiveRefused as refused:
            raise _not_archived(file, refused) from None
        now = self._clock()
        row = ArchiveRow(
            month=month,
            first=span.first,
            count=span.count,
            root=manifest.root,
            earliest=earliest,
            latest=latest,
            archived_at=now,
        )
        reason = f"month={span.month},first={span.first},count={span.count},root={manifest.root.hex()}"
        event = Event(kind="record.archived", time=now, actor=BROKER, reason=reason, note=file.lines.name)
        async with self._db.write(EVERY_TENANT) as session:
            session.add(row)
            await record(session, event)

    async def _begin(self, month: int) -> tuple[Span, Writing]:
        async with self._db.read(EVERY_TENANT) as session:
            first = await archives.first_here(session)
            end = await archives.end_of(session, month)
            if end is None:
                raise Conflict(f"{archives.named(month)} isn't over by the database's clock; its events stay.")
            if await use_days.counted_to(session) < end:
                raise Conflict(
                    f"Uses of {archives.named(month)} are not counted yet, which the worker does: see that one runs "
                    "(`broker serve` or `broker worker`), and run this again in a minute. Nothing was removed."
                )
            if await integrating.size(session) < end:
                raise Conflict(
                    f"The log doesn't have all of {archives.named(month)} yet, which the worker sees to: see that one "
                    "runs (`broker serve` or `broker worker`), and run this again in a minute. Nothing was removed."
                )
            if late := await cursors.behind(session, end):
                raise Conflict(
                    f"The sinks {', '.join(late)} don't have all of {archives.named(month)} yet. See that the worker "
                    "runs and they take events (`broker notice list` tells if not), or take them out of the file that "
                    "BROKER_SINKS names; the worker forgets them within an hour. Nothing was removed."
                )
            begun = (await series.known(session)).within(first, end)
        span = Span(self._database, archives.named(month), first, end - first)
        return span, Writing(span, begun)

    async def _events(
        self, month: int, span: Span, writing: Writing, write: Callable[[bytes], object]
    ) -> tuple[Millis, Millis]:
        """Write the month's events; returns the earliest and the latest time of one."""
        row, end = EventRow, span.first + span.count
        query = select(row.idx, row.time, row.core, row.salt_core, row.personal, row.personal_commitment, row.entry)
        earliest, latest = Millis(LARGEST), Millis(0)
        for at in range(span.first, end, _PAGE):
            page = query.where(row.month == month, row.idx >= at, row.idx < min(at + _PAGE, end)).order_by(row.idx)
            stop = min(at + _PAGE, end)
            async with self._db.read(EVERY_TENANT) as session:
                found = {index: (time, Stored(*kept)) for index, time, *kept in await session.execute(page)}
                await _refuse_altered(session, [(index, stored) for index, (_, stored) in found.items()], span)
                gone = await pruned.within(session, at, stop)
                entries = await integrating.entries(session, at, stop) if gone else ()
            for index in sorted(gone.union(found)):
                if index in found:
                    time, stored = found[index]
                    write(writing.event(index, stored))
                    earliest, latest = min(earliest, time), max(latest, time)
                else:
                    write(writing.pruned(index, entries[index - at]))
            self._advance(stop - span.first, span.count)
        return earliest, latest

    async def _follow(self, steps: Iterator[int], span: Span) -> None:
        """Go through a file to its end; others of this process have their turn meanwhile."""
        for done in steps:
            if done % _PAGE == 0:
                self._advance(done, span.count)
                await asyncio.sleep(0)

    async def _finish(self, month: int) -> Archived | None:
        """Take a month out whose archive is noted, and verifies, or that is empty."""
        async with self._db.read(EVERY_TENANT) as session:
            row = await session.get(ArchiveRow, month)
        if row is None:
            await detaching.take_out(self._db, month, self._advance)
            return None
        file = ArchiveFile.of(self._folder, month)
        span = Span(self._database, archives.named(month), row.first, row.count)
        try:
            manifest = file.manifest(self._signer.verifier())
            if (manifest.span, manifest.root) != (span, row.root):
                raise ArchiveRefused(0, "is about another archive")
            await self._follow(file.verified(manifest), span)
        except FileNotFoundError:
            raise Conflict(
                f"{span.month} was archived, and is partly here; its archive {file.lines.name} is not in "
                f"{self._folder}. Name the folder where it is. Nothing was removed."
            ) from None
        except ArchiveRefused as refused:
            raise _not_archived(file, refused) from None
        await detaching.take_out(self._db, month, self._advance)
        await indexing.forget(self._db, row.first + row.count)
        return Archived(span.month, file.lines, row.first, row.count)


async def _refuse_altered(session: AsyncSession, found: Sequence[tuple[int, Stored]], span: Span) -> None:
    """Refuse a personal part that can't be opened though nobody was erased.

    Raises:
        ArchiveRefused: names the first one.
    """
    parts = [Part(json.loads(stored.core), stored.personal, stored.personal_commitment) for _, stored in found]
    opened = await subjects_of(session).opened(session, parts)
    for (index, _), part in zip(found, opened, strict=True):
        if part.personal is None and not part.erased:
            raise ArchiveRefused(index - span.first + 2, f"event {index} is not what was committed to")


def _not_archived(file: ArchiveFile, refused: ArchiveRefused) -> Conflict:
    return Conflict(f"{file.lines}: {refused}. Nothing was removed.")

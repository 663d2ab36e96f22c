"""Notice that the database was restored: how far the record was is kept outside of it.

A restored backup brings back what was revoked and spent since, and nothing within the database can tell.  So every
process compares the database with what was kept outside: before it serves, and about once a second while it does.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import structlog
from sqlalchemy import func, literal, select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit import archives, integrating, pruned
from broker.audit.durability import ASKED
from broker.audit.log import AuditLog
from broker.audit.tables import EventRow, HeadRow, SeriesRow
from broker.audit.unavailable import DatabaseBehind
from broker.base import closed
from broker.base.clock import rfc3339
from broker.base.db import EVERY_TENANT, Database
from broker.base.election import Election
from broker.base.errors import Unavailable
from broker.formats.head import Head, Unreadable

_log = structlog.get_logger()

_EVERY_S = 1.0
# How soon a place that took nothing is tried again if no event came since.
_AGAIN_S = 10.0


class Outside(Protocol):
    """A place outside of the database that keeps a head; ``where`` names it to people."""

    where: str

    async def read(self) -> Head | None:
        """The head that is kept there; None if there is none.

        Raises:
            Unreadable: something else is there.  Unavailable, OSError: it can't be read now.
        """
        ...

    async def keep(self, head: Head) -> None:
        """Keep a head there, unless a later one is there; raises as :meth:`read`."""
        ...


class HeadFile:
    """A head in a file, which one process writes at a time and only its owner reads."""

    where = "the state folder"

    def __init__(self, folder: Path, database_id: str) -> None:
        self.path = folder / f"{database_id}.json"

    async def read(self) -> Head | None:
        return await asyncio.to_thread(self._read)

    async def keep(self, head: Head) -> None:
        await asyncio.to_thread(self._keep, head)

    def _read(self) -> Head | None:
        try:
            return Head.decode(self.path.read_text("ascii"))
        except FileNotFoundError:
            return None
        except (Unreadable, UnicodeDecodeError):
            raise Unreadable.kept_in(f"{self.path}:", "remove the file") from None

    def _keep(self, head: Head) -> None:
        # What root makes here belongs to its folder's owner: a command that somebody ran as root must not keep the
        # broker from it.
        folder, lock = self.path.parent, self.path.with_suffix(".lock")
        if not folder.is_dir():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if os.geteuid() == 0:
                above = folder.parent.stat()
                os.chown(folder, above.st_uid, above.st_gid, follow_symlinks=False)
        with suppress(FileExistsError):
            closed.create(lock, b"", handed_over=True)
        beside = os.open(lock, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.flock(beside, fcntl.LOCK_EX)
            try:
                kept = self._read()
            except Unreadable:  # a process that starts meets it, and is refused; this one knows better
                kept = None
            if kept is None or head.is_after(kept):
                closed.replace(self.path, head.encode().encode(), handed_over=True)
        finally:
            os.close(beside)


async def head_of(session: AsyncSession, *, has_series: bool = True) -> Head:
    """How far the database's record is.

    ``has_series`` is False for a schema from before there were series.
    """
    series = select(func.max(SeriesRow.began_at)).scalar_subquery() if has_series else literal(0)
    # A query of its own: a difference can fail, so PostgreSQL would take no index for it below row-level security, and
    # read the whole record.
    last = select(HeadRow.size - 1).scalar_subquery()
    query = select(HeadRow.size, EventRow.time, EventRow.entry, series)
    found = await session.execute(query.outerjoin(EventRow, EventRow.idx == last))
    size, time, entry, began_at = found.one()
    return Head(began_at or 0, size, time or 0, entry or b"")


async def continues(session: AsyncSession, present: Head, kept: Head) -> bool:
    """Whether the database, being at ``present``, still holds what it held at ``kept``.

    What an operator has said was lost counts as held: the series that began then shows it.  So does an event that was
    archived since; its entry is in a file.  That of one that was pruned is in the log.
    """
    if kept.series < present.series or kept == present:
        return True
    if kept.is_after(present):
        return False
    if kept.size == 0:
        return True
    entry = await session.scalar(select(EventRow.entry).where(EventRow.idx == kept.size - 1))
    if entry is None and await pruned.within(session, kept.size - 1, kept.size):
        return [kept.entry] == [*await integrating.entries(session, kept.size - 1, kept.size)]
    return entry == kept.entry or (entry is None and await archives.holds(session, kept.size - 1))


@dataclass(slots=True)
class _Place:
    """A place outside, what this process put there, and when it may be tried again.

    It is tried again after a while if it took nothing.
    """

    outside: Outside
    has: Head | None = None
    again_at: float = 0.0
    warned: bool = False


class Heads:
    """What one process knows of the record's head.

    It keeps the head ``here`` (on this host) and ``shared`` (for all).
    """

    def __init__(self, db: Database, here: Outside, shared: Outside | None, *, again_s: float = _AGAIN_S) -> None:
        self._again_s = again_s
        self._db = db
        self._here = _Place(here)
        self._shared = None if shared is None else _Place(shared)
        self._seen: Head | None = None
        self._ending = asyncio.Event()

    async def check(self, *, has_series: bool = True) -> None:
        """Refuse a database that is behind what was kept outside.

        Raises:
            DatabaseBehind, Unreadable: names the fix.
        """
        kept = await self._kept()
        async with self._db.read(EVERY_TENANT) as session:
            present = await head_of(session, has_series=has_series)
            for head in kept:
                if not await continues(session, present, head):
                    raise _behind(present, head)
        self._seen = present

    async def kept_in(self) -> list[str]:
        """Where a head is kept outside, in words.

        Empty if nothing would tell that the database was restored.  A head that is behind what was seen counts only if
        others keep it: then this host's is no longer kept.
        """
        kept = []
        for place in self._places():
            head = await self._read(place)
            old = place is self._here and head is not None and self._seen is not None and self._seen.is_after(head)
            if head is not None and not old:
                kept.append(place.outside.where)
        return kept

    async def furthest(self) -> Head | None:
        """The latest head that was kept outside; None if none was, or none can be read."""
        furthest: Head | None = None
        for place in self._places():
            with suppress(Unreadable):  # its fix, after a restore, is to go on
                head = await self._read(place)
                if head is not None and (furthest is None or head.is_after(furthest)):
                    furthest = head
        return furthest

    async def watch(self, audit: AuditLog, election: Election) -> None:
        """Look about once a second until stopped, and then once more."""

        async def again_and_again(look: Callable[[], Awaitable[None]]) -> None:
            while audit.closed is None and not self._ending.is_set():
                await look()
                with suppress(TimeoutError):
                    async with asyncio.timeout(_EVERY_S):
                        await self._ending.wait()

        # Apart: while a Vault doesn't answer, the look at this host goes on as ever.
        await asyncio.gather(
            again_and_again(lambda: self._look_here(audit)), again_and_again(lambda: self._share(audit, election))
        )
        await self.look(audit, election)

    def stop(self) -> None:
        """End the watch.

        It isn't cancelled: a look that is cut short could leave its connection open.
        """
        self._ending.set()

    async def look(self, audit: AuditLog, election: Election) -> None:
        """Compare the database with what this process saw, and keep its head.

        Whoever leads keeps the shared head, too.  Once the database is behind, nothing is recorded, and so nothing
        done, until the process starts again.  Nothing is kept before :meth:`check` or :meth:`replace`.
        """
        await self._look_here(audit)
        await self._share(audit, election)

    async def _look_here(self, audit: AuditLog) -> None:
        if self._seen is None or audit.closed is not None:
            return
        try:
            audit.floor = max(audit.floor, await self._compare(self._seen))
        except DatabaseBehind as behind:
            audit.closed = DatabaseBehind()
            _log.critical("database.behind", mend=behind.public)
        except Exception as error:  # noqa: BLE001 - a database that is away is looked at again
            _log.debug("database.head_unknown", error=type(error).__name__)

    async def _share(self, audit: AuditLog, election: Election) -> None:
        if self._seen is not None and self._shared is not None and audit.closed is None and election.leads:
            await self._keep(self._shared, self._seen)

    async def _compare(self, seen: Head) -> int:
        """Keep the present head on this host; returns how many events there are.

        Raises:
            DatabaseBehind: the database doesn't hold what it held when this process last looked.
        """
        async with self._db.read(EVERY_TENANT) as session:
            await session.execute(ASKED[self._db.dialect])
            present = await head_of(session)
            if seen.series != present.series or not await continues(session, present, seen):
                raise _behind(present, seen)
        self._seen = present
        await self._keep(self._here, present)
        return present.size

    async def cover(self) -> int:
        """Keep the present head everywhere; returns how many events it is of.

        The log tells others of no more events than that.  So whatever they know of is missed if the database loses it.

        Raises:
            DatabaseBehind: it lost some already.
        """
        if self._seen is None:
            raise DatabaseBehind
        size = await self._compare(self._seen)
        if self._shared is not None:
            await self._keep(self._shared, self._seen)
        return size

    async def replace(self) -> None:
        """Keep the head of a series that has just begun, everywhere."""
        async with self._db.read(EVERY_TENANT) as session:
            self._seen = await head_of(session)
        for place in self._places():
            place.again_at = 0.0
            await self._keep(place, self._seen)

    def _places(self) -> Sequence[_Place]:
        return [self._here] if self._shared is None else [self._here, self._shared]

    async def _kept(self) -> Sequence[Head]:
        return [head for place in self._places() if (head := await self._read(place)) is not None]

    async def _read(self, place: _Place) -> Head | None:
        try:
            return await place.outside.read()
        except (Unavailable, OSError) as error:
            _warn("database.head_not_read", place, error)
            return None

    async def _keep(self, place: _Place, head: Head) -> None:
        if head == place.has or time.monotonic() < place.again_at:
            return
        try:
            await place.outside.keep(head)
        except (Unavailable, OSError) as error:
            place.again_at = time.monotonic() + self._again_s
            _warn("database.head_not_kept", place, error)
        else:
            place.has, place.warned = head, False


def _warn(what: str, place: _Place, error: Exception) -> None:
    """Log the problem once for each place, until that works again."""
    if not place.warned:
        place.warned = True
        _log.warning(what, outside=place.outside.where, error=type(error).__name__)


def _behind(present: Head, kept: Head) -> DatabaseBehind:
    if present.series > kept.series:
        return DatabaseBehind("The database was restored while this process ran; restart the broker.")
    found = f"holds {present.size} events" if kept.is_after(present) else "holds others"
    return DatabaseBehind(
        f"The database {found}, and {kept.size} were recorded by {rfc3339(kept.time)}: it was restored from a backup, "
        "and what was revoked since is in it as it was before. Run `broker restored --since TIME` on the server, with "
        "the time of that backup."
    )

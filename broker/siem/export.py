"""Events in a SIEM's form, by index, a page at a time: what is pulled, and what sinks send.

A batch ends with the log's newest checkpoint.  So whoever keeps batches keeps checkpoints outside of the broker, and
no history can be rewritten that is older than those.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from types import ModuleType
from typing import Final, Literal

from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit import archives, integrating
from broker.audit.search import Filter, Recorded, search
from broker.base.clock import Clock
from broker.base.db import EVERY_TENANT, Database, Scope
from broker.base.errors import Conflict
from broker.siem import cef, ecs, ocsf
from broker.siem.told import Mark, Source, Told

Form = Literal["ocsf", "ecs", "cef"]
FORMS: Final[Mapping[Form, ModuleType]] = {"ocsf": ocsf, "ecs": ecs, "cef": cef}
_VERSION: Final = version("keybroker")
# Events that are held at once.
PAGE: Final = 500


class Archived(Conflict):
    """Events that were asked for are in archives alone."""

    code = "archived"

    def __init__(self, first: int) -> None:
        super().__init__(
            f"Events before number {first} are in archives, which are not exported: go on with after={first - 1}, and "
            "take what is before from the files (`broker record verify`)."
        )


@dataclass(frozen=True, slots=True)
class Exporter:
    """Gives events out.

    ``origin_of`` names the log of the series that began then (milliseconds; 0: the first).
    """

    db: Database
    clock: Clock
    origin_of: Callable[[int], str]

    async def batch(self, scope: Scope, wanted: Filter, form: Form, limit: int) -> AsyncIterator[bytes]:
        """Up to ``limit`` events inside ``scope``, then the newest checkpoint.

        A line is an event; it yields some at once.

        Raises:
            Archived: an event that was asked for is not here any more, be it since this began.
        """
        left, after = limit, wanted.after
        while left:
            page = await search(self.db, scope, replace(wanted, after=after), min(left, PAGE))
            await self.refuse_archived(wanted.after)
            if page:
                yield b"".join(line + b"\n" for line in self.lines(form, page))
                left, after = left - len(page), page[-1].index
            if len(page) < PAGE:
                break
        if last := await self.checkpoint(form):
            yield last

    async def refuse_archived(self, after: int | None) -> None:
        """Refuse to go on behind an index if the next event is archived.

        Without one an export begins with what is here.

        Raises:
            Archived: it is.
        """
        if after is None:
            return
        async with self.db.read(EVERY_TENANT) as session:
            first = await archives.first_here(session)
        if after + 1 < first:
            raise Archived(first)

    async def checkpoint(self, form: Form) -> bytes | None:
        """The newest checkpoint as a line; None before the first."""
        async with self.db.read(EVERY_TENANT) as session:
            mark = await self._mark(session)
        return None if mark is None else FORMS[form].mark(mark, Source(mark.origin, _VERSION)) + b"\n"

    async def _mark(self, session: AsyncSession) -> Mark | None:
        row = await integrating.newest(session)
        return None if row is None else Mark(row.note, row.origin, row.size, self.clock())

    def lines(self, form: Form, page: Sequence[Recorded]) -> list[bytes]:
        """Events as lines of a form, each without its end."""
        event = FORMS[form].event
        return [event(told(one), Source(self.origin_of(one.series), _VERSION)) for one in page]


def told(recorded: Recorded) -> Told:
    """An event as renderings take it."""
    stored = recorded.stored
    return Told(
        recorded.index,
        recorded.series,
        json.loads(stored.core),
        recorded.personal or {},
        stored.core,
        stored.salt_core,
        stored.personal_commitment,
        stored.entry,
    )

"""What the record tells of a key's end here, and of its last use.

No lease or use of it comes any more, so what is told once stays true.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from broker.audit import archives, pruned
from broker.audit.search import Filter, Recorded, search
from broker.base.clock import Millis, later
from broker.base.db import Database, Scope
from broker.credentials.tables import VersionRow
from broker.formats.certificate import Ended, Moment, NoMoment

_PAGE = 500
# Another replica's clock may date a use a little after the end, which was before it.
_APART_MS = 3_600_000
_OF_VERSION = frozenset({"credential.version.retired", "credential.version.revoked"})
_OF_ALL = "credential.revoked"


class Traces(NamedTuple):
    """How a version ended, and the last call and lease with its key."""

    ended: Ended
    last_use: Moment | NoMoment
    last_shown: Moment | NoMoment


async def traces_of(db: Database, row: VersionRow, page: int = _PAGE) -> Traces:
    """The traces of a version that is revoked; so many events are looked at at once."""
    assert row.revoked_at is not None
    return Traces(
        await _ended(db, row, row.revoked_at),
        await _last(db, row, row.revoked_at, page, "use.authorized"),
        await _last(db, row, row.revoked_at, page, "lease.issued", mode="reveal"),
    )


async def _ended(db: Database, row: VersionRow, at: Millis) -> Ended:
    """The event of that moment which ended the version, alone or with its credential."""
    wanted = Filter(credential=row.credential_id, kind="credential.*", since=at, until=later(at, 1))
    for found in await search(db, Scope.of(row.organization_id), wanted, _PAGE):
        kind, core = found.core["kind"], found.core
        if kind == _OF_ALL or (kind in _OF_VERSION and core.get("version") == row.number):
            return Ended(core["time"], core["id"], kind, core.get("reason", ""))
    return Ended(at, None)


async def _last(
    db: Database, row: VersionRow, ended: Millis, limit: int, kind: str, *, mode: str = ""
) -> Moment | NoMoment:
    scope, until = Scope.of(row.organization_id), later(ended, _APART_MS)
    after: int | None = None
    while True:
        wanted = Filter(credential=row.credential_id, kind=kind, since=row.staged_at, until=until, newest=True)
        page = await search(db, scope, replace(wanted, after=after), limit)
        for found in page:
            if _is_of(found, row, mode):
                return Moment(found.core["time"], found.core["id"])
        if len(page) < limit:
            break
        after = page[-1].index
    # After the events: a month is known as archived before its first event goes, and so are those that are pruned.
    async with db.read(scope) as session:
        archived = await archives.elsewhere(session, row.staged_at, until)
        gone = await pruned.between(session, row.staged_at, until)
    return "never" if archived is None and gone is None else "not-kept"


def _is_of(found: Recorded, row: VersionRow, mode: str) -> bool:
    return bool(found.core.get("version") == row.number) and (not mode or found.core.get("mode") == mode)

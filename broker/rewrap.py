"""Move every sealed value to the active master key, or to another keystore.

Brokers serve meanwhile.  Each row is changed only if its sealed bytes are still those that were read.  So a value that
is replaced or destroyed meanwhile is left alone.  Running again goes on where it stopped.  What other brokers store
behind the reader's back is met by looking again, until there is nothing to move.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from sqlalchemy import func, select, tuple_, update

import broker.tables  # noqa: F401 - every table declares its sealed columns
from broker import rights
from broker.audit.events import BROKER, Event
from broker.audit.record import record
from broker.audit.search import Filter, search
from broker.base.db import EVERY_TENANT, Database
from broker.credentials.tables import CredentialRow, VersionRow
from broker.formats.kv_reference import is_reference
from broker.keystore import orphans
from broker.keystore.columns import SealedColumn, sealed_columns
from broker.keystore.keyring import kek_of, name_of
from broker.keystore.keystore import NOTHING_KNOWN, CannotOpen, Keystore, KeystoreUnavailable
from broker.organizations.tables import OrganizationRow
from broker.web.services import Services

Advance = Callable[[int, int], None]
About = Mapping[str, str]
_PAGE = 200
# Values under way at once: a Vault is waited for, not worked for.
_AT_ONCE = 8
# A broker that still seals the old way could make this go on for ever; whoever destroys the old keys counts again.
_PASSES = 20


def _places() -> list[SealedColumn]:
    """The columns that master keys hold; what is under the internal root moves with it."""
    return [column for column in sealed_columns() if not column.own]


@dataclass(frozen=True, slots=True)
class Stuck:
    """A value that can't be moved: its table, column and row, and why, in words for people."""

    where: str
    why: str


@dataclass(slots=True)
class Moved:
    """What came of it.

    ``held`` says how many values each master key holds now, ``moved`` how many were taken off each.  ``outside`` of
    those lay outside of the database; their old copies there will be destroyed.
    """

    held: dict[str, int] = field(default_factory=dict)
    moved: Counter[str] = field(default_factory=Counter)
    outside: int = 0
    stuck: list[Stuck] = field(default_factory=list)


async def held_by(db: Database) -> dict[str, int]:
    """How many sealed values each master key holds at this moment; asks no keystore."""
    held: Counter[str] = Counter()
    for place in _places():
        async for rows in _pages(db, place, place.sealed):
            for row in rows:
                with suppress(CannotOpen):  # what no keystore made, no master key opens
                    held[kek_of(row[0])] += 1
    return dict(held)


async def used(db: Database) -> set[str]:
    """Names of keystores whose master keys this database has needed.

    Those whose keys were destroyed since are left out.
    """
    names: set[str] = set()
    wanted = Filter(kind="keystore.*", newest=True)
    for event in reversed(await search(db, EVERY_TENANT, wanted, 1_000)):
        about = set(str(event.core.get("subject", "")).replace(" ", "").split(","))
        if event.core["kind"] in {"keystore.rewrap_begun", "keystore.rewrapped"}:
            names |= about
        elif event.core["kind"] == "keystore.master_keys_destroyed":
            names -= about
    return (names | {name_of(kek_id) for kek_id in await held_by(db)}) - {""}


async def note(services: Services, kind: str, keystores: Iterable[str], words: str = "") -> None:
    """Put on the record what is done with the master keys of these keystores."""
    event = Event(
        kind=kind, time=services.parts.clock(), actor=BROKER, subject=",".join(sorted(set(keystores))), note=words
    )
    async with services.parts.db.write(EVERY_TENANT) as session:
        await record(session, event)


async def rewrap_all(
    services: Services,
    *,
    to: Keystore | None = None,
    advance: Advance = lambda _done, _total: None,
) -> Moved:
    """Re-wrap everything.  What can't be moved is named, and the rest goes on.

    It is on the record that it begins before anything is opened.

    Args:
        services: a running broker's parts.
        to: the keystore whose active master key everything is moved to; if left out, the broker's own.
        advance: told how many values of how many were looked at.

    Raises:
        KeystoreUnavailable: the keystore is away; running again goes on.
    """
    before = await held_by(services.parts.db)
    await note(services, "keystore.rewrap_begun", map(name_of, before), ", ".join(sorted(before)))
    moving = _Moving(services, to or services.parts.keystore, advance)
    for _ in range(_PASSES):
        if not await moving.once():
            break
    done = moving.done
    await rights.authenticate_again(services.parts.db, services.parts.clock())
    async for row in rights.altered(services.parts.db, services.parts.clock()):
        done.stuck.append(Stuck(f"{row.table}, id={row.id}", "Something else than the broker wrote it."))
    done.held = await held_by(services.parts.db)
    words = f"{done.moved.total()} moved, {len(done.stuck)} not; now {', '.join(sorted(done.held))}"
    await note(services, "keystore.rewrapped", map(name_of, done.held), words)
    return done


class _Moving:
    """Passes over everything."""

    def __init__(self, services: Services, to: Keystore, advance: Advance) -> None:
        self.done = Moved()
        self._services = services
        self._to = to
        self._advance = advance
        self._seen = self._total = 0
        self._at_once = asyncio.Semaphore(_AT_ONCE)

    async def once(self) -> bool:
        """Look at every value once; returns whether any was moved."""
        before = self.done.moved.total()
        self.done.stuck = []
        self._seen, self._total = 0, await _total(self._services.parts.db)
        for place in _places():
            async for rows in _pages(self._services.parts.db, place, place.table):
                values = [row[0] for row in rows]
                about = await _described(self._services, values) if place.table is VersionRow else {}
                ended = await asyncio.gather(
                    *(self._value(place, row, about) for row in values), return_exceptions=True
                )
                for failure in ended:  # only once nothing is under way any more
                    if failure is not None:
                        raise failure
        return self.done.moved.total() > before

    async def _value(self, place: SealedColumn, row: Any, about: Mapping[str, About]) -> None:  # noqa: ANN401 - any table's
        async with self._at_once:
            try:
                await self._move(place, row, about.get(getattr(row, "credential_id", ""), NOTHING_KNOWN))
            except CannotOpen:
                self._stuck(place, row, "It was altered, or belongs to another row.")
            except KeystoreUnavailable as problem:
                if problem.away:
                    raise
                self._stuck(place, row, problem.public)
            self._seen += 1
            self._advance(self._seen, max(self._seen, self._total))

    async def _move(self, place: SealedColumn, row: Any, about: About) -> None:  # noqa: ANN401 - any table's
        services = self._services
        matches = [column == getattr(row, column.key) for column in place.key]
        while (sealed := getattr(row, place.sealed.key, None)) is not None:
            fresh = await self._to.rewrap(sealed, place.binding(row), about)
            if fresh is None:
                return
            change = update(place.table).where(*matches, place.sealed == sealed).values({place.sealed.key: fresh})
            try:
                async with services.parts.db.write(EVERY_TENANT) as session:
                    changed = (await session.execute(change.returning(*place.key))).first() is not None
                    if changed:
                        replace = partial(orphans.replace, old=sealed, fresh=fresh, now=services.parts.clock())
                        await session.run_sync(replace)
            except orphans.Swept:  # it took too long, and the copy is given up
                changed = False
            if changed:
                self.done.moved[kek_of(sealed)] += 1
                self.done.outside += is_reference(sealed) and not is_reference(fresh)
                return
            async with services.parts.db.read(EVERY_TENANT) as session:
                row = await session.scalar(select(place.table).where(*matches))

    def _stuck(self, place: SealedColumn, row: Any, why: str) -> None:  # noqa: ANN401 - any table's
        key = ", ".join(f"{column.key}={getattr(row, column.key)}" for column in place.key)
        self.done.stuck.append(Stuck(f"{place.table.__tablename__}.{place.sealed.key}, {key}", why))


async def _total(db: Database) -> int:
    async with db.read(EVERY_TENANT) as session:
        counts = [select(func.count(place.sealed)) for place in _places()]
        return sum([await session.scalar(count) or 0 for count in counts])


async def _pages(db: Database, place: SealedColumn, wanted: Any) -> AsyncIterator[Sequence[Any]]:  # noqa: ANN401 - a column or a table
    """``wanted`` of every row that holds a value, page by page in the order of keys."""
    after: tuple[Any, ...] | None = None
    while True:
        query = select(wanted, *place.key).where(place.sealed.is_not(None)).order_by(*place.key).limit(_PAGE)
        if after is not None:
            query = query.where(tuple_(*place.key) > after)
        async with db.read(EVERY_TENANT) as session:
            rows = (await session.execute(query)).all()
        if not rows:
            return
        after = tuple(rows[-1][1:])
        yield rows


async def _described(services: Services, rows: Sequence[VersionRow]) -> dict[str, About]:
    """What people who browse a Vault are told of each credential."""
    titles = {definition.id: definition.title for definition in services.parts.catalog}
    query = (
        select(CredentialRow.id, CredentialRow.provider, CredentialRow.label, OrganizationRow.slug)
        .join(OrganizationRow, OrganizationRow.id == CredentialRow.organization_id)
        .where(CredentialRow.id.in_({row.credential_id for row in rows}))
    )
    async with services.parts.db.read(EVERY_TENANT) as session:
        found = (await session.execute(query)).all()
    return {
        credential: {"provider": titles.get(provider, provider), "label": label, "organization": slug}
        for credential, provider, label, slug in found
    }

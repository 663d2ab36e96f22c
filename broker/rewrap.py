"""Move every sealed value to the active master key, or to another keystore.

Brokers serve meanwhile.  Values go in pages, each in a short transaction of its own, with a rest as long after it.  A
row is changed only if its sealed bytes are still those that were read, and one that somebody is busy with is left for
later.  So a value that is replaced or destroyed meanwhile is left alone, and nobody waits for a move.  Running again
goes on where it stopped: the database tells what is not moved yet.  What other brokers store behind the reader's back
is met by looking again, until there is nothing to move.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import Select, Update, bindparam, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession

import broker.tables  # noqa: F401 - every table declares its sealed columns
from broker import rights
from broker.audit.events import BROKER, Event
from broker.audit.record import record
from broker.base.clock import Millis
from broker.base.db import EVERY_TENANT, Database, table
from broker.base.statements import execute_many
from broker.credentials.tables import CredentialRow, VersionRow
from broker.formats.kv_reference import is_reference
from broker.keystore import needed, orphans
from broker.keystore.columns import SealedColumn, under_master_keys
from broker.keystore.held import Key, held_in, kek_in, within
from broker.keystore.keyring import kek_of, name_of
from broker.keystore.keystore import NOTHING_KNOWN, CannotOpen, Keystore, KeystoreUnavailable
from broker.keystore.vault.masterkeys import PREFIX as KV
from broker.organizations.tables import OrganizationRow
from broker.web.services import Services

Advance = Callable[[int, int], None]
About = Mapping[str, str]
# Values of one transaction, which takes some milliseconds.  On SQLite all others wait for it, and what they had read
# is of no use to them after it, so there are fewer.
_PAGES = {"sqlite": 250, "postgresql": 100}
# Each value that goes to or comes from KV is several calls. So fewer are under way, and wait for their transaction.
_KV_PAGE = 32
_KV_AT_ONCE = 8
# A broker that still seals the old way could make this go on for ever; whoever destroys the old keys counts again.
_PASSES = 20


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
    for _, here in await held_in(db, under_master_keys()):
        held.update(here)
    held.pop("", None)  # what no keystore made, no master key opens
    return dict(held)


async def used(db: Database) -> set[str]:
    """Names of keystores whose master keys this database has needed.

    Those whose keys were destroyed since are left out.
    """
    return await needed.remembered(db) | {name_of(kek_id) for kek_id in await held_by(db)}


async def note(services: Services, kind: str, keystores: Iterable[str], words: str = "") -> None:
    """Put on the record what is done with the master keys of these keystores."""
    now, names = services.parts.clock(), sorted(set(keystores))
    async with services.parts.db.write(EVERY_TENANT) as session:
        if kind in {"keystore.rewrap_begun", "keystore.rewrapped"}:
            await needed.remember(session, names, now)
        elif kind == "keystore.master_keys_destroyed":
            await needed.forget(session, names)
        await record(session, Event(kind=kind, time=now, actor=BROKER, subject=",".join(names), note=words))


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
        advance: told how many values of how many were looked at, of those that are to move.

    Raises:
        KeystoreUnavailable: the keystore is away; running again goes on.
    """
    db = services.parts.db
    before = await held_by(db)
    await note(services, "keystore.rewrap_begun", map(name_of, before), ", ".join(sorted(before)))
    moving = _Moving(services, to or services.parts.keystore, advance)
    for _ in range(_PASSES):
        if not await moving.once():
            break
    done = moving.done
    async for row in rights.altered(db, services.parts.clock()):
        done.stuck.append(Stuck(f"{row.table}, id={row.id}", "Something else than the broker wrote it."))
    done.held = await held_by(db)
    words = f"{done.moved.total()} moved, {len(done.stuck)} not; now {', '.join(sorted(done.held))}"
    await note(services, "keystore.rewrapped", map(name_of, done.held), words)
    return done


@dataclass(frozen=True, slots=True)
class _Column:
    """A column, the master key that its values go to, and how many of them are to move."""

    place: SealedColumn
    newest: str
    left: int
    in_kv: bool

    def page(self, wanted: Any, after: Key | None, up_to: Key | None = None) -> Select[Any]:  # noqa: ANN401 - a table or a column
        """Rows whose values are not where they go yet, in the order of keys."""
        elsewhere = kek_in(self.place.sealed).is_distinct_from(self.newest.encode())
        return (
            select(wanted, *self.place.key)
            .where(*within(self.place, after, up_to), self.place.sealed.is_not(None), elsewhere)
            .order_by(*self.place.key)
        )


class _Change(NamedTuple):
    """A value as it was read, and wrapped again, with its row's key."""

    key: Key
    sealed: bytes
    fresh: bytes

    def values(self) -> Mapping[str, Any]:
        """What :func:`_exchange` takes."""
        return {"read": self.sealed, "fresh": self.fresh, **{f"key_{n}": part for n, part in enumerate(self.key)}}


class _Moving:
    """Passes over everything."""

    def __init__(self, services: Services, to: Keystore, advance: Advance) -> None:
        self.done = Moved()
        self._services = services
        self._db = services.parts.db
        self._to = to
        self._advance = advance
        self._seen = self._total = 0

    async def once(self) -> bool:
        """Look once at every value that is to move; returns whether to look again."""
        self.done.stuck = []
        columns = [await self._column(place, held) for place, held in await held_in(self._db, under_master_keys())]
        self._total = self._seen + sum(column.left for column in columns)
        self._advance(self._seen, self._total)
        again = False
        for column in columns:
            if column.left:
                again |= await self._move(column)
        return again

    async def _column(self, place: SealedColumn, held: Counter[str]) -> _Column:
        newest = await self._to.newest(place.purpose) if held else ""
        in_kv = any(kek_id.startswith(KV) for kek_id in (*held, newest))
        return _Column(place, newest, held.total() - held[newest], in_kv)

    async def _move(self, column: _Column) -> bool:
        """Move a column's values; returns whether some were moved or left for later."""
        again = False
        after: Key | None = None
        while True:
            query = column.page(column.place.table, after).limit(_KV_PAGE if column.in_kv else _PAGES[self._db.dialect])
            async with self._db.read(EVERY_TENANT) as session:
                rows = (await session.execute(query)).all()
            if not rows:
                return again
            up_to = tuple(rows[-1][1:])
            again |= await self._page(column, [row[0] for row in rows], after, up_to)
            after = up_to

    async def _page(self, column: _Column, rows: Sequence[Any], after: Key | None, up_to: Key) -> bool:
        about = await _described(self._services, rows) if column.place.table is VersionRow else {}
        at_once = asyncio.Semaphore(_KV_AT_ONCE if column.in_kv else len(rows))

        async def fresh(row: Any) -> bytes | None:  # noqa: ANN401 - any table's
            sealed = getattr(row, column.place.sealed.key)
            async with at_once:
                return await self._to.rewrap(
                    sealed, column.place.binding(row), about.get(getattr(row, "credential_id", ""), NOTHING_KNOWN)
                )

        made = await asyncio.gather(*map(fresh, rows), return_exceptions=True)
        changes = [(row, value) for row, value in zip(rows, made, strict=True) if isinstance(value, bytes)]
        if changes:
            await self._store(column, changes, after, up_to)
        for row, failure in zip(rows, made, strict=True):  # only once nothing is under way any more
            if isinstance(failure, BaseException):
                self._stuck(column.place, row, _why(failure))
        self._seen += len(rows)
        self._advance(self._seen, max(self._seen, self._total))
        return bool(changes)

    async def _store(
        self, column: _Column, changes: Sequence[tuple[Any, bytes]], after: Key | None, up_to: Key
    ) -> None:
        """Store what was wrapped again, and rest as long as that took."""
        place, began = column.place, time.monotonic()
        wanted = [_Change(_key(place, row), getattr(row, place.sealed.key), fresh) for row, fresh in changes]
        try:
            if self._db.dialect == "sqlite" and not column.in_kv:
                stored = await self._exchanged(place, wanted, after, up_to)
            else:
                stored = await self._locked(column, wanted, after, up_to)
        except orphans.Swept:  # it took too long, and a copy was given up
            stored = []
        for change in stored:
            self.done.moved[kek_of(change.sealed)] += 1
            self.done.outside += is_reference(change.sealed) and not is_reference(change.fresh)
        await asyncio.sleep(time.monotonic() - began)

    async def _locked(
        self, column: _Column, changes: Sequence[_Change], after: Key | None, up_to: Key
    ) -> Sequence[_Change]:
        """Store what nobody is busy with and is still as it was read; returns that."""
        place = column.place
        async with self._db.write(EVERY_TENANT) as session:
            locked = column.page(place.sealed, after, up_to).with_for_update(skip_locked=True)
            there = {tuple(key): sealed for sealed, *key in await session.execute(locked)}
            stored = [change for change in changes if there.get(change.key) == change.sealed]
            await _update(session, place, stored, self._services.parts.clock())
        return stored

    async def _exchanged(
        self, place: SealedColumn, changes: Sequence[_Change], after: Key | None, up_to: Key
    ) -> Sequence[_Change]:
        """Store what is still as it was read; returns that.

        On SQLite all others wait meanwhile, so it is one statement and nothing else.
        """
        statement = _exchange(place)
        rows = [change.values() for change in changes]
        await self._db.transact(lambda transaction: execute_many(transaction, statement, rows), record=False)
        keys = [change.key for change in changes]
        query = select(place.sealed, *place.key).where(*within(place, after, up_to), tuple_(*place.key).in_(keys))
        async with self._db.read(EVERY_TENANT) as session:
            there = {tuple(key): sealed for sealed, *key in await session.execute(query)}
        return [change for change in changes if there.get(change.key) == change.fresh]

    def _stuck(self, place: SealedColumn, row: Any, why: str) -> None:  # noqa: ANN401 - any table's
        key = ", ".join(f"{column.key}={getattr(row, column.key)}" for column in place.key)
        self.done.stuck.append(Stuck(f"{place.table.__tablename__}.{place.sealed.key}, {key}", why))


def _why(failure: BaseException) -> str:
    """Why one value can't be moved; raises what concerns more than that."""
    if isinstance(failure, CannotOpen):
        return "It was altered, or belongs to another row."
    if isinstance(failure, KeystoreUnavailable) and not failure.away:
        return failure.public
    raise failure


def _key(place: SealedColumn, row: Any) -> Key:  # noqa: ANN401 - any table's
    return tuple(getattr(row, column.key) for column in place.key)


@cache
def _exchange(place: SealedColumn) -> Update:
    """Stores one value in another's place."""
    its = [column == bindparam(f"key_{n}") for n, column in enumerate(place.key)]
    return (
        update(table(place.table))
        .where(*its, place.sealed == bindparam("read"))
        .values({place.sealed.key: bindparam("fresh")})
    )


async def _update(session: AsyncSession, place: SealedColumn, stored: Sequence[_Change], now: Millis) -> None:
    if not stored:
        return
    await (await session.connection()).execute(_exchange(place), [change.values() for change in stored])
    for change in stored:
        if is_reference(change.sealed) or is_reference(change.fresh):
            await session.run_sync(orphans.replace, change.sealed, change.fresh, now)


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

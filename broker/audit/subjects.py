"""The keys of data subjects, without which nobody reads the personal parts of their events.

A subject's key is made when the first event about them is recorded, by whoever holds the record's head: so each has
one.  What a process has opened it remembers for a while.  Whoever is erased has no key any more, and what is recorded
about them after that is sealed under one that nobody keeps.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.events import Event
from broker.audit.guards import raise_epoch
from broker.audit.head import lock_head
from broker.audit.tables import SubjectRow
from broker.base.clock import Millis
from broker.base.db import Database, upsert
from broker.base.recent import Recent
from broker.base.statements import OnConnection, Transaction
from broker.formats import ids
from broker.formats.ids import OperatorId, OrganizationId
from broker.formats.personal_part import KEY_BYTES, NOBODY, NotOpened, PartKey, day_of, unwrap, wrap

_log = structlog.get_logger()

# Keys of parts that a process remembers, and seconds after which it asks again: another process may have erased one.
REMEMBERED: Final = 10_000
REMEMBERED_S: Final = 600.0

_KEYS: Final = {
    "sqlite": "SELECT id, wrapped FROM audit_subjects WHERE id IN (SELECT value FROM json_each(?))",
    "postgresql": "SELECT id, wrapped FROM audit_subjects WHERE id = ANY($1::varchar[])",
}
_INSERT: Final = {
    "sqlite": "INSERT INTO audit_subjects (id, wrapped) VALUES (?, ?)",
    "postgresql": "INSERT INTO audit_subjects (id, wrapped) VALUES ($1, $2)",
}


class Whose(NamedTuple):
    """The data subjects of an event, and its day; empty where there is none."""

    actor: str
    organization: str
    account: str
    day: int

    @classmethod
    def of(cls, event: Event) -> Whose:
        """Those of an event that is about to be recorded."""
        return cls(event.actor.id, event.organization, _account(event.actor.id, event.subject), day_of(event.time))

    @classmethod
    def of_core(cls, core: Mapping[str, Any]) -> Whose:
        """Those of a recorded event."""
        actor = core["actor"]["id"]
        return cls(actor, core.get("organization", ""), _account(actor, core.get("subject", "")), day_of(core["time"]))

    def names(self) -> list[str]:
        """The subjects."""
        return [name for name in self[:3] if name]


def _account(actor: str, subject: str) -> str:
    """The operator's account that an event is about, if it isn't the actor's own."""
    return subject if subject.startswith("opr_") and subject != actor else ""


class Part(NamedTuple):
    """A personal part as it is kept, with the core of its event and the commitment to it."""

    core: Mapping[str, Any]
    sealed: bytes
    commitment: bytes


@dataclass(frozen=True, slots=True)
class Opened:
    """A personal part: its bytes and salt, or None if nobody can open it.

    ``erased`` says that this is because one of its data subjects was erased.  Else it was altered.
    """

    personal: bytes | None
    salt: bytes | None
    erased: bool

    def document(self) -> dict[str, Any] | None:
        """What the part says."""
        return None if self.personal is None else dict(json.loads(self.personal))


# Wrapped keys by their subjects; None of one that was erased.
_Kept = Mapping[str, bytes | None]


class SubjectKeys:
    """What one process knows of data subjects' keys.

    ``wrapping`` is the broker's own key that they are wrapped by.
    """

    def __init__(self, wrapping: bytes) -> None:
        self._wrapping = wrapping
        self._known = Recent[Whose, PartKey](REMEMBERED, REMEMBERED_S)

    @property
    def in_memory(self) -> int:
        """How many keys of parts are remembered now."""
        return len(self._known)

    async def of(self, db: Database, wanted: Sequence[Whose]) -> Sequence[PartKey]:
        """The keys of these, each at its place.

        Those that there aren't yet are made, in a transaction of their own.

        Raises:
            What the database raises.
        """
        keys = {whose: self._known.get(whose) for whose in wanted}
        unknown = {whose for whose, key in keys.items() if key is None}
        learnt = await self._learnt(db, unknown) if unknown else {}
        return [keys[whose] or learnt[whose] for whose in wanted]

    async def _learnt(self, db: Database, unknown: Set[Whose]) -> Mapping[Whose, PartKey]:
        found = _read(await db.ask(_KEYS, _listed(db.dialect, unknown)))
        if any(name not in found for whose in unknown for name in whose.names()):
            found = await db.transact(lambda transaction: self._made_alone(transaction, unknown))
        learnt = {whose: self._part_key(whose, found) for whose in unknown}
        for whose, key in learnt.items():
            self._known[whose] = key
        return learnt

    def for_transaction(self, transaction: Transaction, wanted: Iterable[Whose]) -> Mapping[Whose, PartKey]:
        """The keys of these, for events that are recorded in this transaction.

        It holds the record's head.  What is made here is forgotten again, as nobody knows yet whether it will be there.
        """
        keys = {whose: self._known.get(whose) for whose in wanted}
        unknown = {whose for whose, key in keys.items() if key is None}
        found = self._made(transaction, unknown) if unknown else {}
        return {whose: key or self._part_key(whose, found) for whose, key in keys.items()}

    async def opened(self, session: AsyncSession, parts: Sequence[Part]) -> list[Opened]:
        """Personal parts, opened; one that can't be is no error."""
        if not parts:
            return []
        whose = [Whose.of_core(part.core) for part in parts]
        connection = await session.connection()
        found = await connection.run_sync(lambda sync: _kept(OnConnection(sync), whose))
        keys = {each: self._part_key(each, found) for each in set(whose)}
        return [_opened(part, keys[each], each, found) for part, each in zip(parts, whose, strict=True)]

    def heard(self, message: str) -> None:
        """Take note that something was revoked or erased; a message begins with its id."""
        name = message.partition(" ")[0]
        if _erasable(name):
            for whose, _ in self._known.entries():
                if name in whose[:3]:
                    self._known.pop(whose)

    def forget(self) -> None:
        """Forget every key, as messages may have been missed."""
        self._known.clear()

    def _made_alone(self, transaction: Transaction, wanted: Iterable[Whose]) -> _Kept:
        lock_head(transaction)
        return self._made(transaction, wanted)

    def _made(self, transaction: Transaction, wanted: Iterable[Whose]) -> _Kept:
        """The keys that are kept, and fresh ones where there are none."""
        found = _kept(transaction, wanted)
        missing = sorted({name for whose in wanted for name in whose.names()} - {*found})
        fresh = [(name, wrap(self._wrapping, name, os.urandom(KEY_BYTES))) for name in missing]
        if fresh:
            transaction.many(_INSERT[transaction.dialect.name], fresh)
        return {**found, **dict(fresh)}

    def _part_key(self, whose: Whose, found: _Kept) -> PartKey:
        return PartKey(
            self._key(whose.actor, found),
            self._key(whose.organization, found) if whose.organization else NOBODY,
            self._key(whose.account, found) if whose.account else NOBODY,
            whose.day,
        )

    def _key(self, name: str, found: _Kept) -> bytes:
        """A subject's key; for one that is erased one that nobody keeps."""
        wrapped = found.get(name)
        if wrapped is None:
            return os.urandom(KEY_BYTES)
        try:
            return unwrap(self._wrapping, name, wrapped)
        except NotOpened:
            _log.error("audit.subject_key_altered", subject=name)
            return os.urandom(KEY_BYTES)


def of_process(db: Database) -> SubjectKeys:
    """What this process knows of data subjects' keys."""
    return _there(db.subjects)


def subjects_of(session: AsyncSession) -> SubjectKeys:
    """The same, of a session's process."""
    return _there(session.info["subjects"])


def _there(known: object) -> SubjectKeys:
    assert isinstance(known, SubjectKeys), "the broker's own keys are loaded before anything is recorded"
    return known


async def erase(session: AsyncSession, name: OperatorId | OrganizationId, now: Millis) -> bool:
    """Delete a subject's key; returns whether there was one that wasn't deleted yet.

    Every process that hears of it forgets what it has of it; others within ten minutes.
    """
    erased = {"wrapped": None, "erased_at": now}
    statement = upsert(session, SubjectRow).values(id=name, **erased)
    where = SubjectRow.erased_at.is_(None)
    done = await session.execute(
        statement.on_conflict_do_update(index_elements=[SubjectRow.id], set_=erased, where=where).returning(
            SubjectRow.id
        )
    )
    await raise_epoch(session, name)
    return done.first() is not None


def _erasable(name: str) -> bool:
    return ids.is_id(name, OrganizationId) or ids.is_id(name, OperatorId)


def _kept(transaction: Transaction, wanted: Iterable[Whose]) -> _Kept:
    dialect = transaction.dialect.name
    return _read(transaction.rows(_KEYS[dialect], (_listed(dialect, wanted),)))


def _listed(dialect: str, wanted: Iterable[Whose]) -> str | list[str]:
    """The subjects of these as a query's one parameter."""
    names = sorted({name for whose in wanted for name in whose.names()})
    return json.dumps(names) if dialect == "sqlite" else names


def _read(rows: Iterable[Sequence[Any]]) -> _Kept:
    return {name: wrapped for name, wrapped in rows}  # noqa: C416 - a Row is no pair to dict()


def _opened(part: Part, key: PartKey, whose: Whose, found: _Kept) -> Opened:
    erased = any(name in found and found[name] is None for name in whose.names())
    try:
        clear = key.opened(part.sealed, part.commitment)
    except NotOpened:
        return Opened(None, None, erased)
    return Opened(clear.personal, clear.salt, erased)

"""Values that a keystore put outside of the database, to be destroyed.

No row refers to them, or none may refer to them.  A database and a Vault share no transaction.  So there are notes of
such values:

* A value that is about to be put there is noted here first, in a transaction of its own.
* The transaction that stores the reference takes the note away (:func:`keep`).
* One that drops a reference writes a note (:func:`discard`).

Whatever happens between, the worker finds a note and destroys what it names.  No key stays behind that nobody knows of,
and none is destroyed that a row still refers to.
"""

from __future__ import annotations

from typing import Final

import structlog
from sqlalchemy import ColumnElement, and_, delete, false, func, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from broker.base.clock import Clock, Millis
from broker.base.db import EVERY_TENANT, Database, Table
from broker.base.errors import Unavailable
from broker.formats.kv_reference import Reference, is_reference
from broker.keystore.keystore import CannotOpen, Keystore, KeystoreUnavailable

_log = structlog.get_logger()

# Longer than any transaction that stores a reference may take.
_SETTLED_MS = 60_000
# A value that can't be destroyed is tried again so much later, after everything else.
_RETRY_MS = 60_000
# As it is counted again and again.
COUNTED: Final = 10_000


class OrphanRow(Table):
    """A value outside of the database, by its reference, to be destroyed from ``due_at`` on.

    ``due_at`` is 0 while it is being destroyed.  ``stored`` says that a row referred to it, so what lies there is
    surely ours.  ``retry_at`` says that it could not be destroyed, and is left alone until then.
    """

    __tablename__ = "keystore_strays"

    reference: Mapped[bytes] = mapped_column(primary_key=True)
    due_at: Mapped[Millis] = mapped_column(index=True)
    stored: Mapped[bool] = mapped_column(default=False, server_default=false())
    retry_at: Mapped[Millis] = mapped_column(default=0, server_default="0")


class Swept(Unavailable):
    """The transaction took so long that the value that it was to store was given up."""

    def __init__(self) -> None:
        super().__init__("Storing the key took too long, and nothing was kept; try again.", retry_after=1)


async def begin(db: Database, reference: bytes, clock: Clock) -> None:
    """Note that a value is about to be put outside of the database."""
    async with db.write(EVERY_TENANT) as session:
        session.add(OrphanRow(reference=reference, due_at=clock() + _SETTLED_MS))


def keep(session: Session, sealed: bytes) -> None:
    """Take the note of ``sealed`` away, as the session's transaction stores it.

    Does nothing for a value that is all in the row.

    Raises:
        Swept: it was given up meanwhile.
    """
    if not is_reference(sealed):
        return
    note = delete(OrphanRow).where(OrphanRow.reference == sealed, OrphanRow.due_at > 0)
    if session.execute(note.returning(OrphanRow.due_at)).first() is None:
        raise Swept


def discard(session: Session, sealed: bytes | None, now: Millis) -> None:
    """Note that the session's transaction drops ``sealed``.

    What of it is elsewhere is destroyed after the commit.
    """
    if sealed is not None and is_reference(sealed):
        session.add(OrphanRow(reference=sealed, due_at=now, stored=True))


def replace(session: Session, old: bytes, fresh: bytes, now: Millis) -> None:
    """Note that the session's transaction stores ``fresh`` instead of ``old``.

    Raises as :func:`keep`.
    """
    if is_reference(old) and is_reference(fresh) and Reference.decode(old).same_value(Reference.decode(fresh)):
        return
    keep(session, fresh)
    discard(session, old, now)


async def was_stored(db: Database, reference: bytes) -> bool:
    """Whether a row referred to what this note is about."""
    async with db.read(EVERY_TENANT) as session:
        return bool(await session.scalar(select(OrphanRow.stored).where(OrphanRow.reference == reference)))


async def waiting(db: Database, most: int | None = None) -> int:
    """How many notes there are, those that are not due yet among them; ``most`` at most."""
    notes = select(OrphanRow.due_at).limit(most).subquery()
    async with db.read(EVERY_TENANT) as session:
        return await session.scalar(select(func.count()).select_from(notes)) or 0


async def due(db: Database, now: Millis) -> int:
    """How many values should be destroyed by now and are not.

    Those that could not be destroyed are among them.
    """
    async with db.read(EVERY_TENANT) as session:
        return await session.scalar(select(func.count()).where(OrphanRow.due_at <= now)) or 0


async def sweep(db: Database, keystore: Keystore, now: Millis, limit: int = 100) -> int:
    """Destroy what is due; returns how many notes are left, :data:`COUNTED` at most.

    Notes that are not due yet are among those.  It is committed first that a value is being destroyed.  So a
    transaction that is about to store the reference either has taken the note already, or is refused.  And nothing
    waits for a Vault with the database's locks in its hands.  A value that can't be destroyed waits for a while and
    keeps nothing else waiting.

    Raises:
        KeystoreUnavailable: Vault is away; the rest is left for the next time.
    """
    ready = and_(OrphanRow.due_at <= now, OrphanRow.retry_at <= now)
    async with db.read(EVERY_TENANT) as session:
        found = select(OrphanRow.reference).where(ready).order_by(OrphanRow.retry_at, OrphanRow.due_at).limit(limit)
        references = list(await session.scalars(found))
    for reference in references:
        await _destroy(db, keystore, reference, now)
    return await waiting(db, COUNTED)


async def _destroy(db: Database, keystore: Keystore, reference: bytes, now: Millis) -> None:
    note = OrphanRow.reference == reference
    if not await _changed(db, note, due_at=0):
        return
    try:
        await keystore.erase(reference)
    except (CannotOpen, KeystoreUnavailable) as problem:
        if isinstance(problem, KeystoreUnavailable) and problem.away:
            raise
        # A path is ids. Nothing is shown of what can't be read as a reference.
        where = Reference.decode(reference).path if isinstance(problem, KeystoreUnavailable) else ""
        _log.error("keystore.not_destroyed", path=where, cause=getattr(problem, "cause", "malformed"))
        await _changed(db, note, retry_at=now + _RETRY_MS)
        return
    async with db.write(EVERY_TENANT) as session:
        await session.execute(delete(OrphanRow).where(note))


async def _changed(db: Database, note: ColumnElement[bool], **values: int) -> bool:
    async with db.write(EVERY_TENANT) as session:
        change = update(OrphanRow).where(note).values(**values).returning(OrphanRow.due_at)
        return (await session.execute(change)).first() is not None

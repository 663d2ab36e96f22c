"""Values that a keystore put outside of the database and that no row refers to, or may not: to be destroyed.

A database and a Vault share no transaction.  So a value that is about to be put there is noted here first, in a
transaction of its own; the transaction that stores the reference takes the note away (:func:`keep`); and one that
drops a reference writes a note (:func:`discard`).  Whatever happens between, the worker finds a note and destroys
what it names: no key stays behind that nobody knows of, and none is destroyed that a row still refers to.
"""

from __future__ import annotations

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from broker.base.clock import Clock
from broker.base.db import EVERY_TENANT, Database, Table
from broker.base.errors import Unavailable
from broker.formats.reference import Reference, is_reference
from broker.keystore.keystore import Keystore

# Longer than any transaction that stores a reference may take.
_SETTLED_MS = 60_000


class StrayRow(Table):
    """A value outside of the database, by its reference, to be destroyed from ``due_at`` on; 0 while it is."""

    __tablename__ = "keystore_strays"

    reference: Mapped[bytes] = mapped_column(primary_key=True)
    due_at: Mapped[int] = mapped_column(index=True)


class Swept(Unavailable):
    """The transaction took so long that the value it was to store was given up."""

    def __init__(self) -> None:
        super().__init__("Storing the key took too long, and nothing was kept; try again.", retry_after=1)


async def begin(db: Database, reference: bytes, clock: Clock) -> None:
    """Note that a value is about to be put there."""
    async with db.write(EVERY_TENANT) as session:
        session.add(StrayRow(reference=reference, due_at=clock() + _SETTLED_MS))


def keep(session: Session, sealed: bytes) -> None:
    """The session's transaction stores ``sealed``; does nothing for a value that is all in the row.

    Raises:
        Swept: it was given up meanwhile.
    """
    if not is_reference(sealed):
        return
    note = delete(StrayRow).where(StrayRow.reference == sealed, StrayRow.due_at > 0)
    if session.execute(note.returning(StrayRow.due_at)).first() is None:
        raise Swept


def discard(session: Session, sealed: bytes | None, now: int) -> None:
    """The session's transaction drops ``sealed``: what of it is elsewhere is destroyed after the commit."""
    if sealed is not None and is_reference(sealed):
        session.add(StrayRow(reference=sealed, due_at=now))


def replace(session: Session, old: bytes, fresh: bytes, now: int) -> None:
    """The session's transaction stores ``fresh`` instead of ``old``; raises as :func:`keep`."""
    if is_reference(old) and is_reference(fresh) and Reference.decode(old).same_value(Reference.decode(fresh)):
        return
    keep(session, fresh)
    discard(session, old, now)


async def sweep(db: Database, keystore: Keystore, now: int, limit: int = 100) -> int:
    """Destroy what is due; how many notes are left, those that are not due yet among them.

    That it is being destroyed is committed first, so that a transaction which is about to store the reference either
    has taken the note before, or is refused; and nothing waits for a Vault with the database's locks in its hands.

    Raises:
        KeystoreUnavailable: the rest is left for the next time.
    """
    async with db.read(EVERY_TENANT) as session:
        due = list(
            await session.scalars(
                select(StrayRow.reference).where(StrayRow.due_at <= now).order_by(StrayRow.due_at).limit(limit)
            )
        )
    for reference in due:
        note = StrayRow.reference == reference
        async with db.write(EVERY_TENANT) as session:
            claimed = await session.execute(update(StrayRow).where(note).values(due_at=0).returning(StrayRow.due_at))
            if claimed.first() is None:
                continue
        await keystore.erase(reference)
        async with db.write(EVERY_TENANT) as session:
            await session.execute(delete(StrayRow).where(note))
    async with db.read(EVERY_TENANT) as session:
        return await session.scalar(select(func.count()).select_from(StrayRow)) or 0

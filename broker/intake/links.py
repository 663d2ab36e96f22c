"""Make, prove, cancel and expire one-time links.

The secret is in the URL's fragment, which browsers send to nobody; the page proves that it knows it, and the database
holds a keyed hash of the proof.  Fetching the page spends nothing.
"""

from __future__ import annotations

import asyncio
import hmac
from dataclasses import dataclass

from sqlalchemy import and_, exists, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.events import BROKER, Actor, Event
from broker.audit.log import AuditLog
from broker.audit.record import record
from broker.base.clock import Clock
from broker.base.db import EVERY_TENANT, Database, Scope
from broker.base.errors import Conflict, Gone, NotFound
from broker.base.secret import Secret
from broker.base.strangers import Pace
from broker.credentials.rotation import open_of
from broker.credentials.tables import CredentialRow, RotationRow
from broker.credentials.versions import Place, holds_key, refuse_if_in_use, versions_of
from broker.formats import ids, linksecret, sealed
from broker.intake.tables import IntakeRow
from broker.intake.throttle import Throttle
from broker.keystore.keystore import Keystore
from broker.notifications.altered import report
from broker.organizations.tables import OrganizationRow

DEFAULT_HOURS = 72
LONGEST_HOURS = 24 * 30
# For so long who reads a receipt again finds the status link in it: the first answer may have been lost.
RECEIPT_MS = 86_400_000

OVER = frozenset({"cancelled", "expired"})
SPENT = frozenset({"verifying", "held", "accepted"})


class LinkInvalid(NotFound):
    """Unknown link or wrong secret: one answer, which tells a stranger nothing."""

    code = "link_invalid"

    def __init__(self) -> None:
        super().__init__("This link does not work. Open the whole link as it was sent to you, or ask for a new one.")


class LinkSpent(Conflict):
    """A key was submitted over this link before."""

    code = "intake_spent"

    def __init__(self) -> None:
        super().__init__(
            "A key was submitted over this link before. To send another one, ask the vendor for a new link."
        )


class LinkExpired(Gone):
    """The link's time is over."""

    code = "intake_expired"

    def __init__(self) -> None:
        super().__init__("This link has expired. Ask the vendor for a new one.")


class LinkCancelled(Gone):
    """The vendor took the request back."""

    code = "intake_cancelled"

    def __init__(self) -> None:
        super().__init__("This request was cancelled. Nothing needs to be done; the vendor can send a new link.")


class KeyGiven(Conflict):
    """The first key that the link asks for came another way: over another link, or from an operator."""

    code = "key_given"

    def __init__(self) -> None:
        super().__init__("A key was already given; nothing to do.")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an operator asks a customer for.  ``hours`` is how long the link lasts."""

    place: Place
    contact: str
    purpose: str
    hours: int
    requested_by: str


def status_secret(link_key: bytes, row: IntakeRow) -> str:
    """The secret part of an intake's status link: made again when needed, stored nowhere."""
    name = f"status\0{row.id}" + (f"\0{row.status_serial}" if row.status_serial else "")
    return linksecret.encode(hmac.digest(link_key, name.encode(), "sha256")[:20])


def proof_hash(link_key: bytes, proof: str) -> bytes:
    """What is stored in place of a proof."""
    return hmac.digest(link_key, b"proof\0" + proof.encode(), "sha256")


async def request(
    session: AsyncSession,
    keystore: Keystore,
    link_key: bytes,
    actor: Actor,
    wanted: Wanted,
    *,
    now: int,
    rotation: RotationRow | None = None,
) -> tuple[IntakeRow, str]:
    """A new link: the row, and the link's secret part, shown this once.

    Without a ``rotation`` it asks for a first key.

    Raises:
        ActiveKeyExists: the credential holds a key already.
    """
    if rotation is None:
        await refuse_if_in_use(session, wanted.place)
    row = IntakeRow(
        id=ids.new("int"),
        organization_id=wanted.place.organization,
        provider=wanted.place.definition.id,
        label=wanted.place.label,
        contact=wanted.contact,
        purpose=wanted.purpose,
        requested_by=wanted.requested_by,
        state="open",
        rotation_id=rotation.id if rotation else None,
        status_serial=0,
        credential_id=rotation.credential_id if rotation else None,
        version=None,
        refusal="",
        created_at=now,
        submitted_at=None,
        settled_at=None,
    )
    row.drawn_at = _drawn(actor, now)
    secret = await _new_link(row, keystore, link_key, now + wanted.hours * 3_600_000)
    session.add(row)
    await record(session, event(row, "intake.requested", actor, now, note=wanted.contact))
    return row, secret


async def replace(
    session: AsyncSession, keystore: Keystore, link_key: bytes, actor: Actor, intake_id: str, hours: int, *, now: int
) -> tuple[IntakeRow, str]:
    """A new link for a request that still waits, also where its link has expired; the one before stops working.

    Raises:
        LinkSpent: a key was submitted. LinkCancelled: the request was taken back.
    """
    row = await get(session, intake_id, lock=True)
    if row.state in SPENT:
        raise LinkSpent
    if row.state == "cancelled" or await _rotation_is_over(session, row) or await is_overtaken(session, row):
        raise LinkCancelled
    secret = await _new_link(row, keystore, link_key, now + hours * 3_600_000)
    row.state, row.settled_at, row.drawn_at = "open", None, _drawn(actor, now)
    await record(session, event(row, "intake.link_replaced", actor, now))
    return row, secret


async def replace_status_links(session: AsyncSession, actor: Actor, credential_id: str, *, now: int) -> IntakeRow:
    """Make every status link of a credential worthless; the request whose new one is to be sent.

    A one-time link that somebody drew over one of them closes too: the new one can draw another.

    Raises:
        NotFound: no key of this credential came over a link.
    """
    await versions_of(session, credential_id)
    changing = await open_of(session, credential_id)
    query = select(IntakeRow).where(IntakeRow.credential_id == credential_id, IntakeRow.submitted_at.is_not(None))
    rows = list(await session.scalars(query.order_by(IntakeRow.submitted_at).with_for_update()))
    if not rows:
        raise NotFound("No key of this credential came over a link, so it has no status link.")
    for row in rows:
        row.status_serial += 1
    events = [event(rows[-1], "intake.status_link_replaced", actor, now)]
    drawn = select(IntakeRow).where(
        IntakeRow.rotation_id == (changing and changing.id), IntakeRow.state == "open", IntakeRow.drawn_at.is_not(None)
    )
    for row in await session.scalars(drawn.with_for_update()):
        row.state, row.private_sealed, row.settled_at = "expired", None, now
        events.append(event(row, "intake.expired", actor, now, reason="status_link_replaced"))
    await record(session, *events)
    return rows[-1]


def shows_status_link(row: IntakeRow, now: int) -> bool:
    """Whether the one-time link of a received key still leads to its status link: for a day, and never to a new one."""
    return row.status_serial == 0 and row.submitted_at is not None and now < row.submitted_at + RECEIPT_MS


def _drawn(actor: Actor, now: int) -> int | None:
    return now if actor.type == "customer" else None


async def _new_link(row: IntakeRow, keystore: Keystore, link_key: bytes, expires_at: int) -> str:
    """Give the row a fresh key pair and secret; the secret."""
    private, row.public_key = sealed.generate()
    secret = linksecret.new()
    row.proof_hash, row.expires_at = proof_hash(link_key, linksecret.proof(secret)), expires_at
    row.private_sealed = await keystore.seal(Secret(private), row.binding)
    return secret


async def _rotation_is_over(session: AsyncSession, row: IntakeRow) -> bool:
    if row.rotation_id is None:
        return False
    found = await session.scalar(select(RotationRow.id).where(RotationRow.id == row.rotation_id, _OVER))
    return found is not None


_OVER = RotationRow.ended_at.is_not(None)


async def is_overtaken(session: AsyncSession, row: IntakeRow) -> bool:
    """Whether the credential that a first key was asked for was revoked since: the link makes no new one of it."""
    return await session.scalar(select(IntakeRow.id).where(IntakeRow.id == row.id, _OVERTAKEN)) is not None


# A new credential under the same label is asked for anew; what was asked for before must not bring the old one back.
_OVERTAKEN = and_(
    IntakeRow.rotation_id.is_(None),
    exists().where(
        CredentialRow.organization_id == IntakeRow.organization_id,
        CredentialRow.provider == IntakeRow.provider,
        CredentialRow.label == IntakeRow.label,
        CredentialRow.revoked_at > IntakeRow.created_at,
    ),
)


async def also_open(session: AsyncSession, row: IntakeRow, *, now: int) -> list[IntakeRow]:
    """The other open requests for a first key of the same credential, oldest first."""
    query = select(IntakeRow).where(
        IntakeRow.organization_id == row.organization_id,
        IntakeRow.provider == row.provider,
        IntakeRow.label == row.label,
        IntakeRow.id != row.id,
        IntakeRow.rotation_id.is_(None),
        IntakeRow.state == "open",
        IntakeRow.expires_at > now,
        ~_OVERTAKEN,
    )
    return [] if row.rotation_id is not None else list(await session.scalars(query.order_by(IntakeRow.id)))


def event(row: IntakeRow, kind: str, actor: Actor, now: int, *, reason: str = "", note: str = "") -> Event:
    """An event about this intake."""
    return Event(
        kind=kind,
        time=now,
        actor=actor,
        organization=row.organization_id,
        provider=row.provider,
        credential=row.credential_id or "",
        version=row.version or 0,
        intake=row.id,
        decision="denied" if kind in {"intake.refused", "intake.proof_refused"} else "allowed",
        reason=reason,
        note=note,
    )


async def get(session: AsyncSession, intake_id: str, *, lock: bool = False) -> IntakeRow:
    """The intake of that id, ``lock`` keeping it as it is until the transaction ends; raises NotFound."""
    query = select(IntakeRow).where(IntakeRow.id == intake_id)
    row = await session.scalar(query.with_for_update() if lock else query)
    if row is None:
        raise NotFound("There is no such request for you; `broker key list` shows those that are.")
    return row


async def cancel(session: AsyncSession, actor: Actor, intake_id: str, *, now: int) -> IntakeRow:
    """Take an open request back.  One that is over or spent already stays as it is."""
    row = await get(session, intake_id, lock=True)
    if row.state == "open":
        row.state, row.private_sealed, row.settled_at = "cancelled", None, now
        await record(session, event(row, "intake.cancelled", actor, now))
    return row


async def expire_due(db: Database, clock: Clock, limit: int = 100) -> int:
    """Close open links whose time, rotation or credential is over, destroying their private keys; how many."""
    async with db.write(EVERY_TENANT) as session:
        now = clock()
        over = select(RotationRow.id).where(_OVER)
        rows = list(
            await session.scalars(
                select(IntakeRow)
                .where(
                    IntakeRow.state == "open",
                    or_(IntakeRow.expires_at <= now, IntakeRow.rotation_id.in_(over), _OVERTAKEN),
                )
                .limit(limit)
                .with_for_update(skip_locked=True)
            )
        )
        for row in rows:
            row.state, row.private_sealed, row.settled_at = "expired", None, now
        if rows:
            await record(session, *(event(row, "intake.expired", BROKER, now) for row in rows))
    return len(rows)


class Links:
    """Checks the proofs that pages send."""

    def __init__(self, db: Database, audit: AuditLog, throttle: Throttle, link_key: bytes, clock: Clock) -> None:
        self._db = db
        self._audit = audit
        self._throttle = throttle
        self._key = link_key
        self._clock = clock
        # Whoever comes has to be looked up, but hundreds at once are not to take the process, or every connection.
        self._pace = Pace(per_second=50, burst=10, longest_s=5)
        self._looking = asyncio.Semaphore(2)

    @property
    def refused(self) -> int:
        """Wrong proofs that were refused from memory, or by a limit that was met elsewhere."""
        return self._throttle.refused

    async def proved(self, intake_id: str, proof: str, address: str) -> IntakeRow:
        """The intake whose link's secret the caller proved to know.

        Raises:
            LinkInvalid: unknown or wrong. TooMany: likewise, and too many before it. LinkExpired, LinkCancelled,
                KeyGiven: over, told only to who holds the secret.
        """
        row = await self._row(intake_id)
        expected = row.proof_hash if row else b"\0" * 32
        await self._match(row, intake_id, expected, proof, address)
        assert row is not None
        if row.state == "cancelled" or await self._is_withdrawn(row):
            raise LinkCancelled
        if row.state == "expired" or (row.state == "open" and row.expires_at <= self._clock()):
            raise LinkExpired
        if row.state == "open" and row.rotation_id is None and await self._is_given(row):
            raise KeyGiven
        return row

    async def status_proved(self, intake_id: str, proof: str, address: str) -> IntakeRow:
        """The intake whose *status* link's secret the caller proved to know; raises LinkInvalid or TooMany."""
        row = await self._row(intake_id)
        expected = proof_hash(self._key, linksecret.proof(status_secret(self._key, row))) if row else b"\0" * 32
        await self._match(row if row and row.submitted_at else None, intake_id, expected, proof, address)
        assert row is not None
        return row

    async def _match(self, row: IntakeRow | None, intake_id: str, expected: bytes, proof: str, address: str) -> None:
        # Compared also where there is no row, so that both take the same time.
        right = hmac.compare_digest(expected, proof_hash(self._key, proof))
        if row is not None and right:
            return  # whatever was tried before: nobody who guesses can keep its holder out
        await self._throttle.spend(address, intake_id)
        if row is not None:  # not waited for, as who is answered later would know that there is such a link
            actor = Actor("stranger", "unverified", address=address)
            self._audit.post(event(row, "intake.proof_refused", actor, self._clock(), reason="wrong_proof"))
        raise LinkInvalid

    async def _row(self, intake_id: str) -> IntakeRow | None:
        if not ids.is_id(intake_id, "int"):
            return None
        await self._pace.turn()
        async with self._looking, self._db.read(EVERY_TENANT) as session:
            row = await session.scalar(select(IntakeRow).where(IntakeRow.id == intake_id))
        if row is not None and not row.genuine:
            await report(self._db, row, self._clock())
            return None
        return row

    async def _is_withdrawn(self, row: IntakeRow) -> bool:
        """Whether what the link is for is over: organization or credential were cut off, or the rotation has ended."""
        async with self._db.read(Scope.of(row.organization_id)) as session:
            query = select(OrganizationRow.state).where(OrganizationRow.id == row.organization_id)
            if await session.scalar(query) != "active":
                return True
            return row.state == "open" and (await _rotation_is_over(session, row) or await is_overtaken(session, row))

    async def _is_given(self, row: IntakeRow) -> bool:
        async with self._db.read(Scope.of(row.organization_id)) as session:
            return await holds_key(session, row.organization_id, row.provider, row.label)

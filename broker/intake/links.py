"""Make, cancel and expire one-time links, and replace status codes.

A link's secret is in the URL's fragment, which browsers send to nobody; the page proves that it knows it
(:mod:`broker.intake.proving`), and the database holds the key that proofs are made with, sealed.  Fetching the page
spends nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import and_, exists, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.events import BROKER, Actor, Event
from broker.audit.record import record
from broker.base.clock import Clock
from broker.base.db import EVERY_TENANT, Database
from broker.base.errors import Conflict, Gone, NotFound
from broker.base.secret import Secret
from broker.credentials.rotation import open_of
from broker.credentials.tables import CredentialRow, RotationRow
from broker.credentials.versions import CredentialAddress, refuse_if_in_use, versions_of
from broker.formats import ids, intake_seal, link_proof, link_secret
from broker.intake.lifecycle import SPENT, IntakeState, IntakeStep, can, close, reopen
from broker.intake.tables import IntakeRow
from broker.keystore.internal import InternalKeys
from broker.parts import Parts

DEFAULT_HOURS = 72
LONGEST_HOURS = 24 * 30


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
    """The link has expired."""

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

    address: CredentialAddress
    contact: str
    purpose: str
    hours: int
    requested_by: str


# Makes the secret part of a link to the recipient that is named, for the request of that id.
Draw = Callable[[str, bytes], str]


def at_random(_intake: str, recipient: bytes) -> str:
    """As almost all links' secrets are made."""
    return link_secret.link_to(recipient)


async def request(
    session: AsyncSession,
    parts: Parts,
    actor: Actor,
    wanted: Wanted,
    *,
    now: int,
    rotation: RotationRow | None = None,
    draw: Draw = at_random,
) -> tuple[IntakeRow, str]:
    """A new link: the row, and the link's secret part, shown this once.

    Without a ``rotation`` it asks for a first key.

    Raises:
        ActiveKeyExists: the credential holds a key already.
    """
    if rotation is None:
        await refuse_if_in_use(session, wanted.address)
    row = IntakeRow(
        id=ids.new("int"),
        organization_id=wanted.address.organization,
        provider=wanted.address.definition.id,
        label=wanted.address.label,
        contact=wanted.contact,
        purpose=wanted.purpose,
        requested_by=wanted.requested_by,
        state=IntakeState.OPEN,
        rotation_id=rotation.id if rotation else None,
        status_serial=0,
        credential_id=rotation.credential_id if rotation else None,
        version=None,
        refusal="",
        created_at=now,
        submitted_at=None,
        settled_at=None,
    )
    row.self_issued_at = _self_issued(actor, now)
    secret = await _new_link(row, parts, draw, now + wanted.hours * 3_600_000)
    session.add(row)
    await record(session, Event.about(row, "intake.requested", actor, now, note=wanted.contact))
    return row, secret


async def replace(
    session: AsyncSession, parts: Parts, actor: Actor, intake_id: str, hours: int, *, now: int, draw: Draw = at_random
) -> tuple[IntakeRow, str]:
    """A new link for a request that still waits, also where its link has expired; the previous one stops working.

    Raises:
        LinkSpent: a key was submitted. LinkCancelled: the request was taken back.
    """
    row = await get(session, intake_id, lock=True)
    if row.state in SPENT:
        raise LinkSpent
    if (
        row.state == IntakeState.CANCELLED
        or await rotation_has_ended(session, row)
        or await is_superseded(session, row)
    ):
        raise LinkCancelled
    secret = await _new_link(row, parts, draw, now + hours * 3_600_000)
    reopen(row, IntakeStep.REPLACE_LINK)
    row.self_issued_at = _self_issued(actor, now)
    await record(session, Event.about(row, "intake.link_replaced", actor, now))
    return row, secret


async def replace_status_codes(
    session: AsyncSession, keys: InternalKeys, actor: Actor, credential_id: str, *, now: int
) -> tuple[IntakeRow, str]:
    """Make every status code and link of a credential worthless; a request, and its new code, shown this once.

    A one-time link that was issued over one of them closes too: the new one can issue another.

    Raises:
        NotFound: no key of this credential came over a link.
    """
    await versions_of(session, credential_id)
    changing = await open_of(session, credential_id)
    query = select(IntakeRow).where(IntakeRow.credential_id == credential_id, IntakeRow.submitted_at.is_not(None))
    rows = list(await session.scalars(query.order_by(IntakeRow.submitted_at).with_for_update()))
    if not rows:
        raise NotFound("No key of this credential came over a link, so it has no status code.")
    for row in rows:  # what the broker derives from the next number, nobody knows
        row.status_serial, row.status_key = row.status_serial + 1, None
    code = link_secret.new()
    rows[-1].status_key = await sealed_status_key(keys, rows[-1], link_proof.key_of(code))
    events = [Event.about(rows[-1], "intake.status_link_replaced", actor, now)]
    self_issued = select(IntakeRow).where(
        IntakeRow.rotation_id == (changing and changing.id),
        IntakeRow.state == IntakeState.OPEN,
        IntakeRow.self_issued_at.is_not(None),
    )
    for row in await session.scalars(self_issued.with_for_update()):
        close(row, IntakeStep.EXPIRE, now)
        events.append(Event.about(row, "intake.expired", actor, now, reason="status_link_replaced"))
    await record(session, *events)
    return rows[-1], code


async def sealed_status_key(keys: InternalKeys, row: IntakeRow, key: bytes) -> bytes:
    """The key of a request's status code, as its row holds it."""
    return await keys.keystore().seal(Secret(key), row.status_binding)


def _self_issued(actor: Actor, now: int) -> int | None:
    return now if actor.type == "customer" else None


async def _new_link(row: IntakeRow, parts: Parts, draw: Draw, expires_at: int) -> str:
    """Give the row a fresh key pair and secret; the secret."""
    private, row.public_key = intake_seal.generate()
    row.expires_at = expires_at
    secret = draw(row.id, link_secret.recipient_of(row.public_key, row.context))
    # No constant proof has the empty hash.
    row.proof_hash = b""
    row.link_key = await parts.keys.keystore().seal(Secret(link_proof.key_of(secret)), row.link_binding)
    row.private_sealed = await parts.keystore.seal(Secret(private), row.binding)
    return secret


async def rotation_has_ended(session: AsyncSession, row: IntakeRow) -> bool:
    """Whether a rotation's link asks for a key that its rotation needs no more."""
    if row.rotation_id is None:
        return False
    found = await session.scalar(select(RotationRow.id).where(RotationRow.id == row.rotation_id, _OVER))
    return found is not None


_OVER = RotationRow.ended_at.is_not(None)


async def is_superseded(session: AsyncSession, row: IntakeRow) -> bool:
    """Whether the credential that a first key was asked for was revoked since: the link makes no new one of it."""
    return await session.scalar(select(IntakeRow.id).where(IntakeRow.id == row.id, _SUPERSEDED)) is not None


# A new credential under the same label is asked for again; what was asked for before must not bring the old one back.
_SUPERSEDED = and_(
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
        IntakeRow.state == IntakeState.OPEN,
        IntakeRow.expires_at > now,
        ~_SUPERSEDED,
    )
    return [] if row.rotation_id is not None else list(await session.scalars(query.order_by(IntakeRow.id)))


async def get(session: AsyncSession, intake_id: str, *, lock: bool = False) -> IntakeRow:
    """The intake of that id, ``lock`` keeping it as it is until the transaction ends; raises NotFound."""
    query = select(IntakeRow).where(IntakeRow.id == intake_id)
    row = await session.scalar(query.with_for_update() if lock else query)
    if row is None:
        raise NotFound("There is no such request for you; `broker key list` shows those that are.")
    return row


async def cancel(session: AsyncSession, actor: Actor, intake_id: str, *, now: int) -> IntakeRow:
    """Take an open request back.  One that has ended or is spent already stays as it is."""
    row = await get(session, intake_id, lock=True)
    if can(row, IntakeStep.CANCEL):
        close(row, IntakeStep.CANCEL, now)
        await record(session, Event.about(row, "intake.cancelled", actor, now))
    return row


async def expire_due(db: Database, clock: Clock, limit: int = 100) -> int:
    """Close open links that have expired, or whose rotation or credential has ended, and destroy their private keys."""
    async with db.write(EVERY_TENANT) as session:
        now = clock()
        over = select(RotationRow.id).where(_OVER)
        rows = list(
            await session.scalars(
                select(IntakeRow)
                .where(
                    IntakeRow.state == IntakeState.OPEN,
                    or_(IntakeRow.expires_at <= now, IntakeRow.rotation_id.in_(over), _SUPERSEDED),
                )
                .limit(limit)
                .with_for_update(skip_locked=True)
            )
        )
        for row in rows:
            close(row, IntakeStep.EXPIRE, now)
        if rows:
            await record(session, *(Event.about(row, "intake.expired", BROKER, now) for row in rows))
    return len(rows)

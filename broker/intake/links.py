"""Make, replace, cancel and expire one-time links.

A link's secret is in the URL's fragment, which browsers send to nobody.  The page proves that it knows the secret
(:mod:`broker.intake.proving`).  The database holds the key that proofs are made with, sealed.  Fetching the page spends
nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import ColumnElement, and_, exists, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.events import BROKER, Actor, Event
from broker.audit.record import record
from broker.base.clock import Clock, Millis, later
from broker.base.db import EVERY_TENANT, Database
from broker.base.errors import NotFound
from broker.base.pruning import PAGE
from broker.base.secret import Secret
from broker.credentials.tables import CredentialRow, RotationRow
from broker.credentials.versions import CredentialAddress, refuse_if_in_use
from broker.formats import ids, intake_seal, link_proof, link_secret
from broker.formats.ids import IntakeId
from broker.intake.lifecycle import SPENT, IntakeState, IntakeStep, can, close, reopen
from broker.intake.refusals import LinkCancelled, LinkSpent
from broker.intake.tables import IntakeRow
from broker.parts import Parts

DEFAULT_HOURS = 72
LONGEST_HOURS = 24 * 30


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an operator asks a customer for.  ``hours`` is how long the link lasts."""

    address: CredentialAddress
    contact: str
    purpose: str
    hours: int
    requested_by: str


# Makes the secret part of a link, for the request of that id, to that recipient.
Draw = Callable[[IntakeId, bytes], str]


def at_random(_intake: IntakeId, recipient: bytes) -> str:
    """As almost all links' secrets are made."""
    return link_secret.link_to(recipient)


async def request(
    session: AsyncSession,
    parts: Parts,
    actor: Actor,
    wanted: Wanted,
    *,
    now: Millis,
    rotation: RotationRow | None = None,
    draw: Draw = at_random,
) -> tuple[IntakeRow, str]:
    """Make a new link; the row, and the link's secret part, which is shown this once.

    Without a ``rotation`` it asks for a first key.

    Raises:
        ActiveKeyExists: the credential holds a key already.
    """
    if rotation is None:
        await refuse_if_in_use(session, wanted.address)
    row = IntakeRow(
        id=ids.new(ids.IntakeId),
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
    secret = await _new_link(row, parts, draw, later(now, wanted.hours * 3_600_000))
    session.add(row)
    await record(session, Event.about(row, "intake.requested", actor, now, note=wanted.contact))
    return row, secret


async def replace(
    session: AsyncSession,
    parts: Parts,
    actor: Actor,
    intake_id: IntakeId,
    *,
    hours: int = DEFAULT_HOURS,
    now: Millis,
    draw: Draw = at_random,
) -> tuple[IntakeRow, str]:
    """Make a new link for a request that still waits; the previous one stops working.

    A link that has expired is replaced as well.

    Raises:
        LinkSpent: a key was submitted.
        LinkCancelled: the request was taken back.
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
    secret = await _new_link(row, parts, draw, later(now, hours * 3_600_000))
    reopen(row, IntakeStep.REPLACE_LINK)
    row.self_issued_at = _self_issued(actor, now)
    await record(session, Event.about(row, "intake.link_replaced", actor, now))
    return row, secret


def _self_issued(actor: Actor, now: Millis) -> Millis | None:
    return now if actor.type == "customer" else None


async def _new_link(row: IntakeRow, parts: Parts, draw: Draw, expires_at: Millis) -> str:
    """Give the row a new key pair; the link's secret."""
    # rotation (4) the one-time link is made
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


# So many links are closed in one transaction.
TOGETHER = 100

_OVER = RotationRow.ended_at.is_not(None)


async def is_superseded(session: AsyncSession, row: IntakeRow) -> bool:
    """Whether the credential was revoked after a first key was asked for.

    A key that comes over the link must not make a new credential of it.
    """
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


async def also_open(session: AsyncSession, row: IntakeRow, *, now: Millis) -> list[IntakeRow]:
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


async def get(session: AsyncSession, intake_id: IntakeId, *, lock: bool = False) -> IntakeRow:
    """The intake of that id.  ``lock`` keeps it until the transaction ends.

    Raises:
        NotFound: none inside the session's scope.
    """
    query = select(IntakeRow).where(IntakeRow.id == intake_id)
    row = await session.scalar(query.with_for_update() if lock else query)
    if row is None:
        raise NotFound("There is no such request for you; `broker key list` shows those that are.")
    return row


async def cancel(session: AsyncSession, actor: Actor, intake_id: IntakeId, *, now: Millis) -> IntakeRow:
    """Take an open request back.  Idempotent: one that is spent or has ended stays as it is."""
    row = await get(session, intake_id, lock=True)
    if can(row, IntakeStep.CANCEL):
        close(row, IntakeStep.CANCEL, now)
        await record(session, Event.about(row, "intake.cancelled", actor, now))
    return row


async def expire_due(db: Database, clock: Clock) -> None:
    """Close open links that have expired.  Their private keys are destroyed."""
    late = and_(IntakeRow.state == IntakeState.OPEN, IntakeRow.expires_at <= clock())
    while await _expire(db, late, clock()):
        pass


async def expire_over(db: Database, clock: Clock, after: IntakeId | None) -> IntakeId | None:
    """Close a page of open links whose rotation or credential has ended.

    Their private keys are destroyed.  Each of them is refused already.  So it does to come round to all of them some
    time: what has ended would otherwise be looked for among all rotations that ever did.

    Args:
        db: which database.
        clock: the time.
        after: what the call before returned.

    Returns:
        The last link of the page; None if it was the last page.
    """
    place = select(IntakeRow.id).where(IntakeRow.state == IntakeState.OPEN)
    rest = place if after is None else place.where(IntakeRow.id > after)
    # One look by its id for each link: for EXISTS PostgreSQL may read all rotations that ended instead.
    ended_at = select(RotationRow.ended_at).where(RotationRow.id == IntakeRow.rotation_id).scalar_subquery()
    async with db.read(EVERY_TENANT) as session:
        page = list(await session.scalars(rest.order_by(IntakeRow.id).limit(PAGE)))
        over = select(IntakeRow.id).where(IntakeRow.id.in_(page), or_(ended_at.is_not(None), _SUPERSEDED))
        found = list(await session.scalars(over)) if page else []
    while found and await _expire(db, and_(IntakeRow.state == IntakeState.OPEN, IntakeRow.id.in_(found)), clock()):
        pass
    return page[-1] if len(page) == PAGE else None


async def _expire(db: Database, which: ColumnElement[bool], now: Millis) -> bool:
    """Close some of these links; whether there may be more."""
    async with db.write(EVERY_TENANT) as session:
        query = select(IntakeRow).where(which).limit(TOGETHER).with_for_update(skip_locked=True)
        rows = list(await session.scalars(query))
        for row in rows:
            close(row, IntakeStep.EXPIRE, now)
        if rows:
            await record(session, *(Event.about(row, "intake.expired", BROKER, now) for row in rows))
    return len(rows) == TOGETHER

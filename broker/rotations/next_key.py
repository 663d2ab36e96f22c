"""Whether a customer can submit another key just now, and what has to happen first."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.events import Actor
from broker.base.clock import Millis
from broker.base.validity import Validity
from broker.credentials.lifecycle import Health, State
from broker.credentials.rotation_lifecycle import RotationState
from broker.credentials.tables import CredentialRow, RotationRow, VersionRow
from broker.credentials.versions import versions_of
from broker.formats.ids import CredentialId
from broker.intake.lifecycle import IntakeState
from broker.intake.tables import IntakeRow
from broker.rotations import commands


class Next(StrEnum):
    """What the customer's wish to submit a key meets."""

    ANSWER = "answer"  # a request is open: they get a new link to it
    ASK = "ask"  # nothing is under way: they get a request of their own
    START_OVER = "start_over"  # the upstream refuses the new key: it is given up first
    WAITS = "waits"  # a key was submitted and is being checked
    PROVING = "proving"  # a new key has just come into use
    MADE = "made"  # the broker makes the new key itself
    OVER = "over"  # the credential was revoked for good


POSSIBLE = frozenset({Next.ANSWER, Next.ASK, Next.START_OVER})

REFUSALS = {
    Next.WAITS: "A new key was submitted already and is being checked; nothing more needs to be sent.",
    Next.PROVING: "A new key is in use already. Another one can be submitted once the key before it is retired.",
    Next.MADE: "The new key is being made automatically; nothing needs to be sent.",
}


def following(
    credential: CredentialRow,
    versions: Iterable[VersionRow],
    changing: RotationRow | None,
    first: IntakeRow | None,
) -> Next:
    """What comes next for the customer.

    ``changing`` is the open rotation, ``first`` the open request for a first key.
    """
    if credential.state != Validity.ACTIVE:
        return Next.OVER
    if changing is None:
        if any(version.state in {State.STAGED, State.VERIFIED} for version in versions):
            return Next.WAITS
        return Next.ASK if first is None else Next.ANSWER
    if changing.state == RotationState.FAILING:
        return Next.START_OVER
    if changing.state == RotationState.GRACE:
        return Next.PROVING
    if changing.intake_id is None:
        return Next.MADE
    return Next.ANSWER if changing.state == RotationState.REQUESTED else Next.WAITS


async def first_request(
    session: AsyncSession, credential_id: CredentialId, versions: Iterable[VersionRow]
) -> IntakeRow | None:
    """The open request for a first key, if the earlier submission over it was in vain."""
    if any(version.state not in {State.REVOKED, State.DESTROYED} for version in versions):
        return None
    query = select(IntakeRow).where(
        IntakeRow.credential_id == credential_id, IntakeRow.rotation_id.is_(None), IntakeRow.state == IntakeState.OPEN
    )
    return await session.scalar(query.order_by(IntakeRow.id.desc()).limit(1))


async def give_up(session: AsyncSession, actor: Actor, changing: RotationRow, *, now: Millis) -> None:
    """End a rotation whose new key fails: back to the old key if that serves, else without it."""
    versions = await versions_of(session, changing.credential_id)
    old = next(version for version in versions.values() if version.state == State.RETIRING)
    if old.health == Health.FAILING:
        await commands.retire(session, actor, changing, "superseded", now=now)
    else:
        await commands.roll_back(session, actor, changing.id, reason="another key is submitted", now=now)

"""One change of key, from asking for the new one to the old one's retirement.

Every step is in one transaction.

Which state has which steps is said in :mod:`broker.credentials.rotation_lifecycle`.  Every other step is refused by its
name, such as ``promote_from_requested``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.events import Actor, Event
from broker.base.clock import Millis, later, rfc3339
from broker.base.errors import Conflict, NotFound
from broker.base.validity import Validity
from broker.credentials.evidence import Assessment
from broker.credentials.lifecycle import State, Unlawful
from broker.credentials.moves import UnlawfulMove
from broker.credentials.notices import notify_of
from broker.credentials.rotation_lifecycle import RotationState, RotationStep, next_state
from broker.credentials.tables import CredentialRow, RotationRow, VersionRow
from broker.credentials.versions import versions_of
from broker.formats import ids
from broker.formats.ids import CredentialId, RotationId
from broker.notifications.notices import Kind as NoticeKind

# The old key can be fallen back to for an hour; jobs that have seen it have a week to ask for the new one.
GRACE_MINUTES = 60
DEADLINE_HOURS = 24 * 7

Kind = Literal["routine", "automatic", "urgent", "customer", "minted"]

_UNDER_WAY = frozenset({State.STAGED, State.VERIFIED})


class RotationOpen(Conflict):
    """The credential's key is being rotated already."""

    code = "rotation_open"


class RotationRefused(UnlawfulMove):
    """The rotation's state doesn't have this step; ``move`` names it."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How a key is rotated.

    The old key can be fallen back to for ``grace_minutes``, and lasts ``deadline_hours`` at most.
    """

    kind: Kind
    reason: str = ""
    grace_minutes: int = GRACE_MINUTES
    deadline_hours: int = DEADLINE_HOURS


async def begin(
    session: AsyncSession, actor: Actor, credential: CredentialRow, plan: Plan, *, now: Millis
) -> RotationRow:
    """Open a rotation.

    The caller records its event, as the last of the transaction.

    Raises:
        RotationOpen: one is open already.
        UnlawfulMove: the credential was revoked, or another key is on its way in.
    """
    # rotation (3) it begins, if the credential is in force and no other one is open
    versions = await versions_of(session, credential.id)
    if credential.state != Validity.ACTIVE:
        raise UnlawfulMove(
            "The credential was revoked for good; ask for a first key of a new one (`broker key request`).",
            move="rotate_revoked_credential",
        )
    under_way = next((row.state for row in versions.values() if row.state in _UNDER_WAY), None)
    # What an exposure asks for must not wait for a decision about another key.
    if under_way is not None and plan.kind != "urgent" and await open_of(session, credential.id) is None:
        raise UnlawfulMove(
            "A key was submitted before and is not in use yet: it is being verified, or waits for a decision. Use it "
            "(`broker key activate`) or revoke it (`broker key revoke --version`) first.",
            move=f"rotate_while_{under_way}",
        )
    active = next((row.number for row in versions.values() if row.state == State.ACTIVE), None)
    row = RotationRow(
        id=ids.new(ids.RotationId),
        organization_id=credential.organization_id,
        credential_id=credential.id,
        provider=credential.provider,
        kind=plan.kind,
        state=RotationState.REQUESTED,
        reason=plan.reason,
        requested_by=actor.id,
        from_version=active,
        grace_minutes=plan.grace_minutes,
        deadline_hours=plan.deadline_hours,
        tries=0,
        next_try_at=now if plan.kind == "minted" else None,
        opened_at=now,
    )
    session.add(row)
    try:
        await session.flush()
    except IntegrityError:
        raise RotationOpen(
            "This key is being rotated already; `broker rotation list` shows how far it is. Promote, roll back or "
            "cancel that rotation first."
        ) from None
    return row


async def find(session: AsyncSession, rotation_id: RotationId, *, lock: bool = True) -> RotationRow:
    """The rotation of that id.  ``lock`` keeps it until the transaction ends.

    Raises:
        NotFound: none inside the session's scope.
    """
    row = await session.scalar(select(RotationRow).where(RotationRow.id == rotation_id))
    if row is None:
        raise NotFound("There is no such rotation for you; `broker rotation list` shows those that are.")
    if lock:
        await versions_of(session, row.credential_id)
        await session.refresh(row, with_for_update=True)
    return row


async def open_of(session: AsyncSession, credential_id: CredentialId, *, lock: bool = True) -> RotationRow | None:
    """The open rotation of a credential, locked likewise; None if there is none."""
    query = select(RotationRow).where(RotationRow.credential_id == credential_id, RotationRow.ended_at.is_(None))
    return await session.scalar(query.with_for_update() if lock else query)


async def awaiting_a_key(session: AsyncSession, rotation_id: RotationId) -> RotationRow:
    """The rotation, if it can take a new key; raises NotFound or RotationRefused otherwise."""
    row = await find(session, rotation_id)
    require(row, RotationStep.SUBMIT)
    return row


def submitted(row: RotationRow, number: int) -> None:
    """A new key was staged for the rotation."""
    row.state, row.to_version = require(row, RotationStep.SUBMIT), number


def refused(row: RotationRow) -> None:
    """The new key was not good: another one can be submitted."""
    row.state, row.to_version = require(row, RotationStep.REFUSE), None


async def held(session: AsyncSession, row: RotationRow, assessment: Assessment, *, now: Millis) -> None:
    """The new key works, but may be another tenant's: an operator decides."""
    row.state = require(row, RotationStep.HOLD)
    note_facts(row, assessment)
    await notify(session, row, "rotation_held", now)


def note_facts(row: RotationRow, assessment: Assessment) -> None:
    """Keep what the ids said, as the facts of the decision."""
    row.seen_ids, row.known_ids, row.shared_ids = assessment.seen, assessment.known, assessment.shared


async def activated(
    session: AsyncSession, actor: Actor, row: RotationRow, versions: dict[int, VersionRow], *, now: Millis
) -> list[Event]:
    """The new key is in use: the grace window begins.

    The rotation ends if nothing is left to retire.
    """
    row.activated_at = now
    old = next((version for version in versions.values() if version.state == State.RETIRING), None)
    if old is None:
        return [await end(session, row, RotationStep.COMPLETE, "nothing_to_retire", now=now, actor=actor)]
    # rotation (9) the grace window begins
    row.state, row.from_version = require(row, RotationStep.ACTIVATE), old.number
    row.grace_until = later(now, row.grace_minutes * 60_000)
    row.retire_by = max(row.grace_until, later(now, row.deadline_hours * 3_600_000))
    await notify(session, row, "rotation_started", now, deadline=rfc3339(row.retire_by))
    return []


async def reconciled(
    session: AsyncSession, actor: Actor, credential_id: CredentialId, versions: dict[int, VersionRow], *, now: Millis
) -> list[Event]:
    """Bring an open rotation in line after its versions were moved; what happened to it.

    It is rolled back if the new key was revoked, and completed if the old one was.  It goes on if no new key had been
    in use.
    """
    row = await open_of(session, credential_id)
    if row is None:
        return []
    present = {number: version.state for number, version in versions.items()}
    if row.state in {RotationState.GRACE, RotationState.FAILING}:
        if present.get(row.to_version or 0) == State.ACTIVE and State.RETIRING not in present.values():
            return [await end(session, row, RotationStep.COMPLETE, "old_key_revoked", now=now, actor=actor)]
        if present.get(row.to_version or 0) != State.ACTIVE:
            return [await end(session, row, RotationStep.ROLL_BACK, "new_key_revoked", now=now, actor=actor)]
    elif row.to_version is not None and present[row.to_version] in {State.REVOKED, State.DESTROYED}:
        refused(row)
    return []


async def cancelled_with_credential(
    session: AsyncSession, actor: Actor, credential_id: CredentialId, *, now: Millis
) -> list[Event]:
    """End an open rotation whose whole credential was revoked; what happened to it."""
    row = await open_of(session, credential_id)
    if row is None:
        return []
    return [await end(session, row, RotationStep.CANCEL_WITH_CREDENTIAL, "credential_revoked", now=now, actor=actor)]


async def judged_by_upstream(
    session: AsyncSession, actor: Actor, version: VersionRow, *, failing: bool, now: Millis
) -> list[Event]:
    """The upstream refused the new key within its grace window, or took it again.

    Returns:
        What that means for its rotation.
    """
    row = await open_of(session, version.credential_id)
    if row is None or row.to_version != version.number:
        return []
    judged = next_state(RotationState(row.state), RotationStep.FAIL if failing else RotationStep.RECOVER)
    if isinstance(judged, Unlawful):
        return []
    row.state, row.failing_at = judged, now if failing else None
    if failing:
        await notify(session, row, "rotation_failing", now)
    return [Event.about(row, "rotation.failing" if failing else "rotation.recovered", actor, now)]


async def notify(session: AsyncSession, row: RotationRow, kind: NoticeKind, now: Millis, **facts: str | int) -> None:
    """Notify people of a rotation, once for each of its steps."""
    credential = await session.get_one(CredentialRow, row.credential_id)
    await notify_of(
        session,
        kind,
        credential,
        version=row.to_version or row.from_version or 0,
        now=now,
        dedup=f"{kind}/{row.id}/{row.to_version or 0}/{row.failing_at or 0}",
        facts={"rotation": row.id, **facts},
    )


async def end(
    session: AsyncSession,
    row: RotationRow,
    step: RotationStep,
    reason: str,
    *,
    now: Millis,
    actor: Actor,
    note: str = "",
) -> Event:
    """End a rotation by this step, and notify its people.

    Returns:
        What happened, for the caller to record.

    Raises:
        RotationRefused: its state doesn't have the step.
    """
    state = require(row, step)
    row.state, row.ended_at = state, now
    # A cancelled one may have left a key upstream that the broker made there.
    row.next_try_at = now if state is RotationState.CANCELLED and row.kind == "minted" and row.tries else None
    await notify(session, row, _NOTICES[state], now)
    return Event.about(row, f"rotation.{state}", actor, now, reason=reason, note=note)


_NOTICES: Mapping[RotationState, NoticeKind] = {
    RotationState.COMPLETED: "rotation_completed",
    RotationState.ROLLED_BACK: "rotation_rolled_back",
    RotationState.CANCELLED: "rotation_cancelled",
}


def require(row: RotationRow, step: RotationStep) -> RotationState:
    """Where a step leads; raises RotationRefused if the rotation's state doesn't have it."""
    following = next_state(RotationState(row.state), step)
    if isinstance(following, Unlawful):
        raise RotationRefused(f"The rotation is '{row.state}': {_instead(row, step)}.", move=following.name)
    return following


# What operators can decide, and the command for it.
_DECISIONS: Mapping[RotationStep, str] = {
    RotationStep.PROMOTE: "promote",
    RotationStep.ROLL_BACK: "rollback",
    RotationStep.CANCEL: "cancel",
}
_AWAITED: Mapping[RotationState, str] = {
    RotationState.REQUESTED: "wait for the customer's key",
    RotationState.VERIFYING: "wait until the new key is checked",
    RotationState.FAILING: "wait until the upstream takes the new key",
}


def _instead(row: RotationRow, step: RotationStep) -> str:
    """What can be done with a rotation that doesn't have this step in its state."""
    state = RotationState(row.state)
    able = [
        f"`broker rotation {command} {row.id}`"
        for decision, command in _DECISIONS.items()
        if not isinstance(next_state(state, decision), Unlawful)
    ]
    if not able:
        return f"it is over. `broker key rotate {row.credential_id}` begins another one"
    awaited = [_AWAITED[state]] if state in _AWAITED else []
    return f"it has nothing to {_DECISIONS.get(step, step).replace('rollback', 'roll back')}. Instead, " + ", or ".join(
        [*awaited, *able]
    )

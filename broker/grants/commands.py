"""Give and take back grants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.events import Actor, Event
from broker.audit.guards import raise_epoch
from broker.audit.record import record
from broker.base import validity
from broker.base.clock import Millis
from broker.base.errors import Conflict, Invalid, NotFound
from broker.base.validity import Validity
from broker.formats import ids
from broker.formats.ids import GrantId
from broker.grants.learning import is_within
from broker.grants.policy import Grant, Mode, Rate
from broker.grants.shown import GrantState, state_of
from broker.grants.tables import GrantRow
from broker.identity.approval import approved, gives
from broker.identity.tables import WorkloadRow
from broker.notifications.notices import notify
from broker.organizations.tables import OrganizationRow
from broker.providers.rule import Rule

LONGEST_TTL_S = 86_400


@dataclass(frozen=True, slots=True)
class GrantLimits:
    """How a granted key may be used, as in :class:`~broker.grants.policy.Grant`.

    ``presets`` name some ``rules``.
    """

    presets: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()
    rate: Rate | None = None
    max_uses: int | None = None
    implicit: bool = False
    retries: bool = True
    bound: bool = False


async def create(
    session: AsyncSession,
    actor: Actor,
    *,
    workload: WorkloadRow,
    organizations: Sequence[OrganizationRow],
    provider: str,
    label: str | None,
    modes: Sequence[Mode],
    max_ttl: int,
    purpose_required: bool,
    expires_at: Millis | None,
    limits: GrantLimits,
    approval: bool,
    now: Millis,
) -> list[GrantRow]:
    """One grant for each organization, all or none.

    With ``approval``, a grant that reveals waits for a second person.

    Raises:
        Invalid: an expiry in the past, or limits on a key that may be seen. Conflict: the workload was revoked.
    """
    if Mode.REVEAL in modes and (limits.rules or limits.rate or limits.max_uses):
        raise Invalid("modes: a key that was seen can be used in any way; grant use alone to limit how it is used.")
    if workload.state != Validity.ACTIVE:
        raise Conflict(f"Workload {workload.name!r} was revoked; register a new one.")
    if expires_at is not None and expires_at <= now:
        raise Invalid("expires_at: lies in the past; name a later time or leave it out.")
    rows = [
        GrantRow(
            id=ids.new(ids.GrantId),
            organization_id=organization.id,
            workload_id=workload.id,
            provider=provider,
            label=label,
            modes=sorted({str(mode) for mode in modes}),
            max_ttl=max_ttl,
            purpose_required=purpose_required,
            presets=list(limits.presets),
            rules=[rule.model_dump(mode="json") for rule in limits.rules],
            rate_uses=limits.rate.uses if limits.rate else None,
            rate_seconds=limits.rate.seconds if limits.rate else None,
            max_uses=limits.max_uses,
            implicit=limits.implicit,
            retries=limits.retries,
            bound=limits.bound or None,
            expires_at=expires_at,
            state=Validity.ACTIVE,
            created_at=now,
            created_by=actor.id,
            needs_approval=approval and Mode.REVEAL in modes,
            approved_by=None,
            approved_at=None,
            revoked_at=None,
        )
        for organization in organizations
    ]
    session.add_all(rows)
    # Decisions that were made without these grants have to be made again.
    await raise_epoch(session, workload.id)
    for row in rows:
        if row.needs_approval:
            await notify(
                session,
                "grant_waits",
                organization=row.organization_id,
                provider=row.provider,
                now=now,
                facts={"grant": row.id},
            )
    await record(session, *(Event.about(row, "grant.created", actor, now, reason=_reason(row)) for row in rows))
    return rows


def _reason(row: GrantRow) -> str:
    bound, waits = (["bound"] if row.bound else []), (["awaits_approval"] if row.needs_approval else [])
    return ",".join([*row.modes, *bound, *waits])


async def approve(session: AsyncSession, actor: Actor, grant_id: GrantId, *, now: Millis) -> GrantRow:
    """Approve a grant that waits, as a second person (``actor``).  Idempotent.

    Raises:
        NotFound: there is none inside the session's scope. Conflict, NotASecondPerson, RowAltered: as for any approval.
    """
    row = await find(session, grant_id)
    await session.refresh(row, with_for_update=True)
    if asked := await approved(session, row, actor, now):
        await raise_epoch(session, row.workload_id)
        await record(session, Event.about(row, "grant.approved", actor, now, note=asked))
    return row


async def find(session: AsyncSession, grant_id: GrantId) -> GrantRow:
    """The grant of that id.

    Raises:
        NotFound: there is none inside the session's scope.
    """
    row = await session.scalar(select(GrantRow).where(GrantRow.id == grant_id))
    if row is None:
        raise NotFound("There is no such grant for you; `broker grant list` shows those that are.")
    return row


async def revoke(session: AsyncSession, actor: Actor, grant_id: GrantId, *, note: str, now: Millis) -> GrantRow:
    """Take a grant back: there is no lease or use under it from the commit on.  Idempotent."""
    row = await find(session, grant_id)
    if validity.revoke(row, now):
        await raise_epoch(session, row.id)
        await record(session, Event.about(row, "grant.revoked", actor, now, note=note))
    return row


async def tighten(
    session: AsyncSession,
    actor: Actor,
    grant_id: GrantId,
    *,
    present: Sequence[Rule],
    rules: Sequence[Rule],
    days: int,
    now: Millis,
) -> GrantRow:
    """Narrow a grant to ``rules``, which were tried on its uses of so many days.  Idempotent.

    As nothing that was refused is allowed by it, nobody has to approve it.  Calls that were let in go on.

    Args:
        present: the grant's rules when they were tried.

    Raises:
        NotFound: there is none inside the session's scope. RowAltered. Invalid: the rules allow more than the grant.
        Conflict: it gives nothing, shows the key, or was changed meanwhile.
    """
    row = await find(session, grant_id)
    await session.refresh(row, with_for_update=True)
    row.vouched_for()
    refuse_to_tighten(row, now)
    held = grant_in(row).rules
    if held == tuple(rules):
        return row
    if held != tuple(present):
        raise Conflict("The grant was changed meanwhile; look again at what it can be narrowed to.")
    if not rules or not is_within(rules, held):
        raise Invalid("rules: allow something that the grant doesn't; a wider right is a new grant.")
    row.rules, row.presets = [rule.model_dump(mode="json") for rule in rules], []
    await raise_epoch(session, row.id)
    told = f"days={days},rules={len(rules)},before={len(held)}"
    note = " | ".join(map(str, rules))
    await record(session, Event.about(row, "grant.tightened", actor, now, reason=told, note=note))
    return row


def refuse_to_tighten(row: GrantRow, now: Millis) -> None:
    """Refuse a grant that rules can't narrow; raises Conflict."""
    if state_of(row, now) is not GrantState.ACTIVE:
        raise Conflict("This grant gives nothing now, so there is nothing to narrow.")
    if Mode.REVEAL in row.modes:
        raise Conflict(
            "The job may see this key, and can use what it saw in any way; give it a grant for use alone instead, and "
            "revoke this one."
        )


def grant_in(row: GrantRow) -> Grant:
    """A grant's row as policy sees it."""
    return grant_of({"state": row.state, **{name: getattr(row, name) for name in GrantRow.AUTHENTICATED}})


def grant_of(row: Mapping[str, Any]) -> Grant:
    """A row, its columns by name, as policy sees it."""
    return Grant(
        row["id"],
        row["provider"],
        row["label"],
        frozenset(Mode(mode) for mode in row["modes"]),
        row["max_ttl"],
        row["purpose_required"],
        row["expires_at"],
        gives(row["state"], row["approved_by"], needs_approval=row["needs_approval"]),
        tuple(Rule.model_validate(rule) for rule in row["rules"]),
        Rate(row["rate_uses"], row["rate_seconds"]) if row["rate_uses"] and row["rate_seconds"] else None,
        row["max_uses"],
        row["implicit"],
        row["retries"],
        bool(row["bound"]),
    )

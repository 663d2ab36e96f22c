"""Trusts: which tokens of an issuer are a job's.

Admins make them, and whoever may cut off revokes them.  Only the trusts of the job that a caller names are looked at,
so no two jobs' rules can both fit.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from sqlalchemy import func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.events import BROKER, Actor, Event
from broker.audit.guards import raise_epoch
from broker.audit.record import record
from broker.base import validity
from broker.base.clock import Millis
from broker.base.db import upsert
from broker.base.errors import Conflict, Invalid, NotFound
from broker.base.pruning import PAGE
from broker.base.validity import Validity
from broker.formats import ids
from broker.formats.ids import TrustId
from broker.identity.federation.tables import IssuerRow, TrustRow
from broker.identity.tables import WorkloadRow
from broker.issuers.files import IssuerFile
from broker.issuers.presets.model import Rule
from broker.notifications.notices import notify

# Of one job. Each is looked at for a token of its issuer.
MOST: Final = 50
_NAMES_MOST: Final = 20
_VALUES_MOST: Final = 20


class NoSuchTrust(NotFound):
    """There is none of that id."""

    def __init__(self) -> None:
        super().__init__("There is no such trust; `broker trust list` shows those that are.")


async def create(
    session: AsyncSession,
    actor: Actor,
    workload: WorkloadRow,
    issuer: IssuerFile,
    *,
    claims: Rule,
    networks: Sequence[str],
    expires_at: Millis | None,
    note: str,
    now: Millis,
) -> TrustRow:
    """Trust the tokens of an issuer that say just this to be a job's.

    Raises:
        Invalid: a claim that has to be bound is missing, or a value could never fit. RowAltered.
        Conflict: the job has ended, or has too many trusts.
    """
    workload.vouched_for()
    if workload.state != Validity.ACTIVE:
        raise Conflict("This workload has ended; register a new one with `broker workload add`.")
    _check(issuer, claims)
    if len(await standing(session, workload.id)) == MOST:
        raise Conflict(f"This workload has {MOST} trusts; revoke one that isn't needed any more.")
    if expires_at is not None and expires_at <= now:
        raise Invalid("expires_at: lies in the past; name a later time or leave it out.")
    await era_of(session, issuer)
    row = TrustRow(
        id=ids.new(TrustId),
        workload_id=workload.id,
        issuer=issuer.id,
        claims={name: sorted(set(values)) for name, values in sorted(claims.items())},
        networks=[_network(one) for one in networks],
        expires_at=expires_at,
        note=note,
        state=Validity.ACTIVE,
        created_at=now,
        created_by=actor.id,
        revoked_at=None,
    )
    session.add(row)
    facts = {"issuer": issuer.id, "trust": row.id, "workload": workload.name}
    await notify(session, "trust_made", organization="", provider="", now=now, facts=facts)
    await record(session, Event.about(row, "trust.created", actor, now, note=_told(row.claims)))
    return row


def _check(issuer: IssuerFile, claims: Rule) -> None:
    faults = issuer.kind.faults(claims)
    faults += [f"bind {name}: the issuer's file requires it" for name in issuer.required.claims if not claims.get(name)]
    if len(claims) > _NAMES_MOST or any(len(values) > _VALUES_MOST for values in claims.values()):
        faults.append(f"bind at most {_NAMES_MOST} claims, each to at most {_VALUES_MOST} values")
    if faults:
        raise Invalid("claims: " + "; ".join(faults) + ".")


def _network(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text))
    except ValueError:
        raise Invalid(f"networks: {text!r} is no network; write one such as 203.0.113.0/24.") from None


def _told(claims: Mapping[str, Sequence[str]]) -> str:
    return " ".join(f"{name}={'|'.join(values)}" for name, values in claims.items())[:1_000]


async def era_of(session: AsyncSession, issuer: IssuerFile) -> IssuerRow:
    """An issuer's state; made if there is none."""
    row = await session.get(IssuerRow, issuer.id, with_for_update=True)
    if row is None:  # nor perhaps in a moment: two may make it at once
        values = {"id": issuer.id, "era": ids.new(ids.IssuerEraId), "digest": issuer.digest(), "key_set": ""}
        await session.execute(upsert(session, IssuerRow).values(**values).on_conflict_do_nothing())
        row = await session.get_one(IssuerRow, issuer.id, with_for_update=True)
    return row


async def find(session: AsyncSession, trust_id: TrustId) -> TrustRow:
    """The trust of that id; raises NoSuchTrust."""
    row = await session.get(TrustRow, trust_id)
    if row is None:
        raise NoSuchTrust
    return row


async def revoke(session: AsyncSession, actor: Actor, trust_id: TrustId, *, reason: str, now: Millis) -> TrustRow:
    """End a trust: what was proved by it ends, and no call under it goes on.  Idempotent."""
    row = await find(session, trust_id)
    if validity.revoke(row, now):
        await raise_epoch(session, row.id)
        await record(session, Event.about(row, "trust.revoked", actor, now, note=reason))
    return row


async def suspend(session: AsyncSession, actor: Actor, issuer: IssuerFile, *, reason: str, now: Millis) -> IssuerRow:
    """Have no token of an issuer count: what it proved ends.  Idempotent."""
    row = await era_of(session, issuer)
    if row.suspended_at is None:
        row.suspended_at = now
        await raise_epoch(session, row.era)
        await record(session, Event.about(row, "issuer.suspended", actor, now, note=reason))
    return row


async def resume(session: AsyncSession, actor: Actor, issuer: IssuerFile, *, reason: str, now: Millis) -> IssuerRow:
    """Have an issuer's tokens count again, from a new era on.  Idempotent."""
    row = await era_of(session, issuer)
    if row.suspended_at is not None:
        row.suspended_at, row.era = None, ids.new(ids.IssuerEraId)
        await record(session, Event.about(row, "issuer.resumed", actor, now, note=reason))
    return row


async def refresh(session: AsyncSession, actor: Actor, issuer: IssuerFile, *, now: Millis) -> IssuerRow:
    """Have every broker ask an issuer for its keys again before it takes the next token."""
    row = await era_of(session, issuer)
    row.refreshed_at = now
    await record(session, Event.about(row, "issuer.refreshed", actor, now))
    return row


async def expire(session: AsyncSession, now: Millis) -> bool:
    """End a page of the trusts whose time is over; whether there may be more."""
    query = select(TrustRow).where(TrustRow.state == Validity.ACTIVE, TrustRow.expires_at <= now)
    rows = (await session.scalars(query.order_by(TrustRow.expires_at).limit(PAGE).with_for_update())).all()
    for row in rows:
        validity.revoke(row, now)
    await raise_epoch(session, *(row.id for row in rows))
    for row in rows:
        await record(session, Event.about(row, "trust.expired", BROKER, now))
    return len(rows) == PAGE


async def standing(session: AsyncSession, workload: str) -> Sequence[TrustRow]:
    """The trusts of a job that nobody took back, over or not, in the order of their making."""
    query = select(TrustRow).where(TrustRow.workload_id == workload, TrustRow.state == Validity.ACTIVE)
    return (await session.scalars(query.order_by(TrustRow.id).limit(MOST))).all()


async def of_workload(session: AsyncSession, workload: str, now: Millis) -> Sequence[TrustRow]:
    """The trusts of a job that are in force, in the order in which they were made.

    The genuine ones give rights.
    """
    rows = await standing(session, workload)
    return [row for row in rows if row.expires_at is None or row.expires_at > now]


async def counted(session: AsyncSession, workloads: Collection[str], now: Millis) -> Mapping[str, int]:
    """How many trusts in force each of these jobs has, if it has any."""
    row, in_force = TrustRow, or_(TrustRow.expires_at.is_(None), TrustRow.expires_at > now)
    query = select(row.workload_id, func.count()).where(row.workload_id.in_(workloads), row.state == Validity.ACTIVE)
    found = await session.execute(query.where(in_force).group_by(row.workload_id))
    return dict(found.all())

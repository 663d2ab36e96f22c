"""An exposure's timeline for export: who could use the key when, and every use.

Uses are those since the suspected time.

One JSON value a line, each with a ``type``: ``exposure``, ``could_use``, ``lease``, ``event`` and at the end
``summary``.  It is read from the record, so it shows no more and no less than what was recorded.  What was archived it
doesn't read; a line ``archived`` says so, and a line ``pruned`` where events were pruned by policy.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Row, Select, or_, select
from sqlalchemy.orm import InstrumentedAttribute

from broker.audit import archives, pruned
from broker.audit.search import Filter, Recorded, search
from broker.base.clock import rfc3339
from broker.base.db import Database, Scope
from broker.credentials.tables import CredentialRow, VersionRow
from broker.grants.tables import GrantRow
from broker.identity.tables import WorkloadRow
from broker.incidents.tables import ExposureRow
from broker.leases.tables import LeaseRow
from broker.organizations.tables import OrganizationRow

_PAGE = 500

# Each is one request that was sent with the key: by a job, a check of the broker, or a rotation over the API.
_USES = frozenset({"use.authorized", "credential.probe.authorized", "rotation.call.authorized"})

Line = dict[str, Any]


@dataclass(slots=True)
class _Used:
    """What one actor did with the key."""

    uses: int = 0
    first: int = 0
    last: int = 0
    addresses: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class _Subject:
    """What all lines are about."""

    exposure: ExposureRow
    credential: CredentialRow
    version: VersionRow
    organization: OrganizationRow


async def timeline(db: Database, exposure: ExposureRow) -> AsyncIterator[Line]:
    """The lines of the timeline in order, each kind oldest first.

    They are read in pages and never held whole.
    """
    scope = Scope.of(exposure.organization_id)
    async with db.read(scope) as session:
        about = _Subject(
            exposure,
            await session.get_one(CredentialRow, exposure.credential_id),
            await session.get_one(VersionRow, (exposure.credential_id, exposure.version)),
            await session.get_one(OrganizationRow, exposure.organization_id),
        )
    yield _about(about)
    async for grant, workload in _pages(db, scope, _grants(about), GrantRow.id):
        yield _could_use(about, grant, workload)
    async for (lease,) in _pages(db, scope, _leases(exposure), LeaseRow.id):
        yield _lease(lease)
    used: dict[str, _Used] = {}
    after: int | None = None
    while found := await search(db, scope, _filter(exposure, after), _PAGE):
        for recorded in found:
            if recorded.core.get("version", exposure.version) == exposure.version:
                _count(used, recorded)
                yield _event(recorded)
        after = found[-1].index
    # After the events: a month is known as archived before its first event goes.
    async with db.read(scope) as session:
        elsewhere = await archives.elsewhere(session, exposure.since)
        gone = await pruned.between(session, exposure.since)
    if elsewhere is not None:
        yield {"type": "archived", "months": list(elsewhere.months), "first": elsewhere.first}
    if gone is not None:
        yield {"type": "pruned", "first": gone.first, "end": gone.end}
    yield _summary(used, about.version)


def _grants(about: _Subject) -> Select[GrantRow, WorkloadRow]:
    """The grants under which somebody could have used the key since, and their workloads."""
    exposure, end = about.exposure, about.version.revoked_at or about.version.destroyed_at
    query = (
        select(GrantRow, WorkloadRow)
        .join(WorkloadRow, WorkloadRow.id == GrantRow.workload_id)
        .where(
            GrantRow.provider == exposure.provider,
            or_(GrantRow.label.is_(None), GrantRow.label == about.credential.label),
            or_(GrantRow.revoked_at.is_(None), GrantRow.revoked_at > exposure.since),
            or_(GrantRow.expires_at.is_(None), GrantRow.expires_at > exposure.since),
            or_(WorkloadRow.revoked_at.is_(None), WorkloadRow.revoked_at > exposure.since),
        )
    )
    return query if end is None else query.where(GrantRow.created_at < end)


def _leases(exposure: ExposureRow) -> Select[LeaseRow]:
    """The leases of the key that stood since, and all that showed it.

    A job that was shown the key may have a copy to this day.
    """
    return select(LeaseRow).where(
        LeaseRow.credential_id == exposure.credential_id,
        LeaseRow.version == exposure.version,
        or_(LeaseRow.expires_at > exposure.since, LeaseRow.mode == "reveal"),
    )


async def _pages(
    db: Database, scope: Scope, query: Select[*tuple[Any, ...]], ident: InstrumentedAttribute[str]
) -> AsyncIterator[Row[*tuple[Any, ...]]]:
    """A query's rows by id, which is by age, a page at a time."""
    after = ""
    while True:
        async with db.read(scope) as session:
            found = (await session.execute(query.where(ident > after).order_by(ident).limit(_PAGE))).all()
        for row in found:
            yield row
        if len(found) < _PAGE:
            return
        after = found[-1][0].id


def _filter(exposure: ExposureRow, after: int | None) -> Filter:
    return Filter(credential=exposure.credential_id, since=exposure.since, after=after)


def _about(about: _Subject) -> Line:
    exposure, version = about.exposure, about.version
    return {
        "type": "exposure",
        "id": exposure.id,
        "organization": exposure.organization_id,
        "provider": exposure.provider,
        "label": about.credential.label,
        "credential": exposure.credential_id,
        "version": exposure.version,
        "fingerprint": version.fingerprint,
        "last4": version.last4,
        "found_by": exposure.found_by,
        "where": exposure.found_where,
        "note": exposure.note,
        "suspected_since": rfc3339(exposure.since),
        "reported_at": rfc3339(exposure.reported_at),
        "received_at": rfc3339(version.staged_at),
        "cut_off_at": _when(version.revoked_at or version.destroyed_at),
        "dead_upstream_at": _when(version.confirmed_at),
        "rotation": exposure.rotation_id,
    }


def _could_use(about: _Subject, grant: GrantRow, workload: WorkloadRow) -> Line:
    version = about.version
    ends = [
        grant.revoked_at,
        grant.expires_at,
        workload.revoked_at,
        about.organization.revoked_at,
        version.revoked_at,
        version.destroyed_at,
    ]
    return {
        "type": "could_use",
        "workload": grant.workload_id,
        "name": workload.name,
        "grant": grant.id,
        "modes": grant.modes,
        "from": rfc3339(max(grant.created_at, version.activated_at or version.staged_at)),
        "until": _when(min((end for end in ends if end is not None), default=None)),
    }


def _lease(lease: LeaseRow) -> Line:
    return {
        "type": "lease",
        "lease": lease.id,
        "workload": lease.workload_id,
        "mode": lease.mode,
        "saw_the_key": lease.mode == "reveal",
        "purpose": lease.purpose,
        "from": rfc3339(lease.issued_at),
        "until": rfc3339(lease.ended_at or lease.expires_at),
        "trust": next((one for one in (lease.via or "").split() if one.startswith("trs_")), None),
    }


def _event(recorded: Recorded) -> Line:
    return {
        "type": "event",
        "index": recorded.index,
        "time": rfc3339(recorded.core["time"]),
        "kind": recorded.core["kind"],
        "core": recorded.core,
        "personal": recorded.personal,
    }


def _count(used: dict[str, _Used], recorded: Recorded) -> None:
    if recorded.core["kind"] not in _USES | {"lease.issued"}:
        return
    one = used.setdefault(recorded.core["actor"]["id"], _Used(first=recorded.core["time"]))
    one.uses += recorded.core["kind"] != "lease.issued"
    one.last = recorded.core["time"]
    if address := (recorded.personal or {}).get("address"):
        one.addresses.add(address)


def _summary(used: dict[str, _Used], version: VersionRow) -> Line:
    return {
        "type": "summary",
        "used_by": [
            {
                "actor": actor,
                "uses": one.uses,
                "first": rfc3339(one.first),
                "last": rfc3339(one.last),
                "addresses": sorted(one.addresses),
            }
            for actor, one in sorted(used.items())
        ],
        "dead_upstream_at": _when(version.confirmed_at),
    }


def _when(ms: int | None) -> str | None:
    return None if ms is None else rfc3339(ms)

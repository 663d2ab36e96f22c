"""An exposure's timeline for export: who could have used the key when, and every use since the suspected time.

One JSON value a line, each with a ``type``: ``exposure``, ``could_use``, ``lease``, ``event`` and at the end
``summary``.  It is read from the record, so it shows no more and no less than what was recorded.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import or_, select

from broker.audit.search import Filter, Recorded, search
from broker.base.clock import rfc3339
from broker.base.db import Database, Scope
from broker.credentials.tables import CredentialRow, VersionRow
from broker.grants.tables import GrantRow
from broker.identity.tables import WorkloadRow
from broker.incidents.tables import ExposureRow
from broker.leases.tables import LeaseRow

_PAGE = 500

Line = dict[str, Any]


@dataclass(slots=True)
class _Used:
    """What one actor did with the key."""

    uses: int = 0
    first: int = 0
    last: int = 0
    addresses: set[str] = field(default_factory=set)


async def timeline(db: Database, exposure: ExposureRow) -> AsyncIterator[Line]:
    """The lines of the timeline, in order; events oldest first."""
    scope = Scope.of(exposure.organization_id)
    async with db.read(scope) as session:
        credential = await session.get_one(CredentialRow, exposure.credential_id)
        version = await session.get_one(VersionRow, (exposure.credential_id, exposure.version))
        end = version.revoked_at or version.destroyed_at
        grants = await session.execute(
            select(GrantRow, WorkloadRow.name)
            .join(WorkloadRow, WorkloadRow.id == GrantRow.workload_id)
            .where(
                GrantRow.provider == exposure.provider,
                or_(GrantRow.label.is_(None), GrantRow.label == credential.label),
                or_(GrantRow.revoked_at.is_(None), GrantRow.revoked_at > exposure.since),
                or_(GrantRow.expires_at.is_(None), GrantRow.expires_at > exposure.since),
            )
            .order_by(GrantRow.created_at)
        )
        could = [_could_use(grant, name, version) for grant, name in grants if end is None or grant.created_at < end]
        leases = await session.scalars(
            select(LeaseRow)
            .where(
                LeaseRow.credential_id == exposure.credential_id,
                LeaseRow.version == exposure.version,
                LeaseRow.expires_at > exposure.since,
            )
            .order_by(LeaseRow.issued_at)
        )
        held = [_lease(lease) for lease in leases]
    yield _about(exposure, credential, version)
    for line in (*could, *held):
        yield line
    used: dict[str, _Used] = {}
    after: int | None = None
    while found := await search(db, scope, _filter(exposure, after), _PAGE):
        for recorded in found:
            if recorded.core.get("version", exposure.version) == exposure.version:
                _count(used, recorded)
                yield _event(recorded)
        after = found[-1].index
    yield _summary(used, version)


def _filter(exposure: ExposureRow, after: int | None) -> Filter:
    return Filter(credential=exposure.credential_id, since=exposure.since, after=after)


def _about(exposure: ExposureRow, credential: CredentialRow, version: VersionRow) -> Line:
    return {
        "type": "exposure",
        "id": exposure.id,
        "organization": exposure.organization_id,
        "provider": exposure.provider,
        "label": credential.label,
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


def _could_use(grant: GrantRow, name: str, version: VersionRow) -> Line:
    ends = [end for end in (grant.revoked_at, grant.expires_at, version.revoked_at, version.destroyed_at) if end]
    return {
        "type": "could_use",
        "workload": grant.workload_id,
        "name": name,
        "grant": grant.id,
        "modes": grant.modes,
        "from": rfc3339(max(grant.created_at, version.activated_at or version.staged_at)),
        "until": _when(min(ends) if ends else None),
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
    if recorded.core["kind"] not in {"use.authorized", "lease.issued", "credential.probe.authorized"}:
        return
    one = used.setdefault(recorded.core["actor"]["id"], _Used(first=recorded.core["time"]))
    one.uses += recorded.core["kind"] != "lease.issued"
    one.last = recorded.core["time"]
    if address := recorded.personal.get("address"):
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

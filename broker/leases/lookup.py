"""Everything that decisions about some targets rely on, read in one query.

The answer is one JSON text, whatever the number of targets: rows with their columns by name, bytes in hexadecimal.  So
both databases answer alike, and a driver hands over one value.  On PostgreSQL it comes from a function that a migration
made.  That function narrows row-level security to each target's organization before it reads anything of it, so that
whatever else its text asks for, no other tenant's rows come.  Each row is compared here as well.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import LargeBinary

from broker.base.db import Database, OutOfScope, Table, table
from broker.credentials.tables import CredentialRow, VersionRow
from broker.formats import ids
from broker.formats.ids import OrganizationId
from broker.grants.policy import AccessTarget
from broker.grants.tables import GrantRow
from broker.identity.tables import WorkloadRow
from broker.leases.lookup_sql import QUERY
from broker.organizations.tables import OrganizationRow

Values = Mapping[str, Any]
"""A row that was read without the ORM: its columns by name."""


class Found(NamedTuple):
    """What a target's decision relies on, at one moment.

    A row is None if there is none.  Of credentials it is the one that is there; if it was revoked and none has taken
    its label, the last.  ``versions`` are those whose leases may stand: in use, or retired in favour of a newer one.
    ``epochs`` has those that were ever raised.
    """

    workload: Values | None
    organization: Values | None
    credential: Values | None
    versions: Sequence[Values]
    grants: Sequence[Values]
    epochs: Mapping[str, int]


async def look_up(db: Database, targets: Sequence[AccessTarget]) -> list[Found]:
    """What is there for each target.

    Raises:
        DatabaseUnavailable: not now. Unstorable: a target names what can't be stored.
        OutOfScope: another tenant's row came, which is a defect.
    """
    ((answer,),) = await db.ask(QUERY, json.dumps([_asked(target) for target in targets]))
    found = [_found(each) for each in json.loads(answer)]
    for target, each in zip(targets, found, strict=True):
        _refuse_others(target, each)
    return found


def _asked(target: AccessTarget) -> tuple[str | None, ...]:
    """What has the form of an id is never a slug."""
    reference = target.organization_reference
    named = (reference, None) if ids.is_id(reference, OrganizationId) else (None, reference)
    return (target.workload_id, *named, target.provider, target.label)


def _refuse_others(target: AccessTarget, found: Found) -> None:
    """Refuse rows of another organization, and grants of another job, than were named."""
    job, by_id, by_slug, *_ = _asked(target)
    organization = found.organization
    if organization is not None and organization["id"] != by_id and organization["slug"] != by_slug:
        raise OutOfScope("Another organization was read than the one that was named.")
    tenant = organization["id"] if organization is not None else None
    owned = [*found.versions, *found.grants, *([found.credential] if found.credential else [])]
    if any(row["organization_id"] != tenant for row in owned):
        raise OutOfScope("A row of another tenant was read.")
    if any(row["workload_id"] != job for row in found.grants):
        raise OutOfScope("A grant of another job was read.")


def _found(answer: Values) -> Found:
    return Found(
        _values(answer["workload"]),
        _values(answer["organization"]),
        _values(answer["credential"]),
        [_filled(row) for row in answer["versions"] or ()],
        [_filled(row) for row in answer["grants"] or ()],
        answer["epochs"] or {},
    )


def _values(row: dict[str, Any] | None) -> Values | None:
    return None if row is None else _filled(row)


def _filled(row: dict[str, Any]) -> Values:
    """The row with its bytes as such."""
    for name in _BYTES & row.keys():
        if row[name] is not None:
            row[name] = bytes.fromhex(row[name].removeprefix("\\x"))
    return row


_ROWS: Sequence[type[Table]] = (WorkloadRow, OrganizationRow, CredentialRow, VersionRow, GrantRow)
_BYTES = {column.name for row in _ROWS for column in table(row).columns if isinstance(column.type, LargeBinary)}

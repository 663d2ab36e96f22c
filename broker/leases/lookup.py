"""Everything that decisions about some targets rely on, read in one query.

The answer is one JSON text, whatever the number of targets: rows with their columns by name, bytes in hexadecimal.  So
both databases answer alike, and a driver hands over one value.  On PostgreSQL it comes from a function that a migration
made.  That function narrows row-level security to each target's organization before it reads anything of it, so that
whatever else its text asks for, no other tenant's rows come.  Each row is compared here as well.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import LargeBinary

from broker.base.db import Database, OutOfScope, Table, table
from broker.base.id_column import Id
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

# By the column's name what makes an id of the digits that the database has.
_Makers = Mapping[type[Table], Mapping[str, Callable[[str], str]]]


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
    made = _ID_MAKERS[db.dialect]
    found = [_found(each, made) for each in json.loads(answer)]
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


def _found(answer: Values, ids_of: _Makers) -> Found:
    return Found(
        _one(answer["workload"], ids_of[WorkloadRow]),
        _one(answer["organization"], ids_of[OrganizationRow]),
        _one(answer["credential"], ids_of[CredentialRow]),
        [_filled(row, ids_of[VersionRow]) for row in answer["versions"] or ()],
        [_filled(row, ids_of[GrantRow]) for row in answer["grants"] or ()],
        answer["epochs"] or {},
    )


def _one(row: dict[str, Any] | None, made: Mapping[str, Callable[[str], str]]) -> Values | None:
    return None if row is None else _filled(row, made)


def _filled(row: dict[str, Any], made: Mapping[str, Callable[[str], str]]) -> Values:
    """The row with its bytes as such, and its ids with their prefixes."""
    for name in _BYTES & row.keys():
        if row[name] is not None:
            row[name] = bytes.fromhex(row[name].removeprefix("\\x"))
    for name, make in made.items():
        if row[name] is not None:
            row[name] = make(row[name].replace("-", ""))
    return row


_ROWS: Sequence[type[Table]] = (WorkloadRow, OrganizationRow, CredentialRow, VersionRow, GrantRow)
_BYTES = {column.name for row in _ROWS for column in table(row).columns if isinstance(column.type, LargeBinary)}
_ID_MAKERS: Mapping[str, _Makers] = {
    "postgresql": {
        row: {column.name: column.type.of for column in table(row).columns if isinstance(column.type, Id)}
        for row in _ROWS
    },
    "sqlite": {row: {} for row in _ROWS},
}

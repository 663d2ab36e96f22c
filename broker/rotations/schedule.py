"""Keys whose time has come: new ones are asked for ahead, and people notified of late ones.

Both go through the keys that are due page by page, by when they are.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Literal

import structlog
from sqlalchemy import ColumnElement, String, and_, case, cast, exists, select

from broker.audit.events import BROKER
from broker.base.clock import DAY_MS, Millis
from broker.base.db import EVERY_TENANT, Database, Scope
from broker.base.id_column import IdText
from broker.base.paging import Cut, Filter, found, sheet
from broker.base.validity import Validity
from broker.credentials.age import too_old_at
from broker.credentials.due import declared
from broker.credentials.lifecycle import State
from broker.credentials.moves import UnlawfulMove
from broker.credentials.notices import notify_of
from broker.credentials.rotation import Plan, RotationOpen
from broker.credentials.tables import CredentialRow, RotationRow, VersionRow
from broker.intake import links
from broker.notifications.tables import NoticeRow
from broker.organizations.tables import OrganizationRow
from broker.parts import Parts
from broker.rotations.requests import Asking, Rotating

_log = structlog.get_logger()

_WEEK_MS = 7 * DAY_MS
PAGE = 50


async def _due(db: Database, until: int, *also: ColumnElement[bool]) -> AsyncIterator[CredentialRow]:
    """Credentials of organizations in force whose keys are due, the longest due ones first.

    ``until`` is the time by which they are.
    """
    row, cursor = CredentialRow, ""
    in_force = exists().where(OrganizationRow.id == row.organization_id, OrganizationRow.state == Validity.ACTIVE)
    filters = found(row.due_at <= until), Filter(and_(in_force, *also))
    while True:
        async with db.read(EVERY_TENANT) as session:
            page = await sheet(session, row, filters, Cut(PAGE, cursor), row.due_at, row.id)
        for credential in page.rows:
            yield credential
        if page.next is None:
            return
        cursor = page.next


async def ask_for_due(parts: Parts, rotating: Rotating, *, ahead_days: int, limit: int = 50) -> int:
    """Ask customers for new keys ahead of time, or make them; how many rotations.

    ``ahead_days`` is how long before the present keys are due.

    A key whose rotation ended is not asked for again within a week.
    """
    now, row = parts.clock(), RotationRow
    open_or_lately = exists().where(
        row.credential_id == CredentialRow.id, row.ended_at.is_(None) | (row.ended_at > now - _WEEK_MS)
    )
    known = declared(CredentialRow.provider, parts.catalog)
    asked = 0
    async for credential in _due(parts.db, now + ahead_days * DAY_MS, known, ~open_or_lately):
        try:
            await _ask_for(parts, rotating, credential, now)
        except (RotationOpen, UnlawfulMove):  # somebody was faster
            continue
        except Exception:  # noqa: BLE001 - the others' time has come too
            _log.exception("rotation.not_asked_for", credential=credential.id)
            continue
        asked += 1
        if asked == limit:
            break
    return asked


async def _ask_for(parts: Parts, rotating: Rotating, known: CredentialRow, now: Millis) -> None:
    async with parts.db.write(Scope.of(known.organization_id)) as session:
        credential = await session.get_one(CredentialRow, known.id)
        plan = Plan("automatic", "the key's time has come")
        if rotating.mints(credential):
            await rotating.mint(session, BROKER, credential, plan, now=now)
        else:
            await rotating.ask(session, BROKER, credential, plan, Asking(hours=links.LONGEST_HOURS), now=now)


async def notify_overdue(parts: Parts, limit: int = 500) -> None:
    """Notify people of keys in use that have expired.

    They are notified once when the key has, and again when it reaches its maximum age.
    """
    now, notified = parts.clock(), 0
    async for credential in _due(parts.db, now, _unnotified(now)):
        async with parts.db.write(Scope.of(credential.organization_id)) as session:
            active = select(VersionRow).where(
                VersionRow.credential_id == credential.id, VersionRow.state == State.ACTIVE
            )
            version = await session.scalar(active)
            if version is None:  # it was cut off meanwhile
                continue
            until = too_old_at(credential, version)
            too_old = until is not None and until <= now
            kind = _REFUSED if too_old and credential.on_max_age == "refuse" else _LATE
            await notify_of(
                session,
                kind,
                credential,
                version=version.number,
                now=now,
                dedup=f"{kind}/{credential.id}/{version.number}{_AT_MAXIMUM if too_old else ''}",
                facts={"last4": version.last4, "days": (now - version.staged_at) // DAY_MS},
            )
        notified += 1
        if notified == limit:
            break


_LATE: Literal["key_overdue"] = "key_overdue"
_REFUSED: Literal["key_too_old"] = "key_too_old"
_AT_MAXIMUM = "/max"


def _unnotified(now: Millis) -> ColumnElement[bool]:
    """Whether nobody was notified yet of what the key in use is by now.

    The notices' names are as above.
    """
    row = CredentialRow
    too_old = VersionRow.staged_at + row.max_age_days * DAY_MS <= now
    kind = case((and_(too_old, row.on_max_age == "refuse"), _REFUSED), else_=_LATE)
    name = kind + "/" + IdText(row.id) + "/" + cast(VersionRow.number, String) + case((too_old, _AT_MAXIMUM), else_="")
    theirs = exists().where(NoticeRow.organization_id == row.organization_id, NoticeRow.dedup == name)
    notified = theirs.correlate_except(NoticeRow)  # else about whichever credential was notified
    active = exists().where(VersionRow.credential_id == row.id, VersionRow.state == State.ACTIVE, ~notified)
    return active.correlate_except(VersionRow)

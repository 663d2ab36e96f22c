"""Keys whose time has come: new ones are asked for ahead, and people notified of late ones."""

from __future__ import annotations

import structlog
from sqlalchemy import String, and_, case, cast, select

from broker.audit.events import BROKER
from broker.base.clock import DAY_MS, Millis
from broker.base.db import EVERY_TENANT, Scope
from broker.care import age
from broker.credentials.due import declared
from broker.credentials.moves import UnlawfulMove
from broker.credentials.notices import notify_of
from broker.credentials.rotation import Plan, RotationOpen
from broker.credentials.tables import CredentialRow, RotationRow, VersionRow
from broker.intake import links
from broker.notifications.tables import NoticeRow
from broker.parts import Parts
from broker.rotations.requests import Asking, Rotating

_log = structlog.get_logger()

_WEEK_MS = 7 * DAY_MS


async def ask_for_due(parts: Parts, rotating: Rotating, *, ahead_days: int, limit: int = 50) -> int:
    """Ask customers for new keys ahead of time, or make them; how many rotations.

    ``ahead_days`` is how long before the present keys are due.

    A key whose rotation ended is not asked for again within a week.
    """
    now = parts.clock()
    lately = (
        select(RotationRow.id)
        .where(RotationRow.credential_id == CredentialRow.id, RotationRow.ended_at > now - _WEEK_MS)
        .exists()
    )
    due = age.due_at(parts.catalog) <= now + ahead_days * DAY_MS
    known = declared(CredentialRow.provider, parts.catalog)
    async with parts.db.read(EVERY_TENANT) as session:
        query = age.with_active_keys().where(due, known, age.without_open_rotation(), ~lately)
        found = list(await session.scalars(query.limit(limit)))
    asked = 0
    for credential in found:
        try:
            await _ask_for(parts, rotating, credential, now)
        except (RotationOpen, UnlawfulMove):  # somebody was faster
            continue
        except Exception:  # noqa: BLE001 - the others' time has come too
            _log.exception("rotation.not_asked_for", credential=credential.id)
            continue
        asked += 1
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
    now = parts.clock()
    due, too_old = age.due_at(parts.catalog) <= now, age.too_old_at() <= now
    refused = and_(too_old, CredentialRow.on_max_age == "refuse")
    kind = case((refused, "key_too_old"), else_="key_overdue")
    name = kind + "/" + CredentialRow.id + "/" + cast(VersionRow.number, String) + case((too_old, "/max"), else_="")
    notified = select(NoticeRow.id).where(
        NoticeRow.organization_id == CredentialRow.organization_id, NoticeRow.dedup == name
    )
    async with parts.db.read(EVERY_TENANT) as session:
        query = age.with_active_keys().where(due, ~notified.exists())
        rows = await session.execute(query.with_only_columns(CredentialRow, VersionRow, refused, name).limit(limit))
        found = [(row[0], row[1], row[2], row[3]) for row in rows]
    for credential, version, is_refused, dedup in found:
        async with parts.db.write(Scope.of(credential.organization_id)) as session:
            await notify_of(
                session,
                "key_too_old" if is_refused else "key_overdue",
                credential,
                version=version.number,
                now=now,
                dedup=dedup,
                facts={"last4": version.last4, "days": (now - version.staged_at) // DAY_MS},
            )

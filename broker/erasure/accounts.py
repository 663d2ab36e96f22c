"""Erase a person with an account.

Nobody reads the personal parts of their events any more, and no row names them.
"""

from __future__ import annotations

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit import holds, subjects
from broker.audit.events import Actor, Event
from broker.audit.record import record
from broker.base.clock import Millis
from broker.base.db import Scope
from broker.base.errors import Conflict
from broker.base.validity import Validity
from broker.formats.ids import OperatorId
from broker.identity import accounts
from broker.identity.oidc.tables import IdentityRow, RecheckRow
from broker.identity.tables import AccountRow, DeviceSignInRow, LinkRow, PasskeyRow, SessionRow
from broker.intake.tables import IntakeRow
from broker.notifications.tables import DeliveryRow, NoticeRow


async def erase(
    session: AsyncSession, actor: Actor, scope: Scope, operator_id: OperatorId, *, now: Millis
) -> AccountRow:
    """Erase the person whose account has ended, for good.  Idempotent.

    Their id stays, as a pseudonym.

    Raises:
        NotFound: there is no such account inside ``scope``. RowAltered.
        Conflict: it has not ended. Held: a legal hold keeps everything, or some of it.
    """
    row = await accounts.find(session, scope, operator_id)
    row.vouched_for()
    if row.state != Validity.REVOKED:
        raise Conflict(f"The account is in use; `broker operator revoke {row.id}` comes before erasing its person.")
    await holds.refuse_if_held(session, holds.EVERY)
    instead = pseudonym(row.id)
    places = select(SessionRow.id).where(SessionRow.account_id == row.id)
    await session.execute(delete(DeviceSignInRow).where(DeviceSignInRow.session_id.in_(places)))
    for theirs in (PasskeyRow, SessionRow, LinkRow):
        await session.execute(delete(theirs).where(theirs.account_id == row.id))
    mine = select(IdentityRow.id).where(IdentityRow.account_id == row.id)
    await session.execute(delete(RecheckRow).where(RecheckRow.identity_id.in_(mine)))
    await session.execute(delete(IdentityRow).where(IdentityRow.account_id == row.id))
    await _forget_notices(session, row.name)
    await _forget_requests(session, row, instead)
    row.name = instead
    if await subjects.erase(session, row.id, now):
        await record(session, Event.about(row, "audit.erased", actor, now))
    return row


def pseudonym(account: OperatorId) -> str:
    """What stands in place of an erased person's name."""
    return f"erased-{account[-12:]}"


async def _forget_notices(session: AsyncSession, name: str) -> None:
    """Delete the notices that an account's token ends, as they name it."""
    rows = await session.scalars(select(NoticeRow).where(NoticeRow.kind == "account_ends"))
    named = [row.id for row in rows if row.facts.get("account") == name]
    await session.execute(delete(DeliveryRow).where(DeliveryRow.notice_id.in_(named)))
    await session.execute(delete(NoticeRow).where(NoticeRow.id.in_(named)))


async def _forget_requests(session: AsyncSession, row: AccountRow, instead: str) -> None:
    """Take the name out of requests for keys, which tell customers who asked.

    Another person may have it since.
    """
    theirs = (IntakeRow.created_at >= row.created_at, IntakeRow.created_at <= row.revoked_at)
    named = update(IntakeRow).where(IntakeRow.requested_by == row.name, *theirs)
    await session.execute(named.values(requested_by=instead))

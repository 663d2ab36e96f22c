"""An outage of an upstream is one notice, however many keys meet it while it lasts."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.base.clock import Millis
from broker.credentials.lifecycle import Health
from broker.credentials.tables import VersionRow
from broker.notifications.notices import notify
from broker.notifications.tables import NoticeRow

# If an upstream answers one key and not the next, operators are notified no more often than this.
_APART_MS = 3_600_000


async def notify_outage(session: AsyncSession, row: VersionRow, *, now: Millis) -> None:
    """Notify operators of an outage, unless they know of it already.

    An upstream did not answer about the key of ``row``.

    It is the outage that they know of while no key was answered since.  An outage is everybody's, so its notice
    is no organization's: the ``session`` has to see every tenant, and operators of only some aren't notified.
    """
    notified = await session.scalar(
        select(func.max(NoticeRow.created_at)).where(
            NoticeRow.organization_id == "",
            NoticeRow.kind == "key_unreachable",
            NoticeRow.provider == row.provider,
        )
    )
    if notified is not None:
        answered = select(VersionRow.number).where(
            VersionRow.provider == row.provider, VersionRow.health == Health.HEALTHY, VersionRow.health_at > notified
        )
        if now < notified + _APART_MS or await session.scalar(answered.limit(1)) is None:
            return
    await notify(
        session,
        "key_unreachable",
        organization="",
        provider=row.provider,
        credential=row.credential_id,
        version=row.number,
        now=now,
        # Of several keys that meet it in the same moment, one makes the notice.
        dedup=f"key_unreachable/{row.provider}/{now // _APART_MS}",
        facts={"last4": row.last4},
    )

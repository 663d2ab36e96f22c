"""/v1/notices: what operators were told."""

from __future__ import annotations

from fastapi import APIRouter
from sqlalchemy import select

from broker.notifications.notices import WORDS
from broker.notifications.tables import NoticeRow
from broker.web.api.fields import Cursor, Limit, Page, View, page, when
from broker.web.api.listing import rows_of
from broker.web.session import SECURED, ByAnyone

router = APIRouter(prefix="/v1/notices", tags=["notices"], dependencies=SECURED)


class NoticeView(View):
    """One notice."""

    id: str
    kind: str
    text: str
    organization: str
    provider: str
    credential: str
    version: int
    created_at: str | None


def show(row: NoticeRow) -> NoticeView:
    """The row as answers show it."""
    return NoticeView(
        id=row.id,
        kind=row.kind,
        text=WORDS[row.kind],
        organization=row.organization_id,
        provider=row.provider,
        credential=row.credential_id,
        version=row.version,
        created_at=when(row.created_at),
    )


@router.get("")
async def listed(call: ByAnyone, limit: Limit = 100, cursor: Cursor = "") -> Page[NoticeView]:
    """Notices about the organizations that you see, oldest first."""
    async with call.services.db.read(call.scope) as session:
        rows = await rows_of(session, select(NoticeRow), NoticeRow.id, limit, cursor)
    return page(rows, limit, show, lambda row: row.id)

"""/v1/webhooks: where notices are posted."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from fastapi.responses import Response
from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncSession

from broker.base.errors import Forbidden
from broker.base.paging import by
from broker.formats import ids
from broker.formats.ids import NoId, OrganizationId, WebhookId
from broker.notifications import webhooks
from broker.notifications.lifecycle import WebhookState
from broker.notifications.tables import NoticeRow, WebhookRow
from broker.notifications.webhooks import Endpoint
from broker.notifications.words import Kind
from broker.organizations import commands as organizations
from broker.web.api.fields import Body, Cursor, IdPath, Limit, Page, Reference, View, when
from broker.web.api.forms import Form
from broker.web.api.listing import Order, rows_of, shown
from broker.web.api.names import Names, Slug, slugs_of
from broker.web.callers import ByAnyRole, ByOperatorOrSecurityRole

router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"])


class NewWebhook(Body):
    """Where to post which notices."""

    url: Annotated[
        str,
        Form("^.{8,2000}$", "write an https:// address of 2,000 characters at most, such as https://x.example/keys"),
    ]
    format: Annotated[
        Literal["standard", "slack"], Field(description="Standard Webhooks, signed; or the JSON that Slack takes.")
    ] = "standard"
    organization: Annotated[Reference | None, Field(description="Left out, every organization.")] = None
    kinds: Annotated[tuple[Kind, ...], Field(max_length=50, description="Left out, every kind.")] = ()


class WebhookView(View):
    """A webhook; its address is shown by host and last characters only, as some are secrets."""

    id: str
    organization: str | None
    organization_slug: Slug
    url: str
    format: str
    kinds: list[str]
    state: Annotated[str, Field(description="`active`, `revoked`, or `disabled`: the receiver answered 410.")]
    created_at: str | None
    ended_at: str | None


class WebhookMade(View):
    """A webhook and the secret that verifies its signatures, shown this once."""

    webhook: WebhookView
    secret: str


class Tested(View):
    """What the receiver answered to a test notice."""

    status: Annotated[int | None, Field(description="Left empty if it gave no answer.")]
    reason: Annotated[str | None, Field(description="Why the notice was not taken; empty if it was.")]


def show(row: WebhookRow, slugs: Names) -> WebhookView:
    return WebhookView(
        id=row.id,
        organization=row.organization_id or None,
        organization_slug=slugs[row.organization_id],
        url=row.shown,
        format=row.format,
        kinds=row.kinds,
        state=row.state,
        created_at=when(row.created_at),
        ended_at=when(row.ended_at),
    )


async def _view(session: AsyncSession, row: WebhookRow) -> WebhookView:
    return show(row, await slugs_of(session, [row]))


@router.post("", summary="Add a webhook", status_code=201, response_model=WebhookMade)
async def create(body: NewWebhook, call: ByOperatorOrSecurityRole) -> Response:
    """Post notices to an address, signed; the secret to verify them with is shown this once."""
    wired = call.services
    if body.organization is None and call.scope.organizations is not None:
        raise Forbidden("organization: your account is limited to some organizations; name one of them.")

    async def work(session: AsyncSession) -> WebhookMade:
        organization: OrganizationId | NoId = ""
        if body.organization:
            organization = (await organizations.find(session, body.organization)).id
        wanted = Endpoint(organization, body.url, body.format, body.kinds)
        row, secret = await webhooks.create(
            session, wired.parts.keystore, call.actor, wanted, now=call.now, plain=wired.options.private_webhooks
        )
        return WebhookMade(webhook=await _view(session, row), secret=secret)

    return await call.change(body, work, 201)


@router.get("", summary="List webhooks")
async def listed(
    call: ByAnyRole,
    limit: Limit = 100,
    cursor: Cursor = "",
    state: Annotated[WebhookState | None, Query()] = None,
    order: Order = "oldest",
) -> Page[WebhookView]:
    """Webhooks of the organizations that you see, with the kinds of notices that each takes."""
    row = WebhookRow
    async with call.services.parts.db.read(call.scope) as session:
        found = await rows_of(session, row, [by(row.state, state)], limit, cursor, order, row.id)
        slugs = await slugs_of(session, found.rows)
    return shown(found, lambda row: show(row, slugs))


@router.post("/{webhook_id}/revoke", summary="Revoke a webhook", response_model=WebhookView)
async def revoke(webhook_id: IdPath[WebhookId], call: ByOperatorOrSecurityRole) -> Response:
    """Post nothing to the webhook's address any more."""

    async def work(session: AsyncSession) -> WebhookView:
        return await _view(session, await webhooks.revoke(session, call.actor, webhook_id, now=call.now))

    return await call.change(None, work)


@router.post("/{webhook_id}/rotate-secret", summary="Rotate a webhook's secret", response_model=WebhookMade)
async def rotate_secret(webhook_id: IdPath[WebhookId], call: ByOperatorOrSecurityRole) -> Response:
    """Sign with a new secret; the previous one signs too for a day."""
    wired = call.services

    async def work(session: AsyncSession) -> WebhookMade:
        row, secret = await webhooks.rotate_secret(session, wired.parts.keystore, call.actor, webhook_id, now=call.now)
        return WebhookMade(webhook=await _view(session, row), secret=secret)

    return await call.change(None, work)


@router.post("/{webhook_id}/test", summary="Test a webhook")
async def test(webhook_id: IdPath[WebhookId], call: ByOperatorOrSecurityRole) -> Tested:
    """Post a notice that nothing happened, now; what the receiver answered."""
    async with call.services.parts.db.read(call.scope) as session:
        row = await webhooks.find(session, webhook_id, lock=False)
    nothing = NoticeRow(
        id=ids.new(ids.NoticeId),
        organization_id=row.organization_id,
        kind="test",
        credential_id="",
        version=0,
        provider="",
        contact="",
        dedup="",
        facts={},
        created_at=call.now,
    )
    answer = await call.services.outbox.post(row, nothing)
    return Tested(status=answer.status, reason=answer.refusal or None)

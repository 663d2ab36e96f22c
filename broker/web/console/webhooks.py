"""Webhooks: where notices are posted, and the secrets that verify them, shown once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from fastapi.responses import Response

from broker.formats.ids import WebhookId
from broker.notifications import webhooks as receivers
from broker.notifications.words import WORDS
from broker.web.api import webhooks as api
from broker.web.api.fields import IdPath
from broker.web.api.names import slugs_of
from broker.web.api.webhooks import NewWebhook, Tested, WebhookView
from broker.web.callers import ByAnyRole, ByOperatorOrSecurityRole, Call
from broker.web.console.forms import Form, Sent, once
from broker.web.console.page import Question, Refusal, acted, answered, asked, page, routes
from broker.web.idempotency import told

router = routes()

FORMATS: Final = (("standard", "Standard Webhooks, signed"), ("slack", "what Slack takes"))
KINDS: Final = tuple((kind, words.title) for kind, words in WORDS.items())
Which = IdPath[WebhookId]


@router.get("/settings/webhooks/new")
async def new(call: ByOperatorOrSecurityRole) -> Response:
    """The form of a webhook."""
    return _new(call, Form({}))


def _new(call: Call, given: Form, refusal: Refusal | None = None) -> Response:
    return page(call, "webhook_new.html", given=given, formats=FORMATS, kinds=KINDS, once=once(), refusal=refusal)


@router.post("/settings/webhooks/new")
async def create(call: ByOperatorOrSecurityRole, form: Sent) -> Response:
    """Post notices to an address; the secret is shown this once."""

    async def again(refusal: Refusal) -> Response:
        return _new(call, form, refusal)

    async def work() -> Response:
        return await api.create(form.read(NewWebhook, kinds=list(form.every("kinds"))), form.once(call))

    return await _made(call, work, again)


async def _made(
    call: Call, work: Callable[[], Awaitable[Response]], again: Callable[[Refusal], Awaitable[Response]]
) -> Response:
    """Do what makes a secret, and show it this once."""

    async def show(response: Response) -> Response:
        made = told(response)
        return page(call, "webhook_made.html", view=made["webhook"], secret=made["secret"])

    return await answered(work, show, again)


@router.get("/settings/webhooks/{webhook_id}")
async def one(webhook_id: Which, call: ByAnyRole) -> Response:
    """One webhook."""
    return await _one(call, webhook_id)


async def _one(
    call: Call, webhook_id: WebhookId, refusal: Refusal | None = None, tested: Tested | None = None
) -> Response:
    view = await _view(call, webhook_id)
    return page(call, "webhook.html", view=view, says=dict(KINDS), tested=tested, refusal=refusal)


async def _view(call: Call, webhook_id: WebhookId) -> WebhookView:
    async with call.services.parts.db.read(call.scope) as session:
        row = await receivers.find(session, webhook_id, lock=False)
        return api.show(row, await slugs_of(session, [row]))


@router.post("/settings/webhooks/{webhook_id}/test")
async def test(webhook_id: Which, call: ByOperatorOrSecurityRole) -> Response:
    """Post a notice that nothing happened, and show what the receiver answered."""

    async def again(refusal: Refusal) -> Response:
        return await _one(call, webhook_id, refusal)

    async def show(tested: Tested) -> Response:
        return await _one(call, webhook_id, tested=tested)

    return await answered(lambda: api.test(webhook_id, call), show, again)


@router.get("/settings/webhooks/{webhook_id}/rotate-secret")
async def ask_to_rotate(webhook_id: Which, call: ByOperatorOrSecurityRole) -> Response:
    """What a new secret changes, before it is asked."""
    return await _rotating(call, webhook_id)


async def _rotating(call: Call, webhook_id: WebhookId, refusal: Refusal | None = None) -> Response:
    view = await _view(call, webhook_id)
    says = (
        f"Notices to {view.url} are signed with a new secret, which is shown once.",
        "The previous one signs them, too, for a day. The receiver needs the new one by then.",
    )
    question = Question(
        "Make a new secret?", says, "Make a new secret", _path(webhook_id), reason=False, danger=False, once=once()
    )
    return asked(call, question, refusal)


@router.post("/settings/webhooks/{webhook_id}/rotate-secret")
async def rotate_secret(webhook_id: Which, call: ByOperatorOrSecurityRole, form: Sent) -> Response:
    """Sign with a new secret, which is shown this once."""

    async def again(refusal: Refusal) -> Response:
        return await _rotating(call, webhook_id, refusal)

    return await _made(call, lambda: api.rotate_secret(webhook_id, form.once(call)), again)


@router.get("/settings/webhooks/{webhook_id}/revoke")
async def ask_to_revoke(webhook_id: Which, call: ByOperatorOrSecurityRole) -> Response:
    """What stops with a webhook, before it is asked."""
    return await _revoking(call, webhook_id)


async def _revoking(call: Call, webhook_id: WebhookId, refusal: Refusal | None = None) -> Response:
    view = await _view(call, webhook_id)
    whose = view.organization_slug or "every customer"
    says = (
        f"No notice about {whose} is posted to {view.url} any more.",
        "Whoever reads them there isn't told. It can't be taken into use again; a new webhook can be added.",
    )
    question = Question("Revoke this webhook?", says, "Revoke the webhook", _path(webhook_id), reason=False)
    return asked(call, question, refusal)


@router.post("/settings/webhooks/{webhook_id}/revoke")
async def revoke(webhook_id: Which, call: ByOperatorOrSecurityRole) -> Response:
    """Post nothing there any more."""

    async def again(refusal: Refusal) -> Response:
        return await _revoking(call, webhook_id, refusal)

    return await acted(lambda: api.revoke(webhook_id, call), _path(webhook_id), again)


def _path(webhook_id: WebhookId) -> str:
    return f"/console/settings/webhooks/{webhook_id}"

"""/v1/sign-in-providers: what people sign in by, and whether it answers."""

from __future__ import annotations

from fastapi import APIRouter

from broker.identity.oidc.client import Client
from broker.web.api.fields import Cursor, Limit, Page, View, after, page, when
from broker.web.callers import ByAnyRole

router = APIRouter(prefix="/v1", tags=["operators"])


class SignInProviderView(View):
    """An identity provider, and what the process that answers has heard of it.

    ``keys_at`` is when its keys came last, and ``failing_since`` when it began to give no usable answer.
    """

    id: str
    title: str
    issuer: str
    keys_at: str | None
    failing_since: str | None


@router.get("/sign-in-providers", summary="List the identity providers that people sign in by")
async def listed(call: ByAnyRole, limit: Limit = 100, cursor: Cursor = "") -> Page[SignInProviderView]:
    """Those of `BROKER_SIGN_IN_FILE`, by id.  Nobody is asked: a provider is when somebody signs in by it."""
    clients = sorted(call.services.sign_in.clients.values(), key=_id)
    return page([one for one in clients if _id(one) > after(cursor)], limit, _view, _id)


def _id(client: Client) -> str:
    return client.provider.id


def _view(client: Client) -> SignInProviderView:
    provider, heard = client.provider, client.issuer.heard
    return SignInProviderView(
        id=provider.id,
        title=provider.title,
        issuer=provider.issuer,
        keys_at=when(heard.at),
        failing_since=when(heard.failing_since),
    )

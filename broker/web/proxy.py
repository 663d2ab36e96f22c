"""/proxy/{organization}/{provider}/{path}: a job's call through the broker."""

from __future__ import annotations

from contextlib import AsyncExitStack

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from broker.audit.events import Actor
from broker.proxy.call import Request as Forward
from broker.web.session import Services, Wired, address, bearer

router = APIRouter(tags=["proxy"])

_PREFIX_SEGMENTS = 4  # "", "proxy", organization, provider


@router.api_route(
    "/proxy/{organization}/{provider}/{path:path}",
    methods=["GET", "POST", "PATCH", "DELETE"],
    include_in_schema=False,
)
async def forward(organization: str, provider: str, request: Request, wired: Wired) -> StreamingResponse:
    """Forward a call under a lease: ``Authorization: Bearer <lease token>``; the key is put in on the way."""
    raw = bytes(request.scope.get("raw_path") or b"").partition(b"?")[0]
    call = Forward(
        organization=organization,
        provider=provider,
        method=request.method,
        raw_path=b"/" + b"/".join(raw.split(b"/")[_PREFIX_SEGMENTS:]),
        raw_query=request.scope["query_string"].decode("ascii", "replace"),
        headers=[(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers.raw],
        body=await request.body(),
    )
    actor = Actor("stranger", "unverified", address=address(request), agent=request.headers.get("user-agent", ""))
    return await _stream(wired, bearer(request), actor, call)


async def _stream(wired: Services, token: str, actor: Actor, call: Forward) -> StreamingResponse:
    """Enter the call for the status and headers; the response leaves it, whether or not the job still listens."""
    stack = AsyncExitStack()
    answer = await stack.enter_async_context(wired.proxy.call(token, actor, call))
    response = _Forwarded(answer.body, answer.status)
    response.stack = stack
    response.raw_headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers]
    return response


class _Forwarded(StreamingResponse):
    stack: AsyncExitStack

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self.stack:
            await super().__call__(scope, receive, send)

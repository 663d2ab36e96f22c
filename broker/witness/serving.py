"""A witness over HTTP: ``POST /add-checkpoint``, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.types import Receive, Scope, Send

from broker.formats.witness_request import BYTES_MOST, SIZE_MEDIA_TYPE
from broker.witness.witness import NotCosigned, Witness

_TEXT = "text/plain; charset=utf-8"


class Served:
    """The ASGI application of a witness."""

    def __init__(self, witness: Witness) -> None:
        self._witness = witness

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        assert scope["type"] == "http"
        if scope["path"] != "/add-checkpoint":
            await _answer(send, 404, b"A witness has /add-checkpoint alone.\n")
        elif scope["method"] != "POST":
            await _answer(send, 405, b"POST a checkpoint here.\n", more=[(b"allow", b"POST")])
        elif (body := await _body(receive)) is None:
            await _answer(send, 413, b"%d bytes are taken at most.\n" % BYTES_MOST)
        else:
            await self._add(body, send)

    async def _add(self, body: bytes, send: Send) -> None:
        try:
            line = await self._witness.add(body)
        except NotCosigned as refused:
            if refused.size is not None:
                await _answer(send, refused.status, b"%d\n" % refused.size, SIZE_MEDIA_TYPE)
            else:
                await _answer(send, refused.status, f"{refused}\n".encode())
        else:
            await _answer(send, 200, line.text().encode())


async def _body(receive: Receive) -> bytes | None:
    """A request's body; None if it is too large, or if who sent it left."""
    body = bytearray()
    while len(body) <= BYTES_MOST:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if not message.get("more_body", False):
            break
    return bytes(body) if len(body) <= BYTES_MOST else None


async def _answer(
    send: Send, status: int, body: bytes, media_type: str = _TEXT, *, more: Sequence[tuple[bytes, bytes]] = ()
) -> None:
    headers = [
        (b"content-type", media_type.encode()),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
        *more,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})

"""/proxy/{organization}/{provider}/{path}: a job's call to an upstream, streamed both ways."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any

from starlette.types import Message, Receive, Scope, Send

from broker.base.errors import BrokerError, Invalid, NotFound, Unauthenticated
from broker.formats.ids import Reference
from broker.identity.dpop.proof import NonceNeeded
from broker.providers.catalog import UnknownProvider
from broker.proxy.request_headers import Headers
from broker.proxy.use import METHODS, Body, LeaseToken, ProxiedCall, Tries, WorkloadCaller
from broker.web import access_tokens
from broker.web.api.fields import header_note
from broker.web.errors import render
from broker.web.middleware import ESTABLISHED, NONCE
from broker.web.services import Services

ROUTE = "/proxy/{organization}/{provider}/{path}"
_PREFIX_SEGMENTS = 4  # "", "proxy", organization, provider
# If a call has ended sooner, cancelling it saves nothing; to watch for it would cost each call of a busy broker a task.
_NOTICED_AFTER_S = 0.2
# Statuses of the broker's own problems, and of the parts that it relies on. An upstream's problems are 502 and 504.
_OWN_FAULTS = frozenset({500, 503})
# How often the job's call was sent: an answer to a second try may tell of the first (RFC 9110 §9.2.2).
_TRIES = "X-Broker-Tries"
_QUERY_MAX = 16_384
_VISIBLE = re.compile(rb"[!-~]*")
_LABEL = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


class MethodNotForwarded(BrokerError):
    """The method is TRACE, CONNECT or invented, so it goes no further."""

    status = 405
    code = "method_not_allowed"
    title = "Method Not Allowed"


class Forwarding:
    """The proxy, an ASGI application of its own.

    Nothing between the sockets may hold a body back.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._young = _Young()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        scope["direct"] = ROUTE
        headers = _headers(scope)
        given = {name.lower(): value for name, value in headers}
        job = _JobSide(receive, _declared(given))
        tries = Tries()
        reply = _Reply(send, tries)
        self._young.add(job)
        try:
            call = await self._understood(scope, headers, given, job, tries)
            scope[ESTABLISHED] = True
            await self._services.proxy.call(call, reply)
            await reply.end()
        except asyncio.CancelledError:
            if not job.left:
                raise
            _this_task().uncancel()
            scope["job_left"] = True
        except Exception as error:
            if isinstance(error, Unauthenticated):
                scope[ESTABLISHED] = isinstance(error, NonceNeeded)
            if reply.started:
                raise  # it is too late for a problem, so the connection is broken off instead of ended well
            problem = await render(error)
            if problem.status_code in _OWN_FAULTS:
                self._services.metrics.proxy_faults.inc()
            if tries.count:
                problem.headers[_TRIES] = str(tries.count)
            await problem(scope, receive, send)
        finally:
            job.stop_watching()

    async def _understood(
        self, scope: Scope, headers: Headers, given: Mapping[str, str], job: _JobSide, tries: Tries
    ) -> ProxiedCall:
        if scope["method"] not in METHODS:
            raise MethodNotForwarded(f"The proxy forwards {', '.join(sorted(METHODS))}.")
        segments = bytes(scope.get("raw_path") or b"").decode("latin-1").partition("?")[0].split("/", _PREFIX_SEGMENTS)
        if len(segments) < _PREFIX_SEGMENTS:
            raise NotFound("The address is /proxy/ORGANIZATION/PROVIDER/PATH.")
        organization, provider = segments[2:_PREFIX_SEGMENTS]
        # call (2) one value for what is asked, and by whom
        return ProxiedCall(
            address=scope["client"][0],
            agent=given.get("user-agent", ""),
            organization=Reference(organization),
            provider=provider,
            method=scope["method"],
            path="".join(f"/{rest}" for rest in segments[_PREFIX_SEGMENTS:]),
            raw_query=_query(scope),
            headers=headers,
            body=Body(job.declared, job.chunks()),
            proxy_url=f"{self._services.options.public_url}/proxy/{organization}/{provider}",
            id=scope["request_id"],
            once="x-broker-retry" in given and _once(headers),
            tries=tries,
            caller=await self._caller(scope, given, provider),
        )

    async def _caller(self, scope: Scope, given: Mapping[str, str], provider: str) -> LeaseToken | WorkloadCaller:
        """The job whose access token came, or what came for a lease's token; refuses a stranger."""
        if "dpop" in given:
            scope[NONCE] = self._services.proofs.nonces.current()
        scheme, _, value = given.get("authorization", "").partition(" ")
        token = value.strip() if scheme.lower() in access_tokens.SCHEMES else ""
        if not token:
            scheme, token = "", self._in_the_keys_place(given, provider)
        if token.count(".") != 2:  # not a JWT
            return LeaseToken(token)
        presented = access_tokens.Presented(scheme.lower(), token)
        workload, proof = await access_tokens.verified(scope, presented, self._services)
        label = given.get("x-broker-label", "default")
        if not _LABEL.fullmatch(label):
            raise Invalid("X-Broker-Label: is not a credential's label.")
        purpose = header_note(given.get("x-broker-purpose", ""), "X-Broker-Purpose")
        return WorkloadCaller(workload, label, purpose, proof)

    def _in_the_keys_place(self, given: Mapping[str, str], provider: str) -> str:
        """The lease token where a client of the upstream would put the key; raises Unauthenticated."""
        where = ""
        try:
            auth = self._services.parts.catalog.get(provider).auth
        except UnknownProvider:
            pass
        else:
            where = f", or the lease's token in {auth.header}" if auth.header else ""
            if token := auth.carried(given.get(auth.header.lower(), "")) if auth.header else "":
                return token
        raise Unauthenticated(f"Send `Authorization: Bearer TOKEN` with a lease's token{where}.")


def _headers(scope: Scope) -> Headers:
    """The headers, with names as they were sent if the server tells that.

    ASGI itself has names in lower case.  Values are decoded as the upstream's client encodes them.  If one isn't UTF-8,
    that client refuses what comes out.
    """
    sent: Iterable[tuple[bytes, bytes]] = _extensions(scope).get("keybroker.headers", scope["headers"])
    return [(name.decode("ascii"), value.decode("utf-8", "surrogateescape")) for name, value in sent]


def _query(scope: Scope) -> str | None:
    """The query as it was sent; None if there is no ``?``.

    ASGI itself has an empty query for both: the server may tell more.

    Raises:
        Invalid: too long, or of bytes that a URL may not hold (RFC 3986 §3.4).
    """
    query = bytes(scope["query_string"])
    if len(query) > _QUERY_MAX:
        raise Invalid(f"The query has {len(query)} bytes; at most {_QUERY_MAX} are forwarded. Send less.")
    if not _VISIBLE.fullmatch(query):
        raise Invalid("The query holds bytes that a URL may not hold; percent-encode them.")
    if query:
        return query.decode("ascii")
    return "" if b"?" in _extensions(scope).get("keybroker.target", b"") else None


def _extensions(scope: Scope) -> Mapping[str, Any]:
    """What the server tells beyond ASGI: the headers and the target, both as they were sent."""
    return scope.get("extensions") or {}


def _once(headers: Headers) -> bool:
    """Whether the job wants its call sent once at most; raises Invalid."""
    wanted = {value.strip().lower() for name, value in headers if name.lower() == "x-broker-retry"}
    if not wanted <= {"on", "off"}:
        raise Invalid("X-Broker-Retry: is on or off; off sends the call once at most.")
    return "off" in wanted


def _declared(given: Mapping[str, str]) -> int | None:
    """What the framing says of the body's length: None if it comes in chunks (RFC 9112 §6.3)."""
    if "transfer-encoding" in given:
        return None
    length = given.get("content-length", "0")
    return int(length) if length.isdecimal() else None


def _this_task() -> asyncio.Task[None]:
    task = asyncio.current_task()
    assert task is not None
    return task


class _JobSide:
    """The job's end of the connection: the body as it comes, and whether the job is still there."""

    def __init__(self, receive: Receive, declared: int | None) -> None:
        self._receive = receive
        self._read: asyncio.Event | None = None  # once the body is, if somebody waits for that
        self._whole = declared == 0
        self._over = False
        self._task = _this_task()
        self._watching: asyncio.Task[None] | None = None
        self.declared = declared
        self.left = False

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body; the call is cancelled if the job leaves within it."""
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self._leave()
                await asyncio.sleep(0)  # if the call itself is reading, it ends here
                raise ConnectionResetError("the job left")
            if chunk := message.get("body", b""):
                yield chunk
            more = message.get("more_body", False)
        self._whole = True
        if self._read is not None:
            self._read.set()

    def watch(self) -> None:
        """From now on, cancel the call when the job leaves."""
        if not self._over:
            self._watching = asyncio.create_task(self._leaves())

    def stop_watching(self) -> None:
        """Note that the call has ended, so that the job's leaving cancels nothing."""
        self._over = True
        if self._watching is not None:
            self._watching.cancel()

    async def _leaves(self) -> None:
        if not self._whole:
            self._read = asyncio.Event()
            await self._read.wait()
        message: Message = {"type": "http.request"}
        while message["type"] != "http.disconnect":
            message = await self._receive()
        self._leave()

    def _leave(self) -> None:
        self.left = True
        self._task.cancel()


class _Young:
    """Calls that have just begun.

    The job of one that still runs after a while is watched from then on.  One timer does for all.
    """

    def __init__(self) -> None:
        self._jobs: deque[tuple[float, _JobSide]] = deque()

    def add(self, job: _JobSide) -> None:
        loop = asyncio.get_running_loop()
        if not self._jobs:
            loop.call_later(_NOTICED_AFTER_S, self._watch, loop)
        self._jobs.append((loop.time() + _NOTICED_AFTER_S, job))

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        while self._jobs and self._jobs[0][0] <= now:
            self._jobs.popleft()[1].watch()
        if self._jobs:
            loop.call_at(self._jobs[0][0], self._watch, loop)


class _Reply:
    """The answer to the job, sent by ASGI."""

    def __init__(self, send: Send, tries: Tries) -> None:
        self._send = send
        self._tries = tries
        self.started = False
        self._left = -1
        self._ended = False

    async def start(self, status: int, headers: Sequence[tuple[str, str]]) -> None:
        raw = [(name.lower().encode("ascii"), value.encode("utf-8", "surrogateescape")) for name, value in headers]
        told = dict(raw)
        if told.get(b"content-type", b"").startswith(b"text/event-stream"):
            raw.append((b"x-accel-buffering", b"no"))  # nginx before the broker would hold events back
        raw.append((b"x-broker-tries", b"%d" % self._tries.count))
        self.started = True
        length = told.get(b"content-length", b"")
        self._left = int(length) if length.isdigit() else -1
        await self._send({"type": "http.response.start", "status": status, "headers": raw})

    async def write(self, chunk: bytes) -> None:
        self._left -= len(chunk)
        self._ended = self._left == 0
        await self._send({"type": "http.response.body", "body": chunk, "more_body": not self._ended})

    async def end(self) -> None:
        if not self._ended:
            await self._send({"type": "http.response.body", "body": b""})

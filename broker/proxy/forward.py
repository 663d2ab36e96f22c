"""One try of a call.

The key is opened, injected and sent, the answer masked, the outcome recorded.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog

from broker.audit.log import Write
from broker.audit.quota import cooldown_statement
from broker.base.errors import BrokerError, Unavailable
from broker.base.outbound import Unreachable, Untrusted
from broker.care.health import SUSPECT, suspicion
from broker.credentials.cooldown import cooldown_id
from broker.leases.opening import Opening
from broker.parts import Parts
from broker.providers.retry_after import asked_of, pause_of
from broker.proxy.in_flight import InFlightCall
from broker.proxy.redact import Redactor
from broker.proxy.request_headers import Headers, request_headers, target
from broker.proxy.response_headers import Addresses, request_id, response_headers
from broker.proxy.use import COMPLETE_USE, ProxiedCall, Use, completed, given_back
from broker.proxy.wide import WideText, is_declared
from broker.wire.client import Answer as Received
from broker.wire.client import BrokenOff, Unreadable

_log = structlog.get_logger()

_WIDE = "UTF-16 or the like"


class UpstreamUnreachable(Unavailable):
    """No answer came from upstream."""

    status = 502
    code = "upstream_unreachable"
    title = "The upstream gave no answer"


class UpstreamUntrusted(Unavailable):
    """Nothing was sent, as nobody who is trusted vouches for the upstream."""

    status = 502
    code = "upstream_unreachable"
    title = "The upstream is not trusted"


class UpstreamUnreadable(Unavailable):
    """An answer came that can't be read.

    The call may have been carried out, so it is never made again.
    """

    status = 502
    code = "upstream_unreadable"
    title = "The upstream's answer can't be read"


class UpstreamEncoding(Unavailable):
    """The answer is in a form in which an echoed key could not be seen."""

    status = 502
    code = "upstream_encoding"
    title = "The upstream's answer can't be handed on"


@dataclass(frozen=True, slots=True)
class Answer:
    """The upstream's answer on its way back.

    ``asked`` is the seconds for which it wants no more calls, and None if the answer isn't about its rate.
    ``bad_key`` says that it is the answer to a key that the upstream refuses.
    """

    status: int
    headers: Headers
    body: AsyncIterator[bytes]
    asked: float | None
    bad_key: bool


class Forwarder:
    """Uses keys whose use is on the record."""

    def __init__(self, parts: Parts, opening: Opening) -> None:
        self._audit, self._outbound, self._clock = parts.audit, parts.outbound, parts.clock
        self._opening = opening

    @asynccontextmanager
    async def forwarded(
        self, in_flight: InFlightCall, use: Use, call: ProxiedCall, small: bytes | None
    ) -> AsyncIterator[Answer]:
        """One try: the key is opened, injected and sent.

        The outcome is recorded when the context closes.
        """
        try:
            # call (10) the key, whose use is on the record by now
            key = await self._opening.open(use.key, in_flight.lease.target)
            use.opened = True
            placement = use.definition.place(key)
            base = use.definition.url(use.key.variables)
            headers = request_headers(call.headers, use.definition.required_headers.items(), placement)
            if small is None and call.body.length is not None:
                headers.append(("Content-Length", str(call.body.length)))
            use.sent = len(small or b"")
            await in_flight.gate()
            # call (12) to the upstream
            call.tries.count += 1
            async with self._outbound.call(
                call.method,
                target(base, call.path, call.raw_query, placement),
                headers=headers,
                body=_metered(call.body.chunks, in_flight, use) if small is None else small or None,
                private=use.definition.host.private,
                tls=use.definition.host.tls,
                streamed=True,
            ) as response:
                addresses = Addresses(base, call.proxy_url, base + call.path)
                yield await self._handed_back(response, key.reveal(), addresses, in_flight, use)
        except (Unreachable, Unreadable) as error:
            raise _failed(error, in_flight, use) from None
        except BrokerError as error:
            use.reason = error.code
            raise
        except BaseException:  # cancelled: by a cut, or because the job left
            use.reason = in_flight.over.code if in_flight.over else "cut_short"
            raise
        finally:
            self._complete(use)

    async def _handed_back(
        self, response: Received, key: bytes, addresses: Addresses, in_flight: InFlightCall, use: Use
    ) -> Answer:
        """What the job gets of an answer: it is masked.

        If an echoed key could not be seen in it, the job gets nothing of it.
        """
        redactor = Redactor(key)
        masked = redactor.headers(response.headers.items())
        self._note(use, response, masked)
        if not response.bodiless and (response.coded or is_declared(response.headers.items())):
            raise _unseen(use, "an encoding that was not asked for" if response.coded else _WIDE)
        passing = _passing(response, redactor, WideText(key), in_flight, use)
        if not response.bodiless and response.headers.get("Content-Length", "0") != "0":
            passing = _again(await _first(passing), passing)  # the body is there, and may be withheld whole
        returned = response_headers(masked, addresses, response.status)
        return Answer(response.status, returned, passing, use.asked, use.refused)

    def _note(self, use: Use, response: Received, masked: Headers) -> None:
        use.status = response.status
        use.upstream_id = request_id(masked)
        said = (use.definition.retry, response.status, response.headers, self._clock())
        use.asked, use.pause = asked_of(*said), pause_of(*said)

    def _complete(self, use: Use) -> None:
        """Put the outcome on the record, and what it means for the key.

        The job doesn't wait for it.
        """
        # call (16) what came of it
        now = self._clock()
        event = completed(use.authorized, now, reason=use.reason, outcome=use.outcome())
        writes: list[Write] = [(COMPLETE_USE, {"use": event.use, "at": now, "answer": use.status})]
        if not use.opened:
            writes += given_back(use.taken)
        if use.pause:
            until = now + int(use.pause * 1000)
            pause = cooldown_statement(self._audit.dialect)
            writes.append((pause, {"quota": cooldown_id(use.key.credential), "number": until}))
        if use.refused:
            writes.append((SUSPECT, suspicion(use.key.credential, use.key.number, now)))
        if not self._audit.post(event, writes):
            # The use itself is on the record; the worker closes it as unknown.
            _log.warning("use.outcome_not_recorded", use=event.use)


async def _metered(chunks: AsyncIterator[bytes], in_flight: InFlightCall, use: Use) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        use.sent += len(chunk)
        in_flight.passed(use.sent)
        await in_flight.gate()
        yield chunk


async def _passing(
    response: Received, redactor: Redactor, wide: WideText, in_flight: InFlightCall, use: Use
) -> AsyncIterator[bytes]:
    async for chunk in response.chunks():
        use.received += len(chunk)
        in_flight.passed(use.received)
        if wide.seen(chunk):
            raise _unseen(use, _WIDE)
        for number, masked in enumerate(redactor.parts(chunk)):
            if number:
                await asyncio.sleep(0)
            await in_flight.gate()
            if masked:
                yield masked
    if rest := redactor.flush():
        await in_flight.gate()
        yield rest
    if redactor.found:
        use.reason = "key_echoed"


async def _first(passing: AsyncIterator[bytes]) -> bytes | Exception:
    """The first part of a body, or how it broke off.

    Once an answer has begun, that is not "no answer".
    """
    try:
        return await anext(passing, b"")
    except (Unreadable, OSError) as broken:
        return broken


async def _again(first: bytes | Exception, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    if isinstance(first, Exception):
        raise first
    if first:
        yield first
    async for chunk in rest:
        yield chunk


def _unseen(use: Use, form: str) -> UpstreamEncoding:
    return UpstreamEncoding(
        f"{use.definition.title} answered in {form}, in which an echoed key could not be seen; the answer was withheld."
    )


def _failed(error: Unreachable | Unreadable, in_flight: InFlightCall, use: Use) -> BrokerError:
    """What the job is told if no answer came, or none that can be read.

    The use's reason is set.
    """
    title = use.definition.title
    use.reason = _reason(error)
    if isinstance(error, Untrusted):
        return UpstreamUntrusted(
            f"{title}'s certificate is not trusted: {error}. Where a private authority vouches for it, an operator "
            "has to name that in the provider file (host.ca_file).",
            cause="certificate",
        )
    if in_flight.over is not None:
        return in_flight.over
    if isinstance(error, Unreachable):
        return UpstreamUnreachable(f"{title} gave no answer ({error}); try again.")
    return UpstreamUnreadable(
        f"{title} answered, and its answer can't be read ({error}); look whether the call was carried out."
    )


def _reason(error: Unreachable | Unreadable) -> str:
    if isinstance(error, Untrusted):
        return "untrusted"
    return "unreachable" if isinstance(error, Unreachable | BrokenOff) else UpstreamUnreadable.code

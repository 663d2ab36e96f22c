"""An answer's body on its way to the job: masked, part by part."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from broker.base.errors import Unavailable
from broker.proxy.in_flight import InFlightCall
from broker.proxy.redact import Redactor
from broker.proxy.request_headers import Headers
from broker.proxy.use import Use
from broker.proxy.wide import WideText, is_declared
from broker.wire.client import Answer, Unreadable

_WIDE = "UTF-16 or the like"


class UpstreamEncoding(Unavailable):
    """The answer is in a form in which an echoed key could not be seen."""

    status = 502
    code = "upstream_encoding"
    title = "The upstream's answer can't be handed on"


class Passing:
    """The answer to one try, and what of it the job may have."""

    def __init__(self, response: Answer, key: bytes, in_flight: InFlightCall, use: Use) -> None:
        self._response, self._in_flight, self._use = response, in_flight, use
        self._redactor, self._wide = Redactor(key), WideText(key)
        self._parts: Iterator[bytes] = iter(())  # of what has come
        self._over = False

    def headers(self) -> Headers:
        """The answer's headers, masked."""
        return self._redactor.headers(self._response.headers.items())

    async def first(self) -> bytes | Exception | None:
        """The first part of a body whose length is known, or how it broke off.

        None if nothing is waited for.  So it is there before the answer is begun, and may be withheld whole.  But once
        an answer has come, that it broke off is not "no answer".

        Raises:
            UpstreamEncoding: an echoed key could not be seen in it, so the job gets nothing of it.
        """
        response = self._response
        if response.bodiless:
            return None
        if response.coded or is_declared(response.headers.items()):
            raise self._unseen("an encoding that was not asked for" if response.coded else _WIDE)
        if response.headers.get("Content-Length", "0") == "0":
            return None
        try:
            return await self.part()
        except (Unreadable, OSError) as broken:
            return broken

    async def part(self) -> bytes | None:
        """The next part; None at the end.

        Raises:
            BrokerError: the call was cut, or carries too much; or the answer is withheld from here on.
            BrokenOff, Unreadable: as the answer.
        """
        while not self._over:
            masked = next(self._parts, None)
            if masked is not None:
                await asyncio.sleep(0)
            else:
                masked = await self._next_chunk()
            await self._in_flight.gate()
            if masked:
                return masked
        return None

    async def _next_chunk(self) -> bytes:
        """The first part of the next chunk; of the end, what was held back."""
        chunk = await self._response.part()
        if chunk is None:
            self._over = True
            rest = self._redactor.flush()
            if self._redactor.found:
                self._use.reason = "key_echoed"
            return rest
        self._use.received += len(chunk)
        self._in_flight.passed(self._use.received)
        if self._wide.seen(chunk):
            raise self._unseen(_WIDE)
        self._parts = self._redactor.parts(chunk)
        return next(self._parts)

    def _unseen(self, form: str) -> UpstreamEncoding:
        return UpstreamEncoding(
            f"{self._use.definition.title} answered in {form}, in which an echoed key could not be seen; "
            "the answer was withheld."
        )

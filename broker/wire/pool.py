"""Connections that are kept for the next exchange with the same origin."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import monotonic
from typing import Final

from broker.wire.client import Exchange

# Less than servers keep them: one that is closed just as a request is sent would leave it unanswered.
_KEPT_S: Final = 15.0
_MARGIN_S: Final = 1.0  # if the server says how long
_KEPT_EACH: Final = 256


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a connection leads.

    ``tls`` is None for plain HTTP; the name that TLS checks is ``host``.  ``private`` says that the address needn't be
    public.
    """

    host: str
    port: int
    tls: ssl.SSLContext | None
    private: bool


class Pool:
    """Connections at rest, by origin.

    ``dial`` makes a connection to an origin.  One is kept for ``kept_seconds`` at most.
    """

    def __init__(self, dial: Callable[[Origin], Awaitable[Exchange]], *, kept_seconds: float = _KEPT_S) -> None:
        self._dial = dial
        self._kept_seconds = kept_seconds
        self._resting: dict[Origin, list[Exchange]] = {}
        self._sweeping: asyncio.TimerHandle | None = None
        self._closed = False

    async def take(self, origin: Origin) -> Exchange:
        """A connection for one exchange, to be given back; raises what dialling raises."""
        resting = self._resting.get(origin)
        while resting:
            exchange = resting.pop()  # the one that rested last: the others may end
            if not exchange.closed and monotonic() < exchange.rests_until:
                return exchange
            exchange.close()
        return await self._dial(origin)

    def give_back(self, origin: Origin, exchange: Exchange) -> None:
        """Keep the connection for the next exchange if it is sound, else end it."""
        kept = min(self._kept_seconds, exchange.kept_by_upstream - _MARGIN_S)
        resting = self._resting.setdefault(origin, [])
        if self._closed or not exchange.reusable or kept <= 0 or len(resting) >= _KEPT_EACH:
            exchange.close()
            return
        exchange.rest(monotonic() + kept)
        resting.append(exchange)
        if self._sweeping is None:
            self._sweeping = asyncio.get_running_loop().call_later(self._kept_seconds, self._sweep)

    def _sweep(self) -> None:
        """End what nobody took in its time.

        After many calls at once, most connections are never taken again.
        """
        now, self._sweeping = monotonic(), None
        for origin, resting in list(self._resting.items()):
            sound = [exchange for exchange in resting if not exchange.closed and now < exchange.rests_until]
            for exchange in set(resting).difference(sound):
                exchange.close()
            self._resting[origin] = sound
            if not sound:
                del self._resting[origin]
        if self._resting:
            self._sweeping = asyncio.get_running_loop().call_later(self._kept_seconds, self._sweep)

    def close(self) -> None:
        """End the connections at rest.  One that is in use ends when it is given back."""
        self._closed = True
        if self._sweeping is not None:
            self._sweeping.cancel()
        for resting in self._resting.values():
            for exchange in resting:
                exchange.close()
        self._resting.clear()

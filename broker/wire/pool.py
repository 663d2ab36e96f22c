"""Connections that are kept for the next exchange with the same origin."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import monotonic
from typing import Final

from broker.wire.client import Exchange

# Less than servers keep them: one that is closed just as a request is sent would leave it unanswered.
_KEPT_S: Final = 15.0
_KEPT_EACH: Final = 256


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a connection leads.

    ``tls`` is None for plain HTTP; its name is ``host``.  ``private`` says that the address needn't be public.
    """

    host: str
    port: int
    tls: ssl.SSLContext | None
    private: bool


class Pool:
    """``dial`` makes a connection to an origin."""

    def __init__(self, dial: Callable[[Origin], Awaitable[Exchange]]) -> None:
        self._dial = dial
        self._resting: dict[Origin, list[Exchange]] = {}
        self._closed = False

    async def take(self, origin: Origin) -> Exchange:
        """A connection for one exchange, to be given back; raises what dialling raises."""
        resting = self._resting.get(origin)
        while resting:
            exchange = resting.pop()  # the one that rested last: the others may end
            if not exchange.closed and monotonic() - exchange.idle_since < _KEPT_S:
                return exchange
            exchange.close()
        return await self._dial(origin)

    def give_back(self, origin: Origin, exchange: Exchange) -> None:
        """Keep it for the next exchange where that is sound, else end it."""
        resting = self._resting.setdefault(origin, [])
        if self._closed or not exchange.reusable or len(resting) >= _KEPT_EACH:
            exchange.close()
            return
        exchange.rest(monotonic())
        resting.append(exchange)

    def close(self) -> None:
        """End what rests; what is under way ends when it is given back."""
        self._closed = True
        for resting in self._resting.values():
            for exchange in resting:
                exchange.close()
        self._resting.clear()

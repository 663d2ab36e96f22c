"""The whole path of one proxied call: lease, rules, record, open, inject, forward, mask, record; tried again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from broker.proxy import retry
from broker.proxy.authorize import Authorizer
from broker.proxy.forward import Answer, Forwarder, UpstreamUnreachable
from broker.proxy.in_flight import InFlightCalls
from broker.proxy.use import ProxiedCall


class Proxy:
    """Forwards calls under a lease."""

    def __init__(self, authorizer: Authorizer, forwarder: Forwarder, in_flight: InFlightCalls) -> None:
        self._authorizer = authorizer
        self._forwarder = forwarder
        self._in_flight = in_flight

    @asynccontextmanager
    async def call(self, call: ProxiedCall) -> AsyncIterator[Answer]:
        """Forward one call; the answer streams while the context is open.

        ``call.tries`` counts how often it was sent, also where this raises.

        Raises:
            LeaseTokenRefused, LeaseOver, LeaseDenied, WrongTarget, PathRefused, QueryRefused, GrantRateLimited,
            UpstreamRateLimited: refused before the key was opened; recorded where the lease is known.
            UpstreamUnreachable, UpstreamUntrusted, UpstreamUnreadable, TookTooLong, TooLarge: the key was used.
        """
        lease = await self._authorizer.admitted(call)
        async with self._in_flight.enter(lease) as in_flight:
            small: bytes | None = None
            if call.body.is_small:
                if call.body.length:  # it may be long in coming, and all the while its lease may end
                    await self._authorizer.expect(in_flight, call)
                small = await call.body.whole(in_flight.moves)
            patience, handed, fall_back = retry.PATIENCE_S, False, False
            for attempt in range(1, retry.ATTEMPTS + 1):
                use = await self._authorizer.authorized(in_flight, call, patience, fall_back=fall_back)
                wait = 0.0
                try:
                    async with self._forwarder.forwarded(in_flight, use, call, small) as answer:
                        # Refused for its key, so not carried out: the previous key may serve, whatever the method.
                        fall_back = answer.bad_key and use.fallback is not None and small is not None
                        if not fall_back:
                            wait = retry.backoff(attempt, answer.asked or 0.0)
                        transient = retry.is_transient(answer.status, answer.asked)
                        again = transient and use.retries and call.is_repeatable()
                        if attempt == retry.ATTEMPTS or not (again or fall_back) or wait > patience:
                            handed = True
                            yield answer
                            return
                except UpstreamUnreachable:
                    wait = retry.backoff(attempt)
                    again = use.retries and call.is_repeatable()
                    if handed or attempt == retry.ATTEMPTS or not again or wait > patience:
                        raise
                patience -= wait
                await asyncio.sleep(wait)

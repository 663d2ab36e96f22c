"""The whole path of one proxied call: lease, rules, record, open, inject, forward, mask, record; tried again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from broker.proxy import retry
from broker.proxy.authorize import Authorizer
from broker.proxy.forward import Answer, Forwarder, UpstreamUnreachable
from broker.proxy.in_flight import InFlightCall, InFlightCalls
from broker.proxy.use import ProxiedCall, Use


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
            small = await self._small_body(in_flight, call)
            attempt = retry.FIRST
            while True:
                use = await self._authorizer.authorized(in_flight, call, attempt)
                step: retry.Step | None = None
                try:
                    async with self._forwarder.forwarded(in_flight, use, call, small) as answer:
                        step = _next_step(answer, attempt, call, use)
                        if isinstance(step, retry.HandOver):
                            yield answer
                            return
                except UpstreamUnreachable:
                    step = step or _next_step(None, attempt, call, use)
                    if isinstance(step, retry.HandOver):
                        raise
                attempt = attempt.after(step)
                await asyncio.sleep(step.wait)

    async def _small_body(self, in_flight: InFlightCall, call: ProxiedCall) -> bytes | None:
        """The body of a call that has a small one; None if it is streamed."""
        if not call.body.is_small:
            return None
        if call.body.length:  # it may be long in coming, and all the while its lease may end
            await self._authorizer.expect(in_flight, call)
        return await call.body.whole(in_flight.moves)


def _next_step(answer: Answer | None, attempt: retry.Attempt, call: ProxiedCall, use: Use) -> retry.Step:
    return retry.next_step(
        answer,
        attempt,
        lambda: use.retries and call.is_repeatable(),
        fallback=use.fallback is not None and call.body.is_small,
    )

"""One proxied call, from the job's socket to the record of its outcome, in this order.

    1   wire/server             reads the request; refuses what can be read in two ways
    2   web/proxy               makes it one value, ``ProxiedCall`` of ``proxy/use``, with who calls
    3   proxy/authorize         finds the lease that its token names, or one of the job's own
    4   proxy/path              refuses a path that can be read in two ways
    5   proxy/in_flight         lets it in; from here on it is cut the moment something it depends on is revoked
    6   proxy/call              reads a small body before anything is decided
    7   leases/leasing          takes the snapshot that the lease stands on, with the epochs that guard it
    8   grants/policy           decides whether its grant allows it
    9   audit/log               makes the use durable if its guards hold and its quotas are there
    10  proxy/forward           opens the key
    11  proxy/request_headers   leaves out what is not for the upstream, and puts the key into its place
    12  proxy/forward           sends the call on
    13  proxy/redact            masks the key in the answer
    14  proxy/response_headers  leaves out what is not for the job
    15  proxy/retry             decides: the answer is handed over, or the call is made again from (7)
    16  proxy/forward           puts the outcome on the record

``# call (n)`` marks where each step happens.  Plain numbers below say what a line leads to.
"""

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

        ``call.tries`` counts how often it was sent, also if this raises.

        Raises:
            LeaseTokenRefused, LeaseOver, LeaseDenied, WrongTarget, PathRefused, QueryRefused, GrantRateLimited,
            UpstreamRateLimited: refused before the key was opened; recorded if the lease is known.
            UpstreamUnreachable, UpstreamUntrusted, UpstreamUnreadable, TookTooLong, TooLarge: the key was used.
        """
        lease = await self._authorizer.admitted(call)  # (3), (4)
        async with self._in_flight.enter(lease) as in_flight:  # (5)
            small = await self._small_body(in_flight, call)
            attempt = retry.FIRST
            while True:
                use = await self._authorizer.authorized(in_flight, call, attempt)  # (7)-(9)
                step: retry.Step | None = None
                try:
                    async with self._forwarder.forwarded(in_flight, use, call, small) as answer:  # (10)-(14), (16)
                        step = _next_step(answer, attempt, call, use)  # (15)
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
        # call (6) a small body is read first
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

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
from functools import partial

from broker.proxy import retry
from broker.proxy.authorize import Authorizer
from broker.proxy.forward import Forwarder, UpstreamUnreachable
from broker.proxy.in_flight import InFlightCall, InFlightCalls
from broker.proxy.use import Job, ProxiedCall, Use


class Proxy:
    """Forwards calls under a lease."""

    def __init__(self, authorizer: Authorizer, forwarder: Forwarder, in_flight: InFlightCalls) -> None:
        self.authorizer = authorizer
        self._forwarder = forwarder
        self._in_flight = in_flight

    async def call(self, call: ProxiedCall, job: Job) -> None:
        """Forward one call, and hand its answer over to the job as it comes.

        ``call.tries`` counts how often it was sent, also if this raises.

        Raises:
            LeaseTokenRefused, ProofRefused, LeaseOver, LeaseDenied, WrongTarget, PathRefused, QueryRefused,
            GrantRateLimited, UpstreamRateLimited: refused before the key was opened; recorded if the lease is known.
            UpstreamUnreachable, UpstreamUntrusted, UpstreamUnreadable, TookTooLong, TooLarge: the key was used.
        """
        lease = await self.authorizer.admitted(call)  # (3), (4)
        with self._in_flight.enter(lease) as in_flight:  # (5)
            small = await self._small_body(in_flight, call)
            attempt = retry.FIRST
            while True:
                use = await self.authorizer.authorized(in_flight, call, attempt)  # (7)-(9)
                decide = partial(_next_step, attempt=attempt, call=call, use=use)  # (15)
                try:
                    step = await self._forwarder.forward(in_flight, use, call, small, decide, job)  # (10)-(14), (16)
                except UpstreamUnreachable:
                    step = retry.HandOver() if job.started else decide(None)
                    if isinstance(step, retry.HandOver):
                        raise
                if isinstance(step, retry.HandOver):
                    return
                attempt = attempt.after(step)
                await asyncio.sleep(step.wait)

    async def _small_body(self, in_flight: InFlightCall, call: ProxiedCall) -> bytes | None:
        """The body of a call that has a small one; None if it is streamed."""
        if not call.body.is_small:
            return None
        # call (6) a small body is read first
        if call.body.length:  # it may be long in coming, and all the while its lease may end
            await self.authorizer.expect(in_flight, call)
        return await call.body.whole(in_flight.moves)


def _next_step(answer: retry.Answered | None, *, attempt: retry.Attempt, call: ProxiedCall, use: Use) -> retry.Step:
    return retry.next_step(
        answer,
        attempt,
        lambda: use.plan.retries and call.is_repeatable(),
        fallback=use.falls_back and call.body.is_small,
    )

"""One try of a call.

The key is opened, injected and sent, the answer masked, the outcome recorded.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import NamedTuple

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
from broker.proxy.passing import Passing
from broker.proxy.request_headers import Headers, request_headers, target
from broker.proxy.response_headers import Addresses, request_id, response_headers
from broker.proxy.retry import HandOver, Step
from broker.proxy.use import COMPLETE_USE, Job, ProxiedCall, Use, completed, given_back
from broker.wire.client import Answer as Received
from broker.wire.client import BrokenOff, Unreadable

_log = structlog.get_logger()


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


class Answer(NamedTuple):
    """What the upstream's answer says about trying again.

    ``asked`` is the seconds for which it wants no more calls, and None if the answer isn't about its rate.
    ``bad_key`` says that it is the answer to a key that the upstream refuses.
    """

    status: int
    asked: float | None
    bad_key: bool


class Forwarder:
    """Uses keys whose use is on the record."""

    def __init__(self, parts: Parts, opening: Opening) -> None:
        self._audit, self._outbound, self._clock = parts.audit, parts.outbound, parts.clock
        self._opening = opening

    async def forward(
        self,
        in_flight: InFlightCall,
        use: Use,
        call: ProxiedCall,
        small: bytes | None,
        decide: Callable[[Answer], Step],
        job: Job,
    ) -> Step:
        """One try: the key is opened, injected and sent, and the outcome recorded at the end.

        Args:
            in_flight: the call under way.
            use: on the record, and what comes of it.
            call: as the job asked for it.
            small: its body if it was read already.
            decide: whether the answer is handed over, or the call made again.
            job: who is handed it.

        Returns:
            What was decided.  If it was to hand over, that is done.
        """
        try:
            # call (10) the key, whose use is on the record by now
            key = await self._opening.open(use.way.key, in_flight.lease.target)
            use.opened = True
            placement = use.definition.place(key)
            base, host = use.way.base, use.definition.host
            headers = request_headers(call.headers, use.definition.required_headers.items(), placement)
            if small is None and call.body.length is not None:
                headers.append(("Content-Length", str(call.body.length)))
            use.sent = len(small or b"")
            await in_flight.gate()
            # call (12) to the upstream
            call.tries.count += 1
            async with self._outbound.unlimited(
                call.method,
                target(base, call.path, call.raw_query, placement),
                headers=headers,
                body=_metered(call.body.chunks, in_flight, use) if small is None else small or None,
                private=host.private,
                tls=host.tls,
            ) as response:
                passing = Passing(response, key.reveal(), in_flight, use)
                masked = passing.headers()
                self._note(use, response, masked)
                first = await passing.first()
                step = decide(Answer(response.status, use.asked, use.refused))  # (15)
                if isinstance(step, HandOver):
                    addresses = Addresses(base, call.proxy_url, base + call.path)
                    await job.start(response.status, response_headers(masked, addresses, response.status))
                    await _hand_over(first, passing, job)
                return step
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
        writes: list[Write] = [(COMPLETE_USE, {"use": event.use})]
        if not use.opened:
            writes += given_back(use.plan.taken)
        if use.pause:
            until = now + int(use.pause * 1000)
            pause = cooldown_statement(self._audit.dialect)
            writes.append((pause, {"quota": cooldown_id(use.way.key.credential), "number": until}))
        if use.refused:
            writes.append((SUSPECT, suspicion(use.way.key.credential, use.way.key.number, now)))
        if not self._audit.post(event, writes):
            # The use itself is on the record; the worker closes it as unknown.
            _log.warning("use.outcome_not_recorded", use=event.use)


async def _metered(chunks: AsyncIterator[bytes], in_flight: InFlightCall, use: Use) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        use.sent += len(chunk)
        in_flight.passed(use.sent)
        await in_flight.gate()
        yield chunk


async def _hand_over(first: bytes | Exception | None, passing: Passing, job: Job) -> None:
    if isinstance(first, Exception):
        raise first
    part = first or await passing.part()
    while part is not None:
        await job.write(part)
        part = await passing.part()


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

"""How an upstream says "too fast", and whether what it refused so may be sent again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from broker.providers.schema import Fault, Flag, HeaderName, Part, Statuses, Whole

Unit = Literal["seconds", "milliseconds", "epoch", "epoch-milliseconds", "duration", "date"]
Refusals = Annotated[tuple[Annotated[int, Field(strict=True, ge=400, le=599)], ...], Field(max_length=20)]
Seconds = Annotated[Whole, Field(ge=1, le=3600)]


class RateHeader(Part):
    """A header that says when to come back; ``remaining`` names the one whose 0 makes it count.

    ``duration`` is as in ``1m30s``; ``date`` is one of HTTP (RFC 9110 §5.6.7) or RFC 3339.
    """

    name: HeaderName
    unit: Unit = "seconds"
    remaining: HeaderName | None = None

    def faults(self) -> Iterator[Fault]:
        if self.remaining is not None and self.remaining.lower() == self.name.lower():
            yield Fault("remaining", "is the header itself; name the one that counts what is left")


# Every upstream may send it, whatever else it says (RFC 9110 §10.2.3, RFC 6585 §4).
RETRY_AFTER = RateHeader(name="Retry-After")


class Retry(Part):
    """How the upstream says "too fast", and whether calls are tried again.

    It is believed for a bounded time.  ``statuses`` say it by themselves, ``statuses_with_header`` only if one of the
    headers does.  ``header`` and ``unit`` are short for one of ``headers``.  Of several headers the strictest counts,
    ``Retry-After`` always among them.  ``otherwise_seconds`` is the pause after an answer that says no time.  Without
    ``retries`` no call is sent twice.
    """

    statuses: Statuses = (429,)
    statuses_with_header: Refusals = ()
    header: HeaderName = "Retry-After"
    unit: Unit = "seconds"
    headers: Annotated[tuple[RateHeader, ...], Field(max_length=10)] = ()
    otherwise_seconds: Seconds = 1
    cap_seconds: Seconds = 60
    retries: Flag = True

    def faults(self) -> Iterator[Fault]:
        if both := sorted(set(self.statuses) & set(self.statuses_with_header)):
            yield Fault("statuses_with_header", f"shares {both} with statuses, which need no header; leave them in one")
        if self.headers and self.model_fields_set & {"header", "unit"}:
            yield Fault("headers", "stands beside header or unit, which are short for one of them; write headers alone")
        names = [each.name.lower() for each in self.headers]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            yield Fault("headers", f"names {', '.join(twice)} twice; leave one")
        if self.otherwise_seconds > self.cap_seconds:
            yield Fault("otherwise_seconds", "is longer than cap_seconds; raise that one")

    @property
    def limits(self) -> tuple[RateHeader, ...]:
        """Every header that counts."""
        declared = self.headers or (RateHeader(name=self.header, unit=self.unit),)
        named = any(each.name.lower() == RETRY_AFTER.name.lower() for each in declared)
        return declared if named else (*declared, RETRY_AFTER)

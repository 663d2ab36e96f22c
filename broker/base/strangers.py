"""What a process gives to those whom nobody knows.

That is counted and paced in memory, before anything else is asked.
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from functools import lru_cache

from broker.base.clock import Clock
from broker.base.recent import Recent

WINDOW_MS = 600_000
_NAMES_MAX = 20_000
# One customer of a network is given so much whole: whoever holds it is one stranger (RFC 6177).
_IPV6_PREFIX = 64
_LONGEST = 45  # an IPv6 address that ends as an IPv4 address


def address(told: str) -> str:
    """The address that somebody is said to have, in its usual spelling; empty if it is none.

    A proxy may hand on what its caller made up.  What follows a ``%`` may be any text, and means something there only.
    """
    literal = told.partition("%")[0]
    return _usual(literal) if len(literal) <= _LONGEST else ""


@lru_cache(maxsize=4096)  # the same ones come again and again
def _usual(literal: str) -> str:
    try:
        found = ipaddress.ip_address(literal)
    except ValueError:
        return ""
    return str(getattr(found, "ipv4_mapped", None) or found)


def network(address: str) -> str:
    """What an address is counted as.

    That is itself, or for IPv6 the network of which one holder has all addresses.
    """
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is None:
        return str(ipaddress.ip_network((int(found), _IPV6_PREFIX), strict=False))
    return str(getattr(found, "ipv4_mapped", None) or found)


class Tally:
    """How often each name came up in this window of ten minutes, in this process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._window = 0
        self._counts = Recent[str, int](_NAMES_MAX)

    def count(self, name: str) -> int:
        """How often ``name`` came up in this window."""
        return self._present().get(name) or 0

    def add(self, name: str, most: int = 1) -> None:
        """Count ``name`` once more.

        ``most`` is how often it came up at least, as somebody else knows.
        """
        counts = self._present()
        counts[name] = max((counts.get(name) or 0) + 1, most)

    def _present(self) -> Recent[str, int]:
        window = self._clock() // WINDOW_MS
        if window != self._window:
            self._window = window
            self._counts.clear()
        return self._counts


class Pace:
    """Turns for what can wait: a burst at once, then one after the other.

    Args:
        per_second: how many turns there are.
        burst: how many come at once after a pause.
        longest_s: nobody waits longer for theirs.
    """

    def __init__(self, *, per_second: float, burst: int, longest_s: float) -> None:
        self._apart = 1 / per_second
        self._burst_s = burst / per_second
        self._longest_s = longest_s
        self._next = 0.0

    async def turn(self) -> float:
        """Wait for one's turn; returns the seconds that it took."""
        now = time.monotonic()
        self._next = min(max(self._next, now - self._burst_s) + self._apart, now + self._longest_s)
        wait = max(self._next - now, 0)
        if wait:
            await asyncio.sleep(wait)
        return wait

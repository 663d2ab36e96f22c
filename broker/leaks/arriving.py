"""Bodies on their way in, while nobody knows whose they are.

Together they take only so much memory.
"""

from __future__ import annotations

from collections.abc import AsyncIterable
from dataclasses import dataclass, field

from broker.base.errors import Unavailable

_MOST = 32 * 1024**2


@dataclass(eq=False, slots=True)
class _Body:
    data: bytearray = field(default_factory=bytearray)
    dropped: bool = False


class Arriving:
    """Holds ``most`` bytes; beyond that it lets the body go that has been coming longest.

    So a slow sender keeps no room from bodies that come at a usual pace.
    """

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._held = 0
        self._bodies: dict[_Body, None] = {}  # the oldest first

    async def whole(self, stream: AsyncIterable[bytes]) -> bytes:
        """The whole body.

        Raises:
            Unavailable: the body was let go; it can be sent again.
        """
        body = _Body()
        self._bodies[body] = None
        try:
            async for part in stream:
                if body.dropped:
                    break
                body.data += part
                self._held += len(part)
                while self._held > self._most:
                    self._let_go(next(iter(self._bodies)))
            if body.dropped:
                raise Unavailable("Too much came at once; send the report again.", retry_after=5)
            return bytes(body.data)
        finally:
            if not body.dropped:
                self._let_go(body)

    def _let_go(self, body: _Body) -> None:
        del self._bodies[body]
        self._held -= len(body.data)
        body.data, body.dropped = bytearray(), True

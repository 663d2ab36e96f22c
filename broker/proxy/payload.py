"""A request's body on its way upstream: streamed, or read first where it is small."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

# One that is read whole goes out in one piece, and lets an idempotent call be tried again.
READ_WHOLE_MAX = 65_536


@dataclass(frozen=True, slots=True)
class Body:
    """A body as it comes; ``length`` is what its framing declares, None where it doesn't, 0 where there is none."""

    length: int | None
    chunks: AsyncIterator[bytes]

    async def small(self) -> bytes | None:
        """The whole of it where it is small enough to be read at once, else None."""
        if self.length is None or self.length > READ_WHOLE_MAX:
            return None
        return b"".join([chunk async for chunk in self.chunks]) if self.length else b""

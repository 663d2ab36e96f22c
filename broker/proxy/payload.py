"""A request's body on its way upstream: streamed, or read first where it is small."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

# One that is read whole goes out in one piece, and lets an idempotent call be tried again.
READ_WHOLE_MAX = 65_536


@dataclass(frozen=True, slots=True)
class Body:
    """A body as it comes; ``length`` is what its framing declares, None where it doesn't, 0 where there is none."""

    length: int | None
    chunks: AsyncIterator[bytes]

    @property
    def is_small(self) -> bool:
        """Whether it is read whole before the call is made."""
        return self.length is not None and self.length <= READ_WHOLE_MAX

    async def whole(self, came: Callable[[], None]) -> bytes:
        """All of it; ``came`` is called as each part comes."""
        parts = []
        if self.length != 0:
            async for chunk in self.chunks:
                came()
                parts.append(chunk)
        return b"".join(parts)

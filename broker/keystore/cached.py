"""Customers' keys that were opened are kept in memory for some seconds.

So a short absence of the keystore passes unnoticed.  It is off unless a deployment asks for it.  While a key is kept,
the broker's memory holds it.  A keystore that takes the broker's right away is obeyed only when that time has passed.
A revocation needs no keystore: it holds at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping

from broker.base.recent import Recent
from broker.base.secret import Secret
from broker.formats.envelope import Binding
from broker.keystore.keystore import NOTHING_KNOWN, Keystore

_REMEMBERED = 10_000


class Cached:
    """A :class:`~broker.keystore.keystore.Keystore` that keeps what another one opened.

    It keeps it for ``seconds``.
    """

    def __init__(self, inner: Keystore, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._inner = inner
        self._seconds = seconds
        self._kept = Recent[tuple[bytes, Binding], Secret](_REMEMBERED, seconds, clock)

    @property
    def in_memory(self) -> int:
        """How many opened keys are kept now."""
        return len(self._kept)

    async def open(self, sealed: bytes, binding: Binding) -> Secret:
        if binding.purpose != "credential":
            return await self._inner.open(sealed, binding)
        kept = self._kept.get((sealed, binding))
        if kept is not None:
            return kept
        value = self._kept[sealed, binding] = await self._inner.open(sealed, binding)
        asyncio.get_running_loop().call_later(self._seconds, self._kept.expire)
        return value

    async def seal(self, value: Secret, binding: Binding, about: Mapping[str, str] = NOTHING_KNOWN) -> bytes:
        return await self._inner.seal(value, binding, about)

    async def newest(self, purpose: str) -> str:
        return await self._inner.newest(purpose)

    async def rewrap(self, sealed: bytes, binding: Binding, about: Mapping[str, str] = NOTHING_KNOWN) -> bytes | None:
        return await self._inner.rewrap(sealed, binding, about)

    async def erase(self, sealed: bytes) -> None:
        """Forget what is destroyed, too."""
        for key, _ in self._kept.entries():
            if key[0] == sealed:
                self._kept.pop(key)
        await self._inner.erase(sealed)

    async def check(self) -> None:
        await self._inner.check()

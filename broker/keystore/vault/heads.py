"""How far the record was, kept in KV.

It shows every broker of a deployment if its database was restored.

::

    MOUNT/data/PREFIX/broker/heads/DATABASE     {"head": …}, as :mod:`broker.formats.head` has it
"""

from __future__ import annotations

from broker.formats.head import Head, Unreadable
from broker.keystore.keystore import KeystoreUnavailable
from broker.keystore.vault.values import Values

_TRIES = 5


class HeadInVault:
    """A head in Vault, under the name of its database."""

    where = "Vault"

    def __init__(self, values: Values, database_id: str) -> None:
        self._values = values
        self._path = values.path("broker", "heads", database_id)

    async def read(self) -> Head | None:
        """The head that is kept; None if there is none.

        Raises:
            Unreadable: something else is there. KeystoreUnavailable: Vault is away, or forbids it.
        """
        found = await self._values.get(self._path)
        if found is None:
            return None
        try:
            return Head.decode(str(found.get("head", "")))
        except Unreadable:
            raise Unreadable.kept_in(f"{self._path} in Vault", "delete it") from None

    async def keep(self, head: Head) -> None:
        """Keep a head, unless a later one is there; raises as :meth:`read`."""
        for _ in range(_TRIES):
            newest = await self._values.newest(self._path)
            if newest and not await self._is_news(head):
                return
            if await self._values.put(self._path, {"head": head.encode()}, newest):
                return
        raise KeystoreUnavailable("Others write to the same path in Vault all the time; try again.", cause="busy")

    async def _is_news(self, head: Head) -> bool:
        try:
            kept = await self.read()
        except Unreadable:  # a process that starts meets it, and is refused; this one knows better
            return True
        return kept is None or head.is_after(kept)

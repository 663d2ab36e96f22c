"""The broker's own master keys where customers' keys are in KV: they lie there too, beside them."""

from __future__ import annotations

import time

from broker.formats.envelope import Binding
from broker.keystore.keystore import KeystoreUnavailable
from broker.keystore.local import LocalKeyWrapper, MasterKeys, MasterKeysUnusable
from broker.keystore.vault.kv import Values

PREFIX = "kv/"
_FRESH_S = 5.0


class KvKeyWrapper:
    """A :class:`~broker.keystore.keystore.KeyWrapper` over master keys in KV.  Ids are ``kv/ID``."""

    def __init__(self, values: Values) -> None:
        self._values = values
        self._path = values.path("broker", "master-keys")
        self._local: LocalKeyWrapper | None = None
        self._read_at = 0.0

    async def newest(self) -> str:
        """See :class:`~broker.keystore.keystore.KeyWrapper`."""
        if time.monotonic() - self._read_at > _FRESH_S:
            await self._read()
        return PREFIX + (await self._loaded()).active

    async def wrap(self, data_key: bytes, binding: Binding) -> tuple[str, bytes]:
        """See :class:`~broker.keystore.keystore.KeyWrapper`."""
        await self.newest()
        kek_id, wrapped = await (await self._loaded()).wrap(data_key, binding)
        return PREFIX + kek_id, wrapped

    async def unwrap(self, kek_id: str, wrapped: bytes, binding: Binding) -> bytes:
        """See :class:`~broker.keystore.keystore.KeyWrapper`."""
        name = kek_id.removeprefix(PREFIX)
        if not (await self._loaded()).holds(name):
            await self._read()
        return await (await self._loaded()).unwrap(name, wrapped, binding)

    async def rotate(self) -> str:
        """Add a fresh master key and make it the active one; its id."""
        while True:
            number = await self._values.newest(self._path)
            keys = (await self._stored(number)).with_new_key()
            if await self._values.put(self._path, keys.document(), number):
                await self._read()
                return PREFIX + keys.active

    async def drop(self, kek_id: str) -> None:
        """Remove a master key that nothing needs any more, and every stored form that still had it."""
        number = await self._values.newest(self._path)
        keys = (await self._stored(number)).without(kek_id.removeprefix(PREFIX))
        if not await self._values.put(self._path, keys.document(), number):
            raise MasterKeysUnusable("somebody else changed the master keys meanwhile; run the command again")
        for old in range(1, number + 1):
            await self._values.destroy(self._path, old)
        await self._read()

    async def end(self) -> int:
        """Destroy every stored form, as nothing needs these keys any more; how many there were."""
        number = await self._values.newest(self._path)
        for old in range(1, number + 1):
            await self._values.destroy(self._path, old)
        self._local = None
        return number

    async def _loaded(self) -> LocalKeyWrapper:
        return self._local or await self._read()

    async def _read(self) -> LocalKeyWrapper:
        number = await self._values.newest(self._path)
        if number == 0 or await self._values.ended(self._path, number):
            # Of two brokers that begin at once, one puts its keys there and both use those.
            await self._values.put(self._path, MasterKeys({}, "").with_new_key().document(), number)
            number = await self._values.newest(self._path)
        self._local, self._read_at = LocalKeyWrapper(await self._stored(number)), time.monotonic()
        return self._local

    async def _stored(self, number: int) -> MasterKeys:
        found = await self._values.get(self._path, number)
        if found is None:
            raise KeystoreUnavailable(
                f"The master keys at {self._path} were deleted in Vault; an operator must undelete them there.",
                cause="gone",
            )
        return MasterKeys.from_document(found, f"Vault: {self._path}")

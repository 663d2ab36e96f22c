"""The broker's own master keys in KV, beside customers' keys.

They lie there if customers' keys do.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import NoReturn

from broker.formats.envelope import Binding
from broker.keystore.keystore import KeystoreUnavailable
from broker.keystore.local import LocalKeyWrapper, MasterKeys, MasterKeysUnusable
from broker.keystore.vault.values import Values, forgets

PREFIX = "kv/"
_FRESH_S = 5.0


class KvKeyWrapper:
    """A :class:`~broker.keystore.keystore.KeyWrapper` over master keys in KV.

    Ids are ``kv/ID``.  The first keys are made if something is sealed and ``unused`` says that nothing in the database
    needs any.  Keys that vanish are never replaced: what they sealed would not open.  A running broker goes on opening
    with those that it has, and seals nothing new.
    """

    def __init__(self, values: Values, unused: Callable[[], Awaitable[bool]]) -> None:
        self._values = values
        self._unused = unused
        self._path = values.path("broker", "master-keys")
        self._local: LocalKeyWrapper | None = None
        self._read_at = 0.0

    @property
    def where(self) -> str:
        """Where the keys lie, as people name it in Vault."""
        return f"{self._values.mount}/{self._path}"

    async def newest(self) -> str:
        if self._local is None or time.monotonic() - self._read_at > _FRESH_S:
            return PREFIX + (await self.read()).active
        return PREFIX + self._local.active

    async def wrap(self, data_key: bytes, binding: Binding) -> tuple[str, bytes]:
        await self.newest()
        kek_id, wrapped = await (await self._loaded()).wrap(data_key, binding)
        return PREFIX + kek_id, wrapped

    async def unwrap(self, kek_id: str, wrapped: bytes, binding: Binding) -> bytes:
        name = kek_id.removeprefix(PREFIX)
        if not (await self._loaded()).holds(name):
            await self.read(may_begin=False)
        return await (await self._loaded()).unwrap(name, wrapped, binding)

    async def rotate(self) -> str:
        """Add a fresh master key and make it the active one; returns its id."""
        await self.read()
        while True:
            there = await self._values.numbers(self._path)
            keys = (await self._stored(there.standing)).with_new_key()
            if await self._values.put(self._path, keys.document(), there.newest):
                await self.read()
                return PREFIX + keys.active

    async def drop(self, kek_id: str) -> None:
        """Remove a master key that nothing needs any more, and every stored form that still had it.

        If it was interrupted, another call goes on where it stopped.

        Raises:
            MasterKeysUnusable: it is the active one, or no stored form has it.
        """
        name = kek_id.removeprefix(PREFIX)
        there = await self._values.numbers(self._path)
        number = there.standing
        keys = await self._stored(number)
        if name in keys.keys or not await self._had(name, number):
            if not await self._values.put(self._path, keys.without(name).document(), there.newest):
                raise MasterKeysUnusable("somebody else changed the master keys meanwhile; run the command again")
            number = there.newest + 1
        for old in range(1, number):
            await self._values.destroy(self._path, old)
        await self.read()

    async def _had(self, name: str, number: int) -> bool:
        """Whether a stored form before that number has a key of that name."""
        for old in range(number - 1, 0, -1):
            form = await self._values.get(self._path, old)
            if form is not None and name in MasterKeys.from_document(form, self.where).keys:
                return True
        return False

    async def stored_forms(self) -> int:
        """How many stored forms of the keys are not destroyed."""
        there = await self._values.numbers(self._path)
        return len(there.known - there.destroyed)

    async def end(self) -> int:
        """Destroy every stored form, as nothing needs these keys any more.

        Returns:
            How many there were.
        """
        there = await self._values.numbers(self._path)
        forms = sorted(there.known - there.destroyed)
        for form in forms:
            await self._values.destroy(self._path, form)
        self._local = None
        return len(forms)

    async def read(self, *, may_begin: bool = True) -> LocalKeyWrapper:
        """Read the keys again.

        Raises:
            KeystoreUnavailable: also if they are gone; the previous ones stay loaded.
        """
        # Numbers above it are destroyed: they were refused, as Vault would have deleted them.
        there = await self._values.numbers(self._path)
        number = there.standing
        if number == 0:
            if not may_begin or self._local is not None or not await self._unused():
                self._gone()
            # Of two brokers that begin at once, one puts its keys there and both use those.
            await self._values.put(self._path, MasterKeys({}, "").with_new_key().document(), there.newest)
            number = (await self._values.numbers(self._path)).standing
        self._local, self._read_at = LocalKeyWrapper(await self._stored(number)), time.monotonic()
        return self._local

    async def check(self) -> None:
        """Check that the keys are there, and stay; raises KeystoreUnavailable."""
        await self.read()
        there = await self._values.numbers(self._path)
        if there.standing in there.timed:
            raise forgets(f"the broker's master keys, at {self.where},")

    async def _loaded(self) -> LocalKeyWrapper:
        return self._local or await self.read(may_begin=False)

    async def _stored(self, number: int) -> MasterKeys:
        found = await self._values.get(self._path, number)
        if found is None:
            self._gone()
        return MasterKeys.from_document(found, f"Vault: {self.where}")

    def _gone(self) -> NoReturn:
        raise KeystoreUnavailable(
            f"The broker's master keys, at {self.where} in Vault, are gone, and values need them; an operator must "
            "undelete them there, or restore them from Vault's backup. Until then nothing is made in their place.",
            cause="gone",
        )

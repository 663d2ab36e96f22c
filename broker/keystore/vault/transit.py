"""Data keys wrapped by a key of the transit engine: the master key never leaves Vault.

The key is *derived*.  Vault makes a key of its own for each organization from the context that comes with a call (the
organization's id).  The whole binding goes along as associated data.  So Vault itself refuses to unwrap the data key of
a row that was copied to another tenant, credential, version or purpose.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import hvac
from hvac import exceptions as refused

from broker.formats.envelope import Binding
from broker.keystore.keystore import CannotOpen, KeystoreUnavailable
from broker.keystore.vault.server import Vault, unavailable

T = TypeVar("T")

PREFIX = "transit/"
_DATA_KEY_BYTES = 32
# How long the number of the newest key version is believed; a re-wrap asks for every value.
_NEWEST_S = 5.0
_BROKERS_OWN = "keybroker"


class SomeRefused(Exception):
    """Vault refused some of several data keys, and so did nothing.

    Asked for alone, each is refused or not.
    """


class TransitWrapper:
    """A :class:`~broker.keystore.keystore.KeyWrapper` over ``mount/keys/name``.

    Ids are ``transit/NAME/VERSION``.
    """

    def __init__(self, vault: Vault, mount: str, name: str) -> None:
        self._vault = vault
        self._mount = mount
        self._name = name
        self._newest = ("", 0.0)

    async def newest(self) -> str:
        newest, asked_at = self._newest
        if not newest or time.monotonic() - asked_at > _NEWEST_S:
            newest = self._id(await self._vault.call(self._latest))
            self._newest = (newest, time.monotonic())
        return newest

    def _latest(self, client: hvac.Client) -> int:
        about = client.secrets.transit.read_key(self._name, mount_point=self._mount)["data"]
        if not about["derived"]:
            raise KeystoreUnavailable(
                f"The transit key {self._name} is not derived, so Vault would mix tenants' data keys up; "
                "an operator must make one with derived=true, name it in BROKER_VAULT_TRANSIT_KEY, and re-wrap.",
                cause="not_derived",
            )
        return int(about["latest_version"])

    async def wrap(self, data_key: bytes, binding: Binding) -> tuple[str, bytes]:
        """Wrap a data key; refuses if the transit key is not derived."""
        await self.newest()
        return await self._one("encrypt", _to_encrypt(data_key, binding), self._wrapped)

    async def unwrap(self, kek_id: str, wrapped: bytes, binding: Binding) -> bytes:
        return await self._one("decrypt", self._to_decrypt(kek_id, wrapped, binding), _unwrapped)

    async def wrap_all(self, wanted: Sequence[tuple[bytes, Binding]]) -> list[tuple[str, bytes]]:
        """As :meth:`wrap` for many, in one call; raises SomeRefused."""
        await self.newest()
        return await self._all("encrypt", [_to_encrypt(*one) for one in wanted], self._wrapped)

    async def unwrap_all(self, wanted: Sequence[tuple[str, bytes, Binding]]) -> list[bytes]:
        """As :meth:`unwrap` for many, in one call; raises SomeRefused."""
        return await self._all("decrypt", [self._to_decrypt(*one) for one in wanted], _unwrapped)

    def _to_decrypt(self, kek_id: str, wrapped: bytes, binding: Binding) -> dict[str, str]:
        version = wrapped.partition(b":v")[2].partition(b":")[0]
        if not wrapped.isascii() or kek_id != f"{PREFIX}{self._name}/{version.decode('ascii')}":
            raise CannotOpen("a wrapped data key does not belong here")
        return {"ciphertext": wrapped.decode("ascii"), **_place(binding)}

    def _wrapped(self, data: Mapping[str, Any]) -> tuple[str, bytes]:
        wrapped = str(data["ciphertext"])
        return self._id(int(wrapped.split(":")[1].removeprefix("v"))), wrapped.encode("ascii")

    def _id(self, version: int) -> str:
        return f"{PREFIX}{self._name}/{version}"

    async def _one(self, operation: str, item: Mapping[str, str], read: Callable[[Mapping[str, Any]], T]) -> T:
        def work(client: hvac.Client) -> T:
            try:
                answer = client.write_data(f"{self._mount}/{operation}/{self._name}", data=dict(item))
            except refused.InvalidRequest as error:
                raise _meant(str(error)) from None
            return read(answer["data"])

        return await self._vault.call(work)

    async def _all(
        self, operation: str, items: Sequence[Mapping[str, str]], read: Callable[[Mapping[str, Any]], T]
    ) -> list[T]:
        if len(items) == 1:
            return [await self._one(operation, items[0], read)]

        def work(client: hvac.Client) -> list[T]:
            try:
                answer = client.write_data(f"{self._mount}/{operation}/{self._name}", data={"batch_input": list(items)})
            except refused.InvalidRequest:
                raise SomeRefused from None
            return [read(result) for result in answer["data"]["batch_results"]]

        return await self._vault.call(work)


def _to_encrypt(data_key: bytes, binding: Binding) -> dict[str, str]:
    return {"plaintext": _text(data_key), **_place(binding)}


def _place(binding: Binding) -> dict[str, str]:
    return {
        "context": _text((binding.organization or _BROKERS_OWN).encode()),
        "associated_data": _text(binding.associated_data()),
    }


def _unwrapped(data: Mapping[str, Any]) -> bytes:
    key = base64.b64decode(data["plaintext"], validate=True)
    if len(key) != _DATA_KEY_BYTES:
        raise ValueError("not a data key")
    return key


def _meant(error: str) -> Exception:
    if "authentication failed" in error or "invalid ciphertext" in error or "unable to decode" in error:
        return CannotOpen("a wrapped data key does not belong here")
    if "too old" in error or "disallowed by policy" in error:
        return KeystoreUnavailable(
            "The version of the transit key that sealed this value is below min_decryption_version; an operator must "
            "lower it in Vault.",
            cause="key_version",
        )
    return unavailable("not_set_up")


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")

"""Customers' keys as values in KV v2: one path for each organization, provider and credential.

::

    MOUNT/data/PREFIX/organizations/ORGANIZATION/PROVIDER/CREDENTIAL     {"key": …, "version": "3", "mark": …}
    MOUNT/data/PREFIX/broker/master-keys                                  what the broker seals its own values with

A row holds a reference (``broker.formats.reference``): the path, KV's number of the value, and its digest sealed to
the row's place.  Writes check and set; every version of a credential is one KV version; destroyed is destroyed.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import hvac
from hvac import exceptions as refused

from broker.base.clock import Clock
from broker.base.db import Database
from broker.base.secret import Secret
from broker.formats.envelope import Binding, Malformed
from broker.formats.reference import MARK_BYTES, Reference, is_reference
from broker.keystore import strays
from broker.keystore.envelope import EnvelopeKeystore
from broker.keystore.keystore import NOTHING_KNOWN, CannotOpen, KeystoreUnavailable
from broker.keystore.vault.server import Vault

_KEEPS = "credential"
# KV forgets the oldest version beyond this many; a credential's versions are people's rotations.
_VERSIONS = 10_000
_TRIES = 5
_PLACE = ("organizations", "probe", "probe", "probe")


class Values:
    """The values under one mount and prefix."""

    def __init__(self, vault: Vault, mount: str, prefix: str) -> None:
        self._vault = vault
        self.mount = mount
        self.prefix = prefix

    def path(self, *parts: str) -> str:
        """Where something of that name is kept."""
        return "/".join((self.prefix, *parts))

    async def newest(self, path: str) -> int:
        """KV's number of the last value put there; 0 where there was none."""

        def work(client: hvac.Client) -> int:
            try:
                found = client.secrets.kv.v2.read_secret_metadata(path, mount_point=self.mount)
            except refused.InvalidPath:
                return 0
            return int(found["data"]["current_version"])

        return await self._vault.call(work)

    async def put(self, path: str, value: Mapping[str, str], after: int) -> bool:
        """Put a value there as number ``after + 1``; False where somebody else put one meanwhile."""

        def work(client: hvac.Client) -> bool:
            try:
                client.secrets.kv.v2.create_or_update_secret(
                    path, secret=dict(value), cas=after, mount_point=self.mount
                )
            except refused.InvalidRequest as error:
                if "check-and-set" in str(error):
                    return False
                raise
            return True

        return await self._vault.call(work)

    async def describe(self, path: str, about: Mapping[str, str]) -> None:
        """Set what people who browse Vault are told, and that every write checks and sets."""

        def work(client: hvac.Client) -> None:
            client.secrets.kv.v2.update_metadata(
                path,
                cas_required=True,
                max_versions=_VERSIONS,
                custom_metadata=dict(about),
                mount_point=self.mount,
            )

        await self._vault.call(work)

    async def get(self, path: str, number: int | None = None) -> dict[str, Any] | None:
        """The value of that number, or the newest; None where it is gone."""

        def work(client: hvac.Client) -> dict[str, Any] | None:
            try:
                found = client.secrets.kv.v2.read_secret_version(
                    path, version=number, mount_point=self.mount, raise_on_deleted_version=True
                )
            except refused.InvalidPath:
                return None
            return dict(found["data"]["data"])

        return await self._vault.call(work)

    async def ended(self, path: str, number: int) -> bool:
        """Whether the value of that number was destroyed, for good."""

        def work(client: hvac.Client) -> bool:
            found = client.secrets.kv.v2.read_secret_metadata(path, mount_point=self.mount)
            return bool(found["data"]["versions"][str(number)]["destroyed"])

        return await self._vault.call(work)

    async def destroy(self, path: str, number: int) -> None:
        """Destroy one value for good."""

        def work(client: hvac.Client) -> None:
            client.secrets.kv.v2.destroy_secret_versions(path, versions=[number], mount_point=self.mount)

        await self._vault.call(work)

    async def check(self) -> None:
        """That the broker may read and write values here; raises KeystoreUnavailable."""
        path = f"{self.mount}/data/{self.path(*_PLACE)}"

        def work(client: hvac.Client) -> set[str]:
            return set(client.sys.get_capabilities([path])["data"][path])

        if not {"create", "update", "read"} <= await self._vault.call(work):
            raise KeystoreUnavailable("Vault's policy does not let the broker keep keys.", cause="permission")


class KvKeystore:
    """A :class:`~broker.keystore.keystore.Keystore` that keeps customers' keys in KV.

    The broker's own values (its signing keys, the private keys of open links, webhooks) and the proofs of customers'
    keys are sealed by ``own``, whose master keys lie in KV too.
    """

    def __init__(self, values: Values, own: EnvelopeKeystore, db: Database, clock: Clock) -> None:
        self._values = values
        self._own = own
        self._db = db
        self._clock = clock

    async def seal(self, value: Secret, binding: Binding, about: Mapping[str, str] = NOTHING_KNOWN) -> bytes:
        """See :class:`~broker.keystore.keystore.Keystore`; the value is a stray until its reference is stored."""
        if binding.purpose != _KEEPS:
            return await self._own.seal(value, binding)
        path = self._path(binding)
        proof = await self._own.seal(Secret(_digest(value)), binding)
        for _ in range(_TRIES):
            newest, mark = await self._values.newest(path), secrets.token_bytes(MARK_BYTES)
            reference = Reference(path, newest + 1, mark, proof).encode()
            await strays.begin(self._db, reference, self._clock)
            await self._values.describe(path, _described(binding, newest + 1, about))
            content = {"key": value.reveal_text(), "version": str(binding.version), "mark": mark.hex()}
            if await self._values.put(path, content, newest):
                return reference
        raise KeystoreUnavailable("Others write to the same path in Vault all the time; try again.", cause="busy")

    async def open(self, sealed: bytes, binding: Binding) -> Secret:
        """See :class:`~broker.keystore.keystore.Keystore`."""
        if not is_reference(sealed):
            return await self._own.open(sealed, binding)
        reference = _parts(sealed)
        if reference.path != self._path(binding):
            raise CannotOpen("a reference does not belong here")
        proof = await self._own.open(reference.seal, binding)
        found = await self._values.get(reference.path, reference.number)
        if found is None:
            raise KeystoreUnavailable(
                "The key was deleted in Vault; an operator must restore it there, or ask the customer for a new one.",
                cause="gone",
            )
        value = Secret(str(found.get("key", "")).encode())
        if not hmac.compare_digest(_digest(value), proof.reveal()):
            raise CannotOpen("the value in Vault is not the one that was put there")
        return value

    async def rewrap(self, sealed: bytes, binding: Binding, about: Mapping[str, str] = NOTHING_KNOWN) -> bytes | None:  # noqa: ARG002
        """See :class:`~broker.keystore.keystore.Keystore`; the value in KV is not touched."""
        if not is_reference(sealed):
            return await self._own.rewrap(sealed, binding)
        reference = _parts(sealed)
        proof = await self._own.rewrap(reference.seal, binding)
        return None if proof is None else replace(reference, seal=proof).encode()

    async def erase(self, sealed: bytes) -> None:
        """See :class:`~broker.keystore.keystore.Keystore`."""
        if is_reference(sealed):
            reference = _parts(sealed)
            found = await self._values.get(reference.path, reference.number)
            # Under the number may be what somebody else put there first.
            if found is not None and found.get("mark") == reference.mark.hex():
                await self._values.destroy(reference.path, reference.number)

    async def check(self) -> None:
        """See :class:`~broker.keystore.keystore.Keystore`."""
        await self._values.check()

    def _path(self, binding: Binding) -> str:
        return self._values.path("organizations", binding.organization, binding.provider, binding.credential)


def _parts(sealed: bytes) -> Reference:
    try:
        return Reference.decode(sealed)
    except Malformed as error:
        raise CannotOpen(str(error)) from None


def _digest(value: Secret) -> bytes:
    return hashlib.sha256(value.reveal()).digest()


def _described(binding: Binding, number: int, about: Mapping[str, str]) -> dict[str, str]:
    return {
        **about,
        "kept_by": "keybroker",
        "organization_id": binding.organization,
        "credential_id": binding.credential,
        "newest": f"version {binding.version} of the credential is version {number} here",
    }

"""Customers' keys as values in KV v2, by organization, provider and credential.

::

    MOUNT/data/PREFIX/organizations/ORGANIZATION/PROVIDER/CREDENTIAL     {"key": …, "version": "3", "mark": …}
    MOUNT/data/PREFIX/broker/master-keys                                  what the broker seals its own values with

A row holds a reference (``broker.formats.kv_reference``): the path, KV's number of the value, and its digest sealed to
the row's place.  Writes check and set.  Every version of a credential is one KV version.  What is destroyed stays
destroyed.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import replace

from broker.base.clock import Clock
from broker.base.db import Database
from broker.base.secret import Secret
from broker.formats.envelope import Binding, Malformed
from broker.formats.kv_reference import WRITE_TAG_BYTES, Reference, is_reference
from broker.keystore import orphans
from broker.keystore.envelope import EnvelopeKeystore
from broker.keystore.keystore import NOTHING_KNOWN, CannotOpen, KeyGone, KeystoreUnavailable
from broker.keystore.vault.masterkeys import KvKeyWrapper
from broker.keystore.vault.values import Values

_KEEPS = "credential"
_TRIES = 5


class KvKeystore:
    """A :class:`~broker.keystore.keystore.Keystore` that keeps customers' keys in KV.

    The broker's own values are sealed under ``keys``, which lie in KV too: its signing keys, the private keys of open
    links, webhooks.  So are the proofs of customers' keys.
    """

    def __init__(self, values: Values, keys: KvKeyWrapper, db: Database, clock: Clock) -> None:
        self._values = values
        self._keys = keys
        self._own = EnvelopeKeystore(keys)
        self._db = db
        self._clock = clock

    async def seal(self, value: Secret, binding: Binding, about: Mapping[str, str] = NOTHING_KNOWN) -> bytes:
        """Put the value in KV; it is an orphan until its reference is stored."""
        if binding.purpose != _KEEPS:
            return await self._own.seal(value, binding)
        path = self._path(binding)
        proof = await self._own.seal(Secret(_digest(value)), binding)
        for _ in range(_TRIES):
            newest, write_tag = await self._values.newest(path), secrets.token_bytes(WRITE_TAG_BYTES)
            reference = Reference(path, newest + 1, write_tag, proof).encode()
            await orphans.begin(self._db, reference, self._clock)
            await self._values.describe(path, _described(binding, newest + 1, about))
            content = {"key": value.reveal_text(), "version": str(binding.version), "mark": write_tag.hex()}
            if await self._values.put(path, content, newest):
                return reference
        raise KeystoreUnavailable("Others write to the same path in Vault all the time; try again.", cause="busy")

    async def open(self, sealed: bytes, binding: Binding) -> Secret:
        if not is_reference(sealed):
            return await self._own.open(sealed, binding)
        reference = _parts(sealed)
        if reference.path != self._path(binding):
            raise CannotOpen("a reference does not belong here")
        proof = await self._own.open(reference.seal, binding)
        found = await self._values.get(reference.path, reference.number)
        if found is None:
            raise KeyGone
        value = Secret(str(found.get("key", "")).encode())
        if not hmac.compare_digest(_digest(value), proof.reveal()):
            raise CannotOpen("the value in Vault is not the one that was put there")
        return value

    async def newest(self, purpose: str) -> str:  # noqa: ARG002 - of a customer's key, the proof's
        return await self._keys.newest()

    async def rewrap(self, sealed: bytes, binding: Binding, about: Mapping[str, str] = NOTHING_KNOWN) -> bytes | None:  # noqa: ARG002 - the value stays
        """Wrap the proof's data key again; the value in KV is not touched."""
        if not is_reference(sealed):
            return await self._own.rewrap(sealed, binding)
        reference = _parts(sealed)
        proof = await self._own.rewrap(reference.seal, binding)
        return None if proof is None else replace(reference, seal=proof).encode()

    async def erase(self, sealed: bytes) -> None:
        """Destroy the value in KV.

        If nothing is under the number yet, the number is used up: a write that was given up and comes late then fails.
        """
        if not is_reference(sealed):
            return
        reference = _parts(sealed)
        path, number = reference.path, reference.number
        for _ in range(_TRIES):
            found = await self._values.get(path, number)
            if found is not None:
                # Somebody else may have put something there first, under the number.
                if found.get("mark") == reference.write_tag.hex():
                    await self._values.destroy(path, number)
                return
            there = await self._values.numbers(path)
            if number in there.destroyed:
                return
            if number in there.known:
                await self._destroy_deleted(sealed, reference)
                return
            if there.newest != number - 1 or await orphans.was_stored(self._db, sealed):
                return  # KV forgot it, or it was deleted with its path; no write can be on its way to it
            await self._values.put(path, {"mark": reference.write_tag.hex()}, number - 1)
        raise KeystoreUnavailable("Others write to the same path in Vault all the time; try again.", cause="busy")

    async def _destroy_deleted(self, sealed: bytes, reference: Reference) -> None:
        """Destroy a value that somebody deleted in a way that lets it be restored.

        Whose it is can't be read.
        """
        if not await orphans.was_stored(self._db, sealed):
            raise KeystoreUnavailable(
                f"Version {reference.number} of {reference.path} was deleted in Vault and not destroyed, and nothing "
                "tells whose it is; an operator must undelete or destroy it there.",
                cause="deleted",
            )
        await self._values.destroy(reference.path, reference.number)

    async def check(self) -> None:
        await self._values.check()
        await self._keys.check()
        await self._own.check()

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

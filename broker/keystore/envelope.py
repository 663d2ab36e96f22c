"""Envelope encryption (NIST SP 800-57): a fresh AES-256-GCM data key for each value.

A key wrapper wraps the data key.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from broker.base.secret import Secret
from broker.formats.envelope import NONCE_BYTES, Binding, Envelope, Malformed
from broker.keystore.keystore import NOTHING_KNOWN, CannotOpen, KeyWrapper

_PROBE = Binding("readiness")


class EnvelopeKeystore:
    """A :class:`~broker.keystore.keystore.Keystore` over any key wrapper."""

    def __init__(self, wrapper: KeyWrapper) -> None:
        self._wrapper = wrapper

    async def seal(self, value: Secret, binding: Binding, about: Mapping[str, str] = NOTHING_KNOWN) -> bytes:  # noqa: ARG002 - nobody browses rows
        data_key = AESGCM.generate_key(bit_length=256)
        kek_id, wrapped = await self._wrapper.wrap(data_key, binding)
        nonce = os.urandom(NONCE_BYTES)
        ciphertext = AESGCM(data_key).encrypt(nonce, value.reveal(), binding.associated_data())
        return Envelope(kek_id, wrapped, nonce, ciphertext).encode()

    async def open(self, sealed: bytes, binding: Binding) -> Secret:
        parts = _parts(sealed)
        data_key = await self._wrapper.unwrap(parts.kek_id, parts.wrapped_key, binding)
        try:
            return Secret(AESGCM(data_key).decrypt(parts.nonce, parts.ciphertext, binding.associated_data()))
        except InvalidTag:
            raise CannotOpen("a sealed value was altered") from None

    async def newest(self, purpose: str) -> str:  # noqa: ARG002 - one for all
        return await self._wrapper.newest()

    async def rewrap(self, sealed: bytes, binding: Binding, about: Mapping[str, str] = NOTHING_KNOWN) -> bytes | None:  # noqa: ARG002 - nobody browses rows
        """Wrap the data key again; the value itself is not touched."""
        parts = _parts(sealed)
        if parts.kek_id == await self._wrapper.newest():
            return None
        data_key = await self._wrapper.unwrap(parts.kek_id, parts.wrapped_key, binding)
        kek_id, wrapped = await self._wrapper.wrap(data_key, binding)
        return Envelope(kek_id, wrapped, parts.nonce, parts.ciphertext).encode()

    async def erase(self, sealed: bytes) -> None:
        """Do nothing: the row is all there is."""

    async def check(self) -> None:
        await self.open(await self.seal(Secret(b"ready"), _PROBE), _PROBE)


def _parts(sealed: bytes) -> Envelope:
    try:
        return Envelope.decode(sealed)
    except Malformed as error:
        raise CannotOpen(str(error)) from None

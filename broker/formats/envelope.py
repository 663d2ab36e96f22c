"""The layout of a sealed value, and the associated data that ties it to its place.

::

    01                                   version
    len8  kek id (ASCII)                 which key-encryption key wrapped the data key
    len16 wrapped data key               opaque to this module
    12    nonce
    rest  AES-256-GCM ciphertext and tag of the value, under the data key

Both the wrapped key and the value are authenticated together with :meth:`Binding.associated_data`.  So a sealed value
that is copied to another row (another tenant, credential, version, provider or purpose) does not open.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from broker.formats import canonical

VERSION = 1
NONCE_BYTES = 12
_KEK_ID_MAX = 64
_TAG_BYTES = 16


class Malformed(ValueError):
    """Bytes that :func:`Envelope.encode` would not print."""


@dataclass(frozen=True, slots=True)
class Binding:
    """Where a sealed value belongs.  Fields that a purpose does not use are empty."""

    purpose: str
    organization: str = ""
    credential: str = ""
    version: int = 0
    provider: str = ""

    def associated_data(self) -> bytes:
        """The canonical bytes that seal and open authenticate."""
        return _associated_data(self)


@lru_cache(maxsize=4_096)
def _associated_data(binding: Binding) -> bytes:
    return canonical.encode(
        "keybroker/envelope/v1",
        binding.purpose,
        binding.organization,
        binding.credential,
        binding.version,
        binding.provider,
    )


class Envelope(NamedTuple):
    """A sealed value: its parts, one by one."""

    kek_id: str
    wrapped_key: bytes
    nonce: bytes
    ciphertext: bytes

    def encode(self) -> bytes:
        """The bytes that are stored."""
        kek_id = self.kek_id.encode("ascii")
        if not 0 < len(kek_id) <= _KEK_ID_MAX or len(self.nonce) != NONCE_BYTES:
            raise Malformed("key id of 1 to 64 ASCII characters and a nonce of 12 bytes needed")
        return b"".join(
            (
                bytes((VERSION, len(kek_id))),
                kek_id,
                len(self.wrapped_key).to_bytes(2, "big"),
                self.wrapped_key,
                self.nonce,
                self.ciphertext,
            )
        )

    @classmethod
    def decode(cls, data: bytes) -> Envelope:
        """The parts of stored bytes.

        Raises:
            Malformed: unknown version, or lengths that do not add up.
        """
        if len(data) < 2 or data[0] != VERSION:
            raise Malformed("unknown version of a sealed value")
        id_end = 2 + data[1]
        wrapped_start = id_end + 2
        wrapped_end = wrapped_start + int.from_bytes(data[id_end:wrapped_start], "big")
        nonce_end = wrapped_end + NONCE_BYTES
        if not 0 < data[1] <= _KEK_ID_MAX or len(data) < nonce_end + _TAG_BYTES:
            raise Malformed("a sealed value is cut off")
        if not data[2:id_end].isascii():
            raise Malformed("a key id is ASCII")
        return cls(
            data[2:id_end].decode("ascii"),
            data[wrapped_start:wrapped_end],
            data[wrapped_end:nonce_end],
            data[nonce_end:],
        )

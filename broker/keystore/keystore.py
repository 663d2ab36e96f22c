"""What a keystore does, whatever holds its master key."""

from __future__ import annotations

from typing import Protocol

from broker.base.errors import Unavailable
from broker.base.secret import Secret
from broker.formats.envelope import Binding


class KeystoreUnavailable(Unavailable):
    """The master key can't be reached just now; nothing was revealed."""

    code = "keystore_unavailable"


class CannotOpen(Exception):
    """A sealed value does not belong where it was found, or was altered.  Never shown to a caller."""


class Keystore(Protocol):
    """Seals values to a place and opens them there."""

    async def seal(self, value: Secret, binding: Binding) -> bytes:
        """The stored form of ``value``; only :meth:`open` with an equal ``binding`` gives it back."""
        ...

    async def open(self, sealed: bytes, binding: Binding) -> Secret:
        """The value.

        Raises:
            CannotOpen: another binding, or altered bytes.
            KeystoreUnavailable: the master key can't be reached.
        """
        ...

    async def rewrap(self, sealed: bytes, binding: Binding) -> bytes | None:
        """The same value with its data key wrapped by the active master key; None where it already is."""
        ...


class KeyWrapper(Protocol):
    """Wraps data keys under master keys that it holds by id."""

    @property
    def active(self) -> str:
        """The id of the master key that new data keys are wrapped with."""
        ...

    async def wrap(self, data_key: bytes, binding: Binding) -> tuple[str, bytes]:
        """The id of the master key used, and the wrapped data key."""
        ...

    async def unwrap(self, kek_id: str, wrapped: bytes, binding: Binding) -> bytes:
        """The data key; raises CannotOpen or KeystoreUnavailable."""
        ...

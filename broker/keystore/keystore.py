"""What a keystore does, whatever holds its master key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from broker.base.errors import Unavailable
from broker.base.secret import Secret
from broker.formats.envelope import Binding


class KeystoreUnavailable(Unavailable):
    """The master key can't be reached just now; nothing was revealed.

    ``cause`` is a stable word for it.
    """

    code = "keystore_unavailable"

    def __init__(self, public: str, *, cause: str = "master_key", **members: Any) -> None:
        super().__init__(public, cause=cause, **members)
        self.cause = cause

    @property
    def away(self) -> bool:
        """Whether nothing can be done with the keystore just now.

        Otherwise it may be this one value.
        """
        return self.cause in _AWAY


class KeyGone(KeystoreUnavailable):
    """One customer's key is not where it was put: somebody deleted it there, and may restore it."""

    def __init__(self) -> None:
        super().__init__(
            "The key was deleted in Vault; an operator must restore it there, or ask the customer for a new one.",
            cause="gone",
        )


_AWAY = frozenset(
    {
        *("unreachable", "certificate", "slow", "busy", "sealed", "standby", "token"),
        *("credentials_missing", "credentials_open"),
    }
)


class CannotOpen(Exception):
    """A sealed value does not belong to where it was found, or was altered.

    Never shown to a caller.
    """


NOTHING_KNOWN: Mapping[str, str] = {}


class Keystore(Protocol):
    """Seals values to a place and opens them there.

    Sealing may write outside of the database.  So it is done before the transaction that stores what it returns; see
    ``broker.keystore.orphans``.
    """

    async def seal(self, value: Secret, binding: Binding, about: Mapping[str, str] = NOTHING_KNOWN) -> bytes:
        """The stored form of ``value``.

        Only :meth:`open` with an equal ``binding`` gives the value back.  ``about`` are words for people who meet the
        value where it is kept: never secrets.
        """
        ...

    async def open(self, sealed: bytes, binding: Binding) -> Secret:
        """The value that was sealed.

        Raises:
            CannotOpen: another binding, or altered bytes.
            KeystoreUnavailable: the master key can't be reached.
        """
        ...

    async def newest(self, purpose: str) -> str:
        """The id of the master key that :meth:`rewrap` moves values of a purpose to.

        Raises:
            KeystoreUnavailable: the master key can't be reached.
        """
        ...

    async def rewrap(self, sealed: bytes, binding: Binding, about: Mapping[str, str] = NOTHING_KNOWN) -> bytes | None:
        """The same value with its data key wrapped by the active master key.

        None if it already is.
        """
        ...

    async def erase(self, sealed: bytes) -> None:
        """Destroy what of a sealed value lies outside of the database.  Idempotent.

        If nothing does, nothing is done.

        Raises:
            KeystoreUnavailable: it is not destroyed yet.
        """
        ...

    async def check(self) -> None:
        """Check that values can be sealed and opened now; raises KeystoreUnavailable."""
        ...


class KeyWrapper(Protocol):
    """Wraps data keys under master keys that it holds by id."""

    async def newest(self) -> str:
        """The id of the master key that new data keys are wrapped with."""
        ...

    async def wrap(self, data_key: bytes, binding: Binding) -> tuple[str, bytes]:
        """Wrap a data key.

        Returns:
            The id of the master key that was used, and the wrapped data key.
        """
        ...

    async def unwrap(self, kek_id: str, wrapped: bytes, binding: Binding) -> bytes:
        """The data key; raises CannotOpen or KeystoreUnavailable."""
        ...

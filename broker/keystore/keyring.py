"""Several keystores as one: the one that sealed a value opens it, the active one seals.

So a broker serves while its values move from one keystore to another.  If the active one is a Vault, customers' keys
and the internal root go to it.  What the broker seals for itself is sealed under the root.
"""

from __future__ import annotations

from collections.abc import Mapping

from broker.base.secret import Secret
from broker.formats.envelope import Binding, Envelope, Malformed
from broker.formats.kv_reference import Reference, is_reference
from broker.keystore.internal import INTERNAL_ROOT, INTERNAL_ROOT_KEK, ROOT
from broker.keystore.keystore import NOTHING_KNOWN, CannotOpen, Keystore, KeystoreUnavailable
from broker.keystore.vault.masterkeys import PREFIX as KV
from broker.keystore.vault.transit import PREFIX as TRANSIT

# What goes to the chosen keystore wherever it is.
_THEIRS = frozenset({"credential", ROOT.purpose})


class Keyring:
    """A :class:`~broker.keystore.keystore.Keystore` over others, by name.

    The names are ``local``, ``vault-transit`` and ``vault-kv``.
    """

    def __init__(self, stores: Mapping[str, Keystore], active: str) -> None:
        self._stores = stores  # not copied: the one under the root joins once the root is open
        self._active = active

    def _sealer(self, purpose: str) -> Keystore:
        if self._active != "local" and purpose not in _THEIRS and INTERNAL_ROOT in self._stores:
            return self._stores[INTERNAL_ROOT]
        return self._stores[self._active]

    async def seal(self, value: Secret, binding: Binding, about: Mapping[str, str] = NOTHING_KNOWN) -> bytes:
        return await self._sealer(binding.purpose).seal(value, binding, about)

    async def open(self, sealed: bytes, binding: Binding) -> Secret:
        # lease (10) the key itself, if it is to be revealed
        return await self._holder(sealed).open(sealed, binding)

    async def newest(self, purpose: str) -> str:
        return await self._sealer(purpose).newest(purpose)

    async def rewrap(self, sealed: bytes, binding: Binding, about: Mapping[str, str] = NOTHING_KNOWN) -> bytes | None:
        """Wrap a value's data key again; a value of another keystore moves to the active one."""
        holder, active = self._holder(sealed), self._sealer(binding.purpose)
        if holder is active:
            return await active.rewrap(sealed, binding, about)
        value = await holder.open(sealed, binding)
        moved = await active.seal(value, binding, about)
        if await active.open(moved, binding) != value:
            raise KeystoreUnavailable(
                "A value that was moved does not open as it was; it stays where it is.", cause="altered"
            )
        return moved

    async def erase(self, sealed: bytes) -> None:
        await self._holder(sealed).erase(sealed)

    async def check(self) -> None:
        """Check the active keystore."""
        await self._stores[self._active].check()

    def _holder(self, sealed: bytes) -> Keystore:
        name = keystore_of(sealed)
        try:
            return self._stores[name]
        except KeyError:
            raise KeystoreUnavailable(
                f"This value was sealed by the keystore {name}, which this broker is not set up for.",
                cause="not_configured",
            ) from None


def kek_of(sealed: bytes) -> str:
    """The id of the master key that a sealed value needs.

    The value may be the proof of one that is kept elsewhere.

    Raises:
        CannotOpen: it is neither.
    """
    try:
        return Envelope.decode(Reference.decode(sealed).seal if is_reference(sealed) else sealed).kek_id
    except Malformed as error:
        raise CannotOpen(str(error)) from None


def keystore_of(sealed: bytes) -> str:
    """The name of the keystore that sealed a value; raises CannotOpen."""
    return name_of(kek_of(sealed))


def name_of(kek_id: str) -> str:
    """The name of the keystore that holds a master key."""
    if kek_id == INTERNAL_ROOT_KEK:
        return INTERNAL_ROOT
    if kek_id.startswith(TRANSIT):
        return "vault-transit"
    return "vault-kv" if kek_id.startswith(KV) else "local"

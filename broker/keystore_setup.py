"""Keystores from settings: each opens what it sealed, the chosen one seals what is new."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import func, select

from broker import schema
from broker.base.clock import Clock
from broker.base.db import EVERY_TENANT, Database
from broker.config import Settings
from broker.credentials.tables import VersionRow
from broker.formats.kv_reference import VERSION as A_REFERENCE
from broker.keystore.cached import Cached
from broker.keystore.envelope import EnvelopeKeystore
from broker.keystore.internal import InternalKeyRow
from broker.keystore.keyring import Keyring, keystore_of
from broker.keystore.keystore import Keystore
from broker.keystore.local import LocalKeyWrapper, MasterKeys, MasterKeysUnusable
from broker.keystore.vault.batches import InBatches
from broker.keystore.vault.kv import KvKeystore
from broker.keystore.vault.login import AppRole, Jwt, Login, TokenFile
from broker.keystore.vault.masterkeys import KvKeyWrapper
from broker.keystore.vault.server import Address, Vault
from broker.keystore.vault.transit import TransitWrapper
from broker.keystore.vault.values import Values


@dataclass(frozen=True, slots=True)
class Keystores:
    """The keystores of a deployment, by name.

    Also what Vault's master keys and values are looked after with.
    """

    stores: dict[str, Keystore]
    vault: Vault | None
    transit: TransitWrapper | None
    kv_keys: KvKeyWrapper | None
    values: Values | None

    def chosen(self, name: str) -> Keystore:
        """All of them as one; ``name`` seals what is new."""
        return Keyring(self.stores, name)

    def moving_to(self, name: str) -> Keystore:
        """As :meth:`chosen`, for whoever asks for many values at once."""
        if self.transit is None:
            return self.chosen(name)
        return Keyring({**self.stores, "vault-transit": EnvelopeKeystore(InBatches(self.transit))}, name)


@asynccontextmanager
async def opened(settings: Settings, db: Database, clock: Clock, *, may_create: bool) -> AsyncIterator[Keystores]:
    """Every keystore that is set up.

    ``may_create`` lets a first start make the local master key file.

    Raises:
        MasterKeysUnusable: names the file and the fix.
    """
    stores: dict[str, Keystore] = {}
    if settings.keystore == "local" or settings.master_keys is not None or settings.key_file().exists():
        if not may_create:
            await _refuse_if_never_begun(settings, db)
        stores["local"] = local(settings, may_create=may_create and settings.keystore == "local")
    if not settings.vault_url:
        yield Keystores(stores, None, None, None, None)
        return
    vault = _vault(settings, _login(settings))
    transit = TransitWrapper(vault, settings.vault_transit_mount, settings.vault_transit_key)
    values = Values(vault, settings.vault_kv_mount, settings.vault_kv_prefix)
    kv_keys = KvKeyWrapper(values, _nothing_in_kv(db))
    stores["vault-transit"] = EnvelopeKeystore(transit)
    stores["vault-kv"] = KvKeystore(values, kv_keys, db, clock)
    vault.start()
    try:
        yield Keystores(stores, vault, transit, kv_keys, values)
    finally:
        await vault.close()


async def nothing_sealed(db: Database) -> bool:
    """Whether nothing was ever sealed in this database, so that a missing master key is no loss."""
    if await schema.is_empty(db):
        return True
    async with db.read(EVERY_TENANT) as session:
        return await session.scalar(select(InternalKeyRow.name).limit(1)) is None


async def _refuse_if_never_begun(settings: Settings, db: Database) -> None:
    """Tell a new deployment how to begin, not to restore what it never had."""
    if settings.master_keys is None and not settings.key_file().exists() and await nothing_sealed(db):
        raise MasterKeysUnusable(
            f"{settings.key_file()}: there is no master key file yet, and nothing in the database needs one. Make the "
            "first with `broker keystore init`, give every broker that file, and back it up apart from the database"
        )


def in_force(settings: Settings, keystores: Keystores) -> Keystore:
    """The keystore that the broker works with."""
    keystore = keystores.chosen(settings.keystore)
    if settings.keystore_cache_seconds:
        return Cached(keystore, settings.keystore_cache_seconds)
    return keystore


def local(settings: Settings, *, may_create: bool) -> EnvelopeKeystore:
    """The keystore over local master keys; see :func:`opened`."""
    if settings.master_keys is not None:
        keys = MasterKeys.from_text(settings.master_keys.get_secret_value(), "BROKER_MASTER_KEYS")
        return EnvelopeKeystore(LocalKeyWrapper(keys))
    path = settings.key_file()
    if may_create and not path.exists():
        MasterKeys({}, "").with_new_key().write_file(path)
    return EnvelopeKeystore(LocalKeyWrapper(MasterKeys.from_file(path), path))


@asynccontextmanager
async def values_as(settings: Settings, token_file: Path) -> AsyncIterator[Values]:
    """The values in KV as whoever holds the token in a file sees them.

    The broker itself may list none.
    """
    vault = _vault(settings, TokenFile(token_file))
    try:
        yield Values(vault, settings.vault_kv_mount, settings.vault_kv_prefix)
    finally:
        await vault.close()


def _vault(settings: Settings, login: Login) -> Vault:
    address = Address(settings.vault_url, settings.vault_namespace, settings.vault_ca_file)
    return Vault(address, login, connections=settings.vault_connections, timeout=settings.vault_timeout)


def _nothing_in_kv(db: Database) -> Callable[[], Awaitable[bool]]:
    """Asks whether nothing in the database needs master keys in KV.

    Neither the internal root nor a customer's key then does.
    """

    async def unused() -> bool:
        in_kv = func.substr(VersionRow.sealed, 1, 1) == bytes((A_REFERENCE,))
        async with db.read(EVERY_TENANT) as session:
            root = await session.scalar(select(InternalKeyRow.sealed))
            kept = await session.scalar(select(VersionRow.number).where(in_kv).limit(1))
        return kept is None and (root is None or keystore_of(root) != "vault-kv")

    return unused


def _login(settings: Settings) -> Login:
    """How to sign in to Vault; settings are checked to be whole."""
    mount = settings.vault_auth_mount or settings.vault_auth
    if settings.vault_auth == "token":
        assert settings.vault_token_file is not None
        return TokenFile(settings.vault_token_file)
    if settings.vault_auth == "approle":
        assert settings.vault_secret_id_file is not None
        return AppRole(mount, settings.vault_role_id, settings.vault_secret_id_file)
    assert settings.vault_jwt_file is not None
    return Jwt(settings.vault_auth, mount, settings.vault_role, settings.vault_jwt_file)

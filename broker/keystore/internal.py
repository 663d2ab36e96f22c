"""The broker's own keys: one random internal root, and a subkey for each use.

The root is sealed in the database.  Subkeys are made of it by HKDF (RFC 5869).  Replacing the master key re-wraps the
root and changes nothing below it, so fingerprints and tokens stay stable.
"""

from __future__ import annotations

import hmac
import secrets
from contextlib import suppress

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, mapped_column

from broker.base.clock import Millis
from broker.base.db import EVERY_TENANT, Database, Table
from broker.base.secret import Secret
from broker.formats.envelope import Binding
from broker.formats.ml_dsa import MlDsaSigner
from broker.formats.signed_note import Signer
from broker.keystore.columns import sealed_column
from broker.keystore.envelope import EnvelopeKeystore
from broker.keystore.keystore import CannotOpen, Keystore
from broker.keystore.local import LocalKeyWrapper, MasterKeys

ROOT = Binding("internal-root")
# The name of the keystore under the internal root, and the id of its one key-encryption key.
INTERNAL_ROOT = "own"
INTERNAL_ROOT_KEK = f"{INTERNAL_ROOT}/root"


class InternalKeyRow(Table):
    """The internal root, sealed."""

    __tablename__ = "internal_keys"

    name: Mapped[str] = mapped_column(primary_key=True)
    sealed: Mapped[bytes] = sealed_column(lambda _row: ROOT)
    created_at: Mapped[Millis]


class InternalKeys:
    """Subkeys of the internal root, 32 bytes each.

    The database's name is made of the root, too.
    """

    def __init__(self, root: Secret) -> None:
        self._root = root
        self.token_hash = self._subkey("token-hash")
        self.lease_token = self._subkey("lease-token")
        self._fingerprint = self._subkey("fingerprint")
        self._evidence = self._subkey("evidence")
        # These uses had one key between them. It stays that of links and status codes, as those are out there.
        self.proof = self.status = self.idempotency_previous = self._subkey("link")
        self.idempotency = self._subkey("idempotency")
        self.throttle = self._subkey("throttle")
        self.lease_id = self._subkey("lease-id")
        self._seal = self._subkey("seal")
        self._leak = self._subkey("leak")
        self.rows = self._subkey("rows")
        # Wraps the keys of data subjects (broker.formats.personal_part).
        self.subjects = self._subkey("subjects")
        # The same in every backup of this database, whatever its schema, and in no other.
        self.database_id = self._subkey("database-id")[:16].hex()
        self.challenge = self._subkey("challenge")
        # What authenticators know people's accounts by.
        self.user_handle = self._subkey("user-handle")
        self.signing_in = self._subkey("sign-in")
        self.dpop_nonce = self._subkey("dpop-nonce")
        # Signs what leaves the record. What verifies it is told to others, so it outlives master keys.
        self.archives = Signer(f"keybroker-record/{self.database_id}", self._subkey("archives"))
        self.certifying = Signer(f"keybroker-certificates/{self.database_id}", self._subkey("certificates"))

    def log(self, epoch: int, number: int = 0) -> Signer:
        """What signs the log's checkpoints; its name is the log's origin.

        ``epoch`` is when the series of the record began, 0 in the first: a restored database is another log.
        ``number`` is the key's within the epoch, which counts changes of the key.
        """
        origin = f"keybroker-log/{self.database_id}/{epoch}"
        return Signer(origin, self._subkey(f"log/{epoch}/{number}" if number else f"log/{epoch}"))

    def log_ml_dsa(self, epoch: int, number: int = 0) -> MlDsaSigner:
        """What signs the checkpoints of :meth:`log` once more, under the same name."""
        return MlDsaSigner(self.log(epoch).name, self._subkey(f"log-ml-dsa/{epoch}/{number}"))

    def _subkey(self, use: str) -> bytes:
        return HKDFExpand(SHA256(), 32, b"keybroker/internal/v1/" + use.encode()).derive(self._root.reveal())

    def keystore(self) -> EnvelopeKeystore:
        """What seals the broker's own values under the internal root.

        It does so if the master key is with a Vault.  Taking a key back, or sending a customer a link, must not have to
        wait for that Vault.
        """
        return EnvelopeKeystore(_RootWrapper(self._seal))

    def fingerprint(self, key: Secret) -> str:
        """The keyed fingerprint of a customer's key: 128 bits in hexadecimal, equal for equal keys."""
        return hmac.digest(self._fingerprint, key.reveal(), "sha256")[:16].hex()

    def leak_fingerprint(self, digest: str) -> str:
        """The keyed hash by which a key is recognised where it should not be.

        It is made of the key's SHA-256 (hexadecimal), as scanners send that.
        """
        return hmac.digest(self._leak, digest.encode(), "sha256")[:16].hex()

    def evidence(self, provider: str, identifier: str) -> str:
        """The keyed hash under which an id that the upstream returned is remembered."""
        return hmac.digest(self._evidence, f"{provider}\0{identifier}".encode(), "sha256").hex()


class _RootWrapper:
    """A :class:`~broker.keystore.keystore.KeyWrapper` over a subkey of the root.

    Its id is :data:`INTERNAL_ROOT_KEK`.
    """

    def __init__(self, key: bytes) -> None:
        self._local = LocalKeyWrapper(MasterKeys({"root": Secret(key)}, "root"))

    async def newest(self) -> str:
        return INTERNAL_ROOT_KEK

    async def wrap(self, data_key: bytes, binding: Binding) -> tuple[str, bytes]:
        return INTERNAL_ROOT_KEK, (await self._local.wrap(data_key, binding))[1]

    async def unwrap(self, kek_id: str, wrapped: bytes, binding: Binding) -> bytes:
        if kek_id != INTERNAL_ROOT_KEK:
            raise CannotOpen("a wrapped data key does not belong here")
        return await self._local.unwrap("root", wrapped, binding)


async def load(db: Database, keystore: Keystore, now: Millis) -> InternalKeys:
    """The internal keys, made on the first start.

    From here on ``db`` knows which of its rows the broker wrote.

    Raises:
        CannotOpen, KeystoreUnavailable: the loaded master keys did not seal this database's internal root.
    """
    sealed = await _stored(db)
    if sealed is None:
        fresh = await keystore.seal(Secret(secrets.token_bytes(32)), ROOT)
        # Of two replicas that start on an empty database, the first to insert decides.
        with suppress(IntegrityError):
            async with db.write(EVERY_TENANT) as session:
                session.add(InternalKeyRow(name="root", sealed=fresh, created_at=now))
        sealed = await _stored(db)
    assert sealed is not None
    keys = InternalKeys(await keystore.open(sealed, ROOT))
    db.row_key = keys.rows
    return keys


async def _stored(db: Database) -> bytes | None:
    async with db.read(EVERY_TENANT) as session:
        return await session.scalar(select(InternalKeyRow.sealed).where(InternalKeyRow.name == "root"))

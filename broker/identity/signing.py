"""The Ed25519 keys that sign access tokens: sealed at rest, published as a JWK Set (RFC 7517, RFC 8037)."""

from __future__ import annotations

import json
import warnings

from joserfc.jwk import KeySet, OKPKey
from sqlalchemy import select

from broker.base.db import EVERY_TENANT, Database
from broker.base.secret import Secret
from broker.identity.tables import SigningKeyRow, signing_binding
from broker.keystore.keystore import Keystore

# RFC 9864 renames the algorithm to Ed25519; RFC 8037's EdDSA is what deployed libraries still write and expect.
warnings.filterwarnings("ignore", message="EdDSA is deprecated via RFC 9864")


class SigningKeys:
    """Every signing key; the newest signs, all verify."""

    def __init__(self, db: Database, keystore: Keystore) -> None:
        self._db = db
        self._keystore = keystore
        self._keys: list[OKPKey] = []

    async def load(self, now: int) -> None:
        """Read the keys, making the first on first start; call again when an unknown ``kid`` is met."""
        rows = await self._rows()
        if not rows:
            key = OKPKey.generate_key("Ed25519", {"use": "sig", "alg": "EdDSA"}, auto_kid=True)
            private = Secret(json.dumps(key.as_dict(private=True)))
            sealed = await self._keystore.seal(private, signing_binding(str(key.kid)))
            async with self._db.write(EVERY_TENANT) as session:
                session.add(SigningKeyRow(kid=str(key.kid), sealed=sealed, created_at=now))
            rows = await self._rows()
        self._keys = [
            OKPKey.import_key(json.loads((await self._keystore.open(row.sealed, signing_binding(row.kid))).reveal()))
            for row in rows
        ]

    async def _rows(self) -> list[SigningKeyRow]:
        async with self._db.read(EVERY_TENANT) as session:
            return list(await session.scalars(select(SigningKeyRow).order_by(SigningKeyRow.created_at.desc())))

    @property
    def current(self) -> OKPKey:
        """The key that signs."""
        return self._keys[0]

    def verifying(self) -> KeySet:
        """The keys that verify."""
        return KeySet(list(self._keys))

    def knows(self, kid: str) -> bool:
        """Whether the key ``kid`` was loaded."""
        return any(key.kid == kid for key in self._keys)

    def public(self) -> dict[str, object]:
        """The JWK Set that is published."""
        return dict(self.verifying().as_dict(private=False))

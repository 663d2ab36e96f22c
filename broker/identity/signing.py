"""The Ed25519 keys that sign access tokens.

They are sealed at rest and published as a JWK Set (RFC 7517, RFC 8037).
"""

from __future__ import annotations

import asyncio
import json
import warnings

from joserfc.jwk import KeySet, OKPKey
from sqlalchemy import select

from broker.base.clock import Timepiece
from broker.base.db import EVERY_TENANT, Database
from broker.base.secret import Secret
from broker.identity.tables import SigningKeyRow, signing_binding
from broker.keystore.keystore import Keystore

# RFC 9864 renames the algorithm to Ed25519; RFC 8037's EdDSA is what deployed libraries still write and expect.
warnings.filterwarnings("ignore", message="EdDSA is deprecated via RFC 9864")

# Anybody can name a key that there isn't. That costs one look in so long, and another replica's new key waits as long.
_COOL_DOWN_MS = 5_000


class SigningKeys:
    """Every signing key; the newest signs, all verify."""

    def __init__(self, db: Database, keystore: Keystore, clock: Timepiece) -> None:
        self._db = db
        self._keystore = keystore
        self._clock = clock
        self._keys: list[OKPKey] = []
        self._looking: asyncio.Task[None] | None = None
        self._look_from = clock.steady()

    async def load(self) -> None:
        """Read the keys; the first start makes the first one."""
        rows = await self._rows()
        if not rows:
            key = OKPKey.generate_key("Ed25519", {"use": "sig", "alg": "EdDSA"}, auto_kid=True)
            private = Secret(json.dumps(key.as_dict(private=True)))
            sealed = await self._keystore.seal(private, signing_binding(str(key.kid)))
            async with self._db.write(EVERY_TENANT) as session:
                session.add(SigningKeyRow(kid=str(key.kid), sealed=sealed, created_at=self._clock()))
            rows = await self._rows()
        self._keys = [
            OKPKey.import_key(json.loads((await self._keystore.open(row.sealed, signing_binding(row.kid))).reveal()))
            for row in rows
        ]

    async def look_again(self) -> None:
        """Read the keys again because a ``kid`` is not known: another replica may have made it.

        All who come meanwhile wait for the same look.  Those who come within seconds after it go by what it found.

        Raises:
            SQLAlchemyError, KeystoreUnavailable, CannotOpen: it failed, so that the next one looks at once.
        """
        if self._looking is None:
            if self._clock.steady() < self._look_from:
                return
            self._looking = asyncio.create_task(self.load(), name="signing-keys")
            self._looking.add_done_callback(self._looked)
        await asyncio.shield(self._looking)  # a caller that leaves doesn't end the others' look

    def _looked(self, look: asyncio.Task[None]) -> None:
        self._looking = None
        if not look.cancelled() and look.exception() is None:
            self._look_from = self._clock.steady() + _COOL_DOWN_MS

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

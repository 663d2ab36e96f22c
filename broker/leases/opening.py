"""Open the key that a lease gives access to, or tell people why it can't be opened any more."""

from __future__ import annotations

import structlog

from broker.base.db import Scope
from broker.base.secret import Secret
from broker.credentials.lifecycle import Health
from broker.credentials.missing import note_missing
from broker.credentials.tables import VersionRow
from broker.grants.policy import AccessTarget
from broker.keystore.keystore import CannotOpen, KeyGone, KeystoreUnavailable
from broker.leases.snapshot import SealedKey, SnapshotCache
from broker.notifications.notices import notify
from broker.parts import Parts

_log = structlog.get_logger()


class Opening:
    """Opens keys that were decided on from a snapshot, which may be behind what is stored."""

    def __init__(self, parts: Parts, snapshots: SnapshotCache) -> None:
        self._db, self._keystore, self._clock = parts.db, parts.keystore, parts.clock
        self._snapshots = snapshots

    async def open(self, key: SealedKey, target: AccessTarget) -> Secret:
        """The key itself; its event is durable already.

        Raises:
            KeystoreUnavailable: not now, or not any more; people were told if they have to look. KeyGone: what the
                keystore held is gone; likewise.
        """
        try:
            return await self._keystore.open(key.sealed, key.binding)
        except (CannotOpen, KeystoreUnavailable):
            # The sealed bytes may have been re-wrapped since the snapshot.
            snapshot = await self._snapshots.get(target, fresh=True)
            again = snapshot.keys.same_as(key)
            if again is None:
                raise KeystoreUnavailable("The key can't be opened just now; try again.") from None
            try:
                return await self._keystore.open(again.sealed, again.binding)
            except KeyGone:
                await self._note_missing(again)
                raise
            except CannotOpen:
                await self._tell_unopenable(again, target)
                raise KeystoreUnavailable(
                    "The stored key can't be opened; an operator must look.", cause="altered"
                ) from None

    async def _note_missing(self, key: SealedKey) -> None:
        """Tell people; every use meets it, so what is known already takes no writer."""
        scope = Scope.of(key.organization)
        async with self._db.read(scope) as session:
            row = await session.get_one(VersionRow, (key.credential, key.number))
        if row.health != Health.GONE:
            async with self._db.write(scope) as session:
                await note_missing(session, key.credential, key.number, now=self._clock())

    async def _tell_unopenable(self, key: SealedKey, target: AccessTarget) -> None:
        """What is stored is not what was put there: somebody changed a row, or a value in Vault."""
        now, organization = self._clock(), key.organization
        _log.error("keystore.unopenable", credential=key.credential, version=key.number, organization=organization)
        async with self._db.write(Scope.of(organization)) as session:
            await notify(
                session,
                "key_unopenable",
                organization=organization,
                provider=target.provider,
                credential=key.credential,
                version=key.number,
                now=now,
                facts={"last4": key.last4},
                dedup=f"unopenable/{key.credential}/{key.number}",
            )

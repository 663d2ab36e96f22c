"""What is to be done about the keystore from time to time."""

from __future__ import annotations

from broker.base.clock import Clock
from broker.base.db import Database
from broker.base.duty import Counts, Duty
from broker.keystore.keystore import Keystore
from broker.keystore.orphans import sweep


def duties(db: Database, keystore: Keystore, clock: Clock) -> tuple[Duty, ...]:
    """The keystore's duties."""

    async def sweep_orphans() -> Counts:
        return {(): await sweep(db, keystore, clock())}

    return (Duty("sweep_orphans", sweep_orphans, final=True),)  # values are destroyed

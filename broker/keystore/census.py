"""How many sealed values are under the present master key, for people to look at.

The database is asked, so it is the same whoever moves them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from broker.base.db import Database
from broker.keystore import orphans
from broker.keystore.columns import under_master_keys
from broker.keystore.held import held_in
from broker.keystore.keyring import name_of
from broker.keystore.keystore import Keystore, KeystoreUnavailable


@dataclass(frozen=True, slots=True)
class Held:
    """How many values a master key of a keystore holds."""

    kek_id: str
    keystore: str
    values: int


@dataclass(frozen=True, slots=True)
class Standing:
    """Sealed values by master key.

    ``present`` is how many are under the present one, None if nobody can say which that is.  ``strays`` are values
    outside of the database that are yet to be destroyed, as far as they are counted.
    """

    keys: Sequence[Held]
    present: int | None
    total: int
    strays: int


@dataclass(frozen=True, slots=True)
class Census:
    """Counts what is sealed in one database, by a keystore."""

    db: Database
    keystore: Keystore

    async def now(self) -> Standing:
        """Where it stands at this moment."""
        held: Counter[str] = Counter()
        present: int | None = 0
        for place, here in await held_in(self.db, under_master_keys()):
            here.pop("", None)  # what no keystore made
            held.update(here)
            newest = await self._newest(place.purpose) if here else ""
            present = None if present is None or newest is None else present + here[newest]
        keys = [Held(kek_id, name_of(kek_id), count) for kek_id, count in sorted(held.items())]
        return Standing(keys, present, held.total(), await orphans.waiting(self.db, orphans.COUNTED))

    async def _newest(self, purpose: str) -> str | None:
        try:
            return await self.keystore.newest(purpose)
        except KeystoreUnavailable:
            return None

"""The challenges of passkeys' ceremonies: for one purpose, one browser and five minutes.

::

    challenge = random[16] | time, ms[8] | HMAC-SHA-256(key, canonical("keybroker/passkey-challenge/v1", random, time,
                purpose, holder))[:16]

The broker keeps nothing of a challenge that it gives out, so nobody fills the database by asking.  A challenge works
once: one that was used is a row for a day, which outlasts a clock that was wrong for a while.
"""

from __future__ import annotations

import hmac
import secrets
from typing import Literal

from sqlalchemy.ext.asyncio import AsyncSession

from broker.base.clock import DAY_MS, Clock, Millis
from broker.base.db import Database, upsert
from broker.base.errors import Conflict
from broker.base.pruning import forget
from broker.formats import canonical
from broker.identity.tables import UsedCeremonyRow

LASTS_MS = 300_000
_KEPT_MS = DAY_MS
_RANDOM, _TIME, _MAC = 16, 8, 16

Purpose = Literal["sign-in", "add"]


class CeremonyOver(Conflict):
    """The challenge is not this browser's, has expired or was used: the page begins again."""

    code = "ceremony_over"
    title = "That took too long, or was done already"

    def __init__(self) -> None:
        super().__init__("That took too long, or was done already. Try again.")


class Challenges:
    """Gives challenges out and takes each of them once."""

    def __init__(self, key: bytes, clock: Clock) -> None:
        self._key = key
        self._clock = clock

    def new(self, purpose: Purpose, holder: str) -> bytes:
        """A challenge for whoever holds the secret ``holder``: a browser, or a session."""
        said = secrets.token_bytes(_RANDOM) + self._clock().to_bytes(_TIME, "big")
        return said + self._mac(said, purpose, holder)

    def check(self, challenge: bytes, purpose: Purpose, holder: str) -> None:
        """Refuse a challenge that is not ours, is for another purpose or holder, or has expired.

        It asks neither the database nor anybody else.

        Raises:
            CeremonyOver: it is refused.
        """
        said, mac = challenge[:-_MAC], challenge[-_MAC:]
        if len(said) != _RANDOM + _TIME or not hmac.compare_digest(mac, self._mac(said, purpose, holder)):
            raise CeremonyOver
        # Another replica may have made it, and its clock may be ahead of this one.
        if abs(self._clock() - int.from_bytes(said[_RANDOM:], "big")) > LASTS_MS:
            raise CeremonyOver

    def _mac(self, said: bytes, purpose: Purpose, holder: str) -> bytes:
        parts = ("keybroker/passkey-challenge/v1", said[:_RANDOM], said[_RANDOM:], purpose, holder)
        return hmac.digest(self._key, canonical.encode(*parts), "sha256")[:_MAC]


async def claim(session: AsyncSession, challenge: bytes, now: Millis) -> None:
    """Use a checked challenge up, for all replicas; raises CeremonyOver if it was used."""
    used = upsert(session, UsedCeremonyRow).values(challenge=challenge, used_at=now).on_conflict_do_nothing()
    if (await session.execute(used.returning(UsedCeremonyRow.challenge))).first() is None:
        raise CeremonyOver


async def forget_used(db: Database, now: Millis) -> None:
    """Drop challenges that were used long ago."""
    await forget(db, UsedCeremonyRow, UsedCeremonyRow.used_at < now - _KEPT_MS, UsedCeremonyRow.used_at)

"""The nonces that proofs of links answer: each for one page and id, for two minutes, once.

::

    nonce = base64url( random[16] | time, ms[8] | HMAC-SHA-256(key, canonical("keybroker/challenge/v1", random, time,
                       page, id))[:16] )

The broker keeps nothing of a nonce that it gives out, so asking for many costs nothing and tells nobody whether there
is such a link.  A nonce that was used is a row for a day, which outlasts a clock that was wrong for a while.
"""

from __future__ import annotations

import hmac
import secrets

from sqlalchemy.exc import IntegrityError

from broker.base.clock import DAY_MS, Clock
from broker.base.db import EVERY_TENANT, Database
from broker.base.errors import Conflict
from broker.base.pruning import forget
from broker.formats import base64url, canonical
from broker.intake.tables import UsedChallengeRow

_LASTS_MS = 120_000
_KEPT_MS = DAY_MS
_RANDOM, _TIME, _MAC = 16, 8, 16


class ChallengeOver(Conflict):
    """The nonce is not one of ours, has expired or was used: the caller asks for another one."""

    code = "challenge_over"

    def __init__(self) -> None:
        super().__init__(
            "The challenge that this proof answers is over, or was used. Ask for another one, and try again."
        )


class Challenges:
    """Gives nonces out and takes each of them once."""

    def __init__(self, db: Database, key: bytes, clock: Clock) -> None:
        self._db = db
        self._key = key
        self._clock = clock

    def new(self, page: str, link_id: str) -> str:
        """A nonce for the link of that id, whether there is one or not."""
        said = secrets.token_bytes(_RANDOM) + self._clock().to_bytes(_TIME, "big")
        return base64url.encode(said + self._mac(said, page, link_id))

    def check(self, nonce: str, *, page: str, link_id: str) -> None:
        """Refuse a nonce that is not ours, is for another link or has expired.

        It asks neither the database nor anybody else.

        Raises:
            ChallengeOver: it is refused.
        """
        # submission (2) the nonce is ours, for this link, and not expired
        try:
            data = base64url.decode(nonce)
        except ValueError:
            raise ChallengeOver from None
        said, mac = data[:-_MAC], data[-_MAC:]
        if not hmac.compare_digest(mac, self._mac(said, page, link_id)):
            raise ChallengeOver
        # Another replica may have made it, and its clock may be ahead of this one.
        if abs(self._clock() - int.from_bytes(said[_RANDOM:], "big")) > _LASTS_MS:
            raise ChallengeOver

    async def claim(self, nonce: str) -> None:
        """Use a checked nonce up, for all replicas; raises ChallengeOver if somebody used it."""
        # submission (4) the nonce is used up
        try:
            async with self._db.write(EVERY_TENANT) as session:
                session.add(UsedChallengeRow(nonce=nonce, used_at=self._clock()))
        except IntegrityError:
            raise ChallengeOver from None

    async def forget(self) -> None:
        """Drop nonces that were used long ago."""
        old = UsedChallengeRow.used_at < self._clock() - _KEPT_MS
        await forget(self._db, UsedChallengeRow, old, UsedChallengeRow.used_at)

    def _mac(self, said: bytes, page: str, link_id: str) -> bytes:
        parts = ("keybroker/challenge/v1", said[:_RANDOM], said[_RANDOM:], page, link_id)
        return hmac.digest(self._key, canonical.encode(*parts), "sha256")[:_MAC]

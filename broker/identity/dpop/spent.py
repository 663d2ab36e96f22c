"""A proof is good once, on all replicas together.

A proxied call takes its proof from a quota of one, in the transaction of the use's own event: that costs a row among
those of a batch, and of two calls with one proof the record decides which was first.  Other requests write the same
row.  Its name begins with the minute that the proof is dated, so those whose time has passed are found by it.
"""

from __future__ import annotations

import hashlib
from typing import Final

from sqlalchemy import bindparam
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.quota import Total
from broker.audit.tables import QuotaRow
from broker.base.clock import Clock, Millis, of_seconds
from broker.base.db import EVERY_TENANT, UPSERTS, Database
from broker.base.duty import Duty
from broker.base.pruning import forget
from broker.identity.dpop.nonces import SKEW_S
from broker.identity.dpop.proof import PAST_S, Proof, ProofUsed

# Rows stay for longer than a proof is good, so that a clock that is set back a little makes none good again.
_LATE_S: Final = 900
_FAMILY: Final = "dpop/"
_MINUTE_S: Final = 60

_TAKE = {
    dialect: upsert(QuotaRow)
    .values(id=bindparam("quota"), value=bindparam("number"))
    .on_conflict_do_nothing()
    .returning(QuotaRow.id)
    for dialect, upsert in UPSERTS.items()
}


def once(proof: Proof, now: Millis) -> Total:
    """The quota that the one use of a proof takes from.

    Raises:
        ProofUsed: it was checked so long ago, as a body may be long in coming, that its row could be gone by now.
    """
    if now > of_seconds(proof.dated_s + PAST_S + SKEW_S):
        raise ProofUsed
    named = hashlib.sha256(f"{proof.jkt}\0{proof.jti}".encode()).digest()[:16].hex()
    return Total(f"{_minute(proof.dated_s)}/{named}", 1)


async def spend(db: Database, proof: Proof, now: Millis) -> None:
    """Take a proof's one use in a transaction of its own; raises as :func:`take`."""
    async with db.write(EVERY_TENANT) as session:
        await take(session, proof, now)


async def take(session: AsyncSession, proof: Proof, now: Millis) -> None:
    """Take a proof's one use.

    Raises:
        ProofUsed: it was taken already.
    """
    quota = once(proof, now)
    row = {"quota": quota.id, "number": quota.take(0, now)}
    if (await session.execute(_TAKE[session.get_bind().dialect.name], row)).first() is None:
        raise ProofUsed


def duty(db: Database, clock: Clock) -> Duty:
    """Forget proofs that are refused for their date."""

    async def forget_dpop_proofs() -> None:
        past = clock() // 1000 - PAST_S - _LATE_S
        over = QuotaRow.id.between(_FAMILY, _minute(past))
        await forget(db, QuotaRow, over, QuotaRow.id)

    return Duty("forget_dpop_proofs", forget_dpop_proofs, final=True)  # what was used once could be used again


def _minute(at_s: int) -> str:
    return f"{_FAMILY}{max(at_s, 0) // _MINUTE_S:09d}"

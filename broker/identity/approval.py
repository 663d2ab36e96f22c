"""The second person: who may approve what another one asked for.

Accounts are trees: each was made by another, but for those that were made with a one-time token, which only somebody
on the server can have printed.  Whoever made an account saw its token and may act as it.  So two accounts of one tree
may be one person, and what an account asks for is approved from another tree.
"""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncSession

from broker.base.errors import Conflict, Forbidden
from broker.identity.tables import OperatorRow

APPROVAL_MS = 72 * 3_600_000
_DEEPEST = 100


class NotASecondPerson(Forbidden):
    """Whoever approves could be the one who asked."""

    code = "not_a_second_person"
    title = "This needs a second person"


async def refuse_own(session: AsyncSession, asked_by: str, approver: str) -> None:
    """See that ``approver`` (an account's id) is somebody else than whoever asked.

    Raises:
        NotASecondPerson: it is the same account, or one made it, or a third one made both, or nobody can tell.
    """
    mine, theirs = await _root(session, approver), await _root(session, asked_by)
    if mine is None or theirs is None or mine == theirs:
        raise NotASecondPerson(
            "Your account and the one that asked go back to the same person, who could be both. Somebody whose account "
            "was made apart has to approve it: `broker migrate --new-token`, on the server, prints a one-time token "
            "for such a person."
        )


def refuse_late(asked_at: int, now: int) -> None:
    """Refuse to approve what was asked for too long ago; raises Conflict.  Both in milliseconds."""
    if now >= asked_at + APPROVAL_MS:
        raise Conflict("Nobody approved this within 72 hours; it has to be asked for again.")


def state_of(state: str, *, needs_approval: bool, approved_by: str | None, asked_at: int, now: int) -> str:
    """A row's state as people are shown it: ``waiting`` or ``expired`` where an approval is missing."""
    if state != "active" or not needs_approval or approved_by is not None:
        return state
    return "waiting" if now < asked_at + APPROVAL_MS else "expired"


async def _root(session: AsyncSession, operator_id: str) -> str | None:
    """The account at the root of this one's tree; None where it can't be told."""
    for _ in range(_DEEPEST):
        row = await session.get(OperatorRow, operator_id)
        if row is None or not row.genuine:
            return None
        if not row.created_by:
            return row.id
        operator_id = row.created_by
    return None

"""The second person: who may approve what another one asked for.

Accounts are trees: each was made by another.  Only those at a root were made with a one-time token, which only somebody
on the server can have printed.  Whoever made an account saw its token and may act as it.  So two accounts of one tree
may be one person, and what an account asks for is approved from another tree.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Protocol

from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.events import Actor
from broker.base.clock import Millis
from broker.base.errors import Conflict, Forbidden
from broker.base.validity import Validity
from broker.identity.principal import Role
from broker.identity.tables import AccountRow

APPROVAL_MS = 72 * 3_600_000
_DEEPEST = 100
_APPROVING = frozenset({Role.SECURITY, Role.ADMIN})
_SAME = "You asked for this yourself."
_KIN = "Your account and the one that asked go back to the same person, who could be both."


class Unapproved(StrEnum):
    """What a row shows while its approval is missing."""

    WAITING = "waiting"
    EXPIRED = "expired"  # nobody gave it in time


class NotASecondPerson(Forbidden):
    """Whoever approves could be the one who asked."""

    code = "not_a_second_person"
    title = "This needs a second person"


class Approvable(Protocol):
    """A row that gives nothing while its approval is missing.

    It is missing while ``needs_approval`` is set and ``approved_by`` is not.  Times are in milliseconds.
    """

    @property
    def id(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def needs_approval(self) -> bool: ...
    @property
    def created_at(self) -> int: ...
    @property
    def created_by(self) -> str: ...

    approved_by: Any
    approved_at: Any

    def vouched_for(self) -> None: ...


def in_force(row: Approvable) -> bool:
    """Whether the row gives what it says: it is not revoked, and its approval isn't missing."""
    return gives(row.state, row.approved_by, needs_approval=row.needs_approval)


def gives(state: str, approved_by: str | None, *, needs_approval: bool) -> bool:
    """As :func:`in_force`, of a row that was read without the ORM."""
    return state == Validity.ACTIVE and (not needs_approval or approved_by is not None)


def shown_state(row: Approvable, now: Millis) -> str:
    """``active``, ``revoked``, or while the approval is missing ``waiting`` or ``expired``."""
    if row.state != Validity.ACTIVE or in_force(row):
        return row.state
    return Unapproved.WAITING if now < row.created_at + APPROVAL_MS else Unapproved.EXPIRED


async def approved(session: AsyncSession, row: Approvable, actor: Actor, now: Millis) -> str:
    """Put ``actor``'s approval on a row that waits, as a second person's.

    Returns:
        Who asked, for the record.  Empty if it was approved already, so that nothing changes.

    Raises:
        Conflict: it doesn't wait, or has waited too long. RowAltered.
        NotASecondPerson: it is the same account that asked, or one made the other, or a third one made both, or
            nobody can tell.
    """
    if row.state != Validity.ACTIVE or not row.needs_approval:
        raise Conflict("This waits for nobody's approval.")
    if row.approved_by is not None:
        return ""
    row.vouched_for()
    if now >= row.created_at + APPROVAL_MS:
        raise Conflict("Nobody approved this within 72 hours; it has to be asked for again.")
    # Whom an identity provider brought along, nobody here has asked for; they may have done it themselves.
    asked = row.created_by or row.id
    mine, theirs = await _root(session, actor.id), await _root(session, asked)
    if mine is None or theirs is None or mine == theirs:
        raise NotASecondPerson(
            f"{_SAME if actor.id == asked else _KIN} Somebody whose account was made apart has to approve it: `broker "
            "operator recover`, on the server, gives out a one-time token for such a person."
        )
    row.approved_by, row.approved_at = actor.id, now
    return f"asked for by {asked}"


async def refuse_other_trees(session: AsyncSession, actor: Actor, account: AccountRow) -> None:
    """Refuse ``actor`` a way in to an account that may approve what they ask for.

    By it they would be their own second person.

    Raises:
        NotASecondPerson: the account was made apart from theirs, or nobody can tell.
    """
    if _APPROVING.isdisjoint(account.roles):
        return
    mine, theirs = await _root(session, actor.id), await _root(session, account.id)
    if mine is None or mine != theirs:
        raise NotASecondPerson(
            "This account was made apart from yours and may approve what you ask for, so you make no way in to it. "
            "Somebody whose account goes back to the same person does, or `broker operator recover`, on the server, "
            "lets them in anew."
        )


async def _root(session: AsyncSession, operator_id: str) -> str | None:
    """The account at the root of this one's tree; None if it can't be told."""
    for _ in range(_DEEPEST):
        row = await session.get(AccountRow, operator_id)
        if row is None or not row.genuine:
            return None
        if not row.created_by:
            return row.id
        operator_id = row.created_by
    return None

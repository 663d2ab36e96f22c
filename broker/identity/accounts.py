"""Which accounts a limited admin may make, see and end: those within the same limits.

Accounts are no tenant's, so neither fence between tenants says anything of them.  An admin may be limited to some
customers, and then looks after the accounts of those customers only: nothing that they make reaches further.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.base.db import Scope
from broker.base.errors import Forbidden, NotFound
from broker.base.validity import Validity
from broker.formats.ids import OperatorId, OrganizationId, Reference, is_id
from broker.identity.tables import AccountRow


class NoSuchOperator(NotFound):
    """There is none, or none within the limits of who asks."""

    def __init__(self) -> None:
        super().__init__("There is no such operator for you; `broker operator list` shows those that are.")


def refuse_beyond(scope: Scope, organizations: Sequence[OrganizationId] | None) -> None:
    """Refuse to make an account with wider limits than its maker's.

    Raises:
        Forbidden: it would have them.
    """
    if not scope.covers(_scope(organizations)):
        raise Forbidden("organizations: your account is limited to some organizations; name one or more of them.")


async def listed(session: AsyncSession, scope: Scope, *, after: str) -> Sequence[AccountRow]:
    """The accounts inside ``scope``, by id.

    The first is the one whose id comes next after ``after``.
    """
    # Accounts are people, a few hundred at most. Each database has its own way to ask for a list within a column.
    rows = await session.scalars(select(AccountRow).where(AccountRow.id > after).order_by(AccountRow.id))
    return [row for row in rows if scope.covers(_scope_of(row))]


async def of(session: AsyncSession, scope: Scope, ids: Sequence[OperatorId]) -> Sequence[AccountRow]:
    """Those of these accounts that are inside ``scope`` and were written by the broker."""
    if not ids:
        return ()
    rows = await session.scalars(select(AccountRow).where(AccountRow.id.in_(ids)))
    return [row for row in rows if row.genuine and scope.covers(_scope_of(row))]


async def find(session: AsyncSession, scope: Scope, reference: OperatorId | Reference) -> AccountRow:
    """The account of that id or name.  What has the form of an id is never a name.

    Of several with one name it is the one that is in force, else the last that was made.

    Raises:
        NoSuchOperator: there is none inside ``scope``.
    """
    if is_id(reference, OperatorId):
        row = await session.get(AccountRow, reference)
        found = [] if row is None else [row]
    else:
        newest = (AccountRow.state == Validity.ACTIVE, AccountRow.created_at, AccountRow.id)
        found = [*await session.scalars(select(AccountRow).where(AccountRow.name == reference).order_by(*newest))]
    seen = [row for row in found if scope.covers(_scope_of(row))]
    if not seen:
        raise NoSuchOperator
    return seen[-1]


async def named(session: AsyncSession, scope: Scope, reference: Reference) -> Sequence[OperatorId]:
    """The ids of the accounts of a name, of which one is in force at most.

    An id is taken as it is.

    Raises:
        NoSuchOperator: there is none of that name inside ``scope``.
    """
    if is_id(reference, OperatorId):
        return (reference,)
    rows = await session.scalars(select(AccountRow).where(AccountRow.name == reference))
    found = [row.id for row in rows if scope.covers(_scope_of(row))]
    if not found:
        raise NoSuchOperator
    return found


def _scope_of(row: AccountRow) -> Scope:
    # If something else than the broker wrote it, only those who see everything look at it.
    return _scope(row.organizations) if row.genuine else Scope(None)


def _scope(organizations: Sequence[OrganizationId] | None) -> Scope:
    return Scope(None if organizations is None else frozenset(organizations))

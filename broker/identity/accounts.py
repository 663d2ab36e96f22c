"""Which accounts an admin may make, see and end who is limited to some customers: those within the same limits.

Accounts are no tenant's, so neither fence between tenants says anything of them.  An admin who is limited stays
possible, as somebody who looks after the accounts of some customers only: nothing they make reaches further.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.base.db import Scope
from broker.base.errors import Forbidden, NotFound
from broker.identity.tables import AccountRow


def refuse_beyond(scope: Scope, organizations: Sequence[str] | None) -> None:
    """An account is made with no wider limits than its maker's.

    Raises:
        Forbidden: it would be.
    """
    if not scope.covers(_scope(organizations)):
        raise Forbidden("organizations: your account is limited to some organizations; name one or more of them.")


async def listed(session: AsyncSession, scope: Scope, *, after: str, limit: int) -> Sequence[AccountRow]:
    """The accounts inside ``scope`` whose ids come after ``after``, ``limit`` at most, by id."""
    # Accounts are people, a few hundred at most, and a list within a column is asked otherwise by each database.
    rows = await session.scalars(select(AccountRow).where(AccountRow.id > after).order_by(AccountRow.id))
    return [row for row in rows if scope.covers(_scope_of(row))][:limit]


async def find(session: AsyncSession, scope: Scope, operator_id: str) -> AccountRow:
    """The account of that id.

    Raises:
        NotFound: none inside ``scope``.
    """
    row = await session.get(AccountRow, operator_id)
    if row is None or not scope.covers(_scope_of(row)):
        raise NotFound("There is no such operator for you; `broker operator list` shows those that are.")
    return row


def _scope_of(row: AccountRow) -> Scope:
    # What something else than the broker wrote is for those to look at who see everything.
    return _scope(row.organizations) if row.genuine else Scope(None)


def _scope(organizations: Sequence[str] | None) -> Scope:
    return Scope(None if organizations is None else frozenset(organizations))

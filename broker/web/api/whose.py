"""Whose sessions, passkeys and identities are asked for: one's own, or for an admin others'."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query
from sqlalchemy.ext.asyncio import AsyncSession

from broker.base.errors import Forbidden
from broker.formats.ids import OperatorId, Reference
from broker.identity import accounts
from broker.identity.principal import Role
from broker.web.api.fields import AccountReference
from broker.web.callers import Call

WhoseSought = Annotated[
    AccountReference | None, Query(description="Whose, by id or name; left out, your own. For others', an admin.")
]


async def whose(session: AsyncSession, call: Call, asked: OperatorId | Reference | None) -> OperatorId:
    """The account that is asked for, if the caller may look after it.

    Raises:
        Forbidden: it is somebody else's, and the caller no admin. NoSuchOperator: there is none within their limits.
    """
    if asked is None or asked in {call.account.id, call.account.name}:
        return call.account.id
    if not call.account.may(Role.ADMIN):
        raise Forbidden("This is somebody else's account; an admin may look after it.")
    return (await accounts.find(session, call.scope, asked)).id


async def is_seen(session: AsyncSession, call: Call, account: OperatorId) -> bool:
    """Whether the caller may look after an account; who may not is told of nothing that it has."""
    try:
        await whose(session, call, account)
    except (Forbidden, accounts.NoSuchOperator):
        return False
    return True

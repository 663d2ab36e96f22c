"""Whose account a provider's person has, and what it may do.

Issuer and subject alone tell.  What the provider's claims give replaces what the account had, each time: a role that is
gone there is gone here, and whatever an account with other roles had begun ends.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.events import BROKER, Actor, Event
from broker.audit.record import record
from broker.base.clock import Millis
from broker.base.db import Scope
from broker.base.errors import Conflict, Forbidden, Invalid, NotFound
from broker.base.validity import Validity
from broker.formats import ids
from broker.formats.ids import IdentityId, OperatorId, OrganizationId, Reference
from broker.identity import accounts, operators, sessions
from broker.identity.approval import Unapproved, in_force, refuse_other_trees, shown_state
from broker.identity.oidc.mapping import Rights
from broker.identity.oidc.providers import Provider
from broker.identity.oidc.refusals import SignInRefused
from broker.identity.oidc.tables import IdentityRow, RecheckRow
from broker.identity.principal import Role
from broker.identity.tables import AccountRow
from broker.notifications.notices import notify
from broker.organizations import commands as organizations


async def known(session: AsyncSession, issuer: str, subject: str) -> tuple[IdentityRow, AccountRow] | None:
    """The account of a provider's person; None if they have none.

    Raises:
        RowAltered: something else than the broker linked them, or wrote the account.
    """
    found = select(IdentityRow).where(IdentityRow.issuer == issuer, IdentityRow.subject == subject)
    identity = await session.scalar(found)
    if identity is None:
        return None
    identity.vouched_for()
    account = await session.get_one(AccountRow, identity.account_id, with_for_update=True)
    account.vouched_for()
    return identity, account


async def arrive(
    session: AsyncSession,
    provider: Provider,
    claims: Mapping[str, Any],
    rights: Rights,
    *,
    approval: bool,
    now: Millis,
) -> tuple[IdentityRow, AccountRow]:
    """The account of a person who has these rights: their own, or a new one.

    It may still wait for its approval, as with ``approval`` every admin's does.

    Raises:
        SignInRefused: their account has ended, or none of their customers is here. RowAltered.
    """
    subject = str(claims["sub"])
    found = await known(session, provider.issuer, subject)
    if found is None:
        account = await _made(session, provider, claims, rights, approval=approval, now=now)
        await session.flush()
        return await _linked(session, BROKER, account, provider, subject, now), account
    if found[1].state != Validity.ACTIVE:
        raise SignInRefused("account_ended")
    await give(session, found[1], rights, approval=approval, now=now)
    await _ask_again(session, found[1], now)
    return found


async def give(session: AsyncSession, account: AccountRow, rights: Rights, *, approval: bool, now: Millis) -> bool:
    """Let an account have these rights and no others; whether that changed it.

    A change ends its sessions.

    Raises:
        SignInRefused: none of its customers is here. RowAltered.
    """
    roles, limits = sorted(map(str, rights.roles)), await _limits(session, rights)
    if (account.roles, account.organizations) == (roles, limits):
        return False
    account.vouched_for()
    wider = account.organizations is not None and limits is None
    if approval and Role.ADMIN in rights.roles and (wider or Role.ADMIN not in account.roles):
        # It waits as a new one would, from now on.
        account.needs_approval, account.approved_by, account.approved_at = True, None, None
        account.created_at = now
        await notify(session, "account_waits", organization="", provider="", now=now, facts={"account": account.id})
    account.roles, account.organizations = roles, limits
    await _changed(session, account, now)
    return True


async def take(session: AsyncSession, account: AccountRow, now: Millis) -> None:
    """Take every role of an account, as its provider doesn't vouch for it any more.

    Its sessions end.
    """
    account.vouched_for()
    if account.roles:
        account.roles = []
        await _changed(session, account, now)


async def link(
    session: AsyncSession,
    actor: Actor,
    scope: Scope,
    whose: OperatorId | Reference,
    provider: Provider,
    *,
    subject: str,
    approval: bool,
    now: Millis,
) -> IdentityRow:
    """Let a provider's person have an account that is there.

    From their next sign-in on it may do what they may.

    Raises:
        NotFound: no such account inside ``scope``. RowAltered.
        NotASecondPerson: there is ``approval``, and the actor would get into an account that gives it.
        Conflict: it has ended or is a machine's, or the person has another one that is in force.
    """
    account = await accounts.find(session, scope, whose)
    account.vouched_for()
    if approval:
        await refuse_other_trees(session, actor, account)
    if account.is_machine or account.state != Validity.ACTIVE:
        raise Conflict("This account has ended, or is a machine's: nobody can sign in to it.")
    found = await known(session, provider.issuer, subject)
    if found is not None and found[1].id != account.id:
        if found[1].state == Validity.ACTIVE:
            raise Conflict("This person has another account, which has to be ended first: `broker operator revoke`.")
        await session.delete(found[0])
        await session.flush()
        found = None
    return found[0] if found else await _linked(session, actor, account, provider, subject, now)


class NoSuchIdentity(NotFound):
    """There is none, or it is of an account beyond the limits of who asks."""

    def __init__(self) -> None:
        super().__init__("There is no such identity for you; `broker operator identities NAME` shows an account's.")


class OwnIdentity(Forbidden):
    """Whoever unlinks themselves would keep what their provider may take."""

    def __init__(self) -> None:
        super().__init__("What you may do here is your identity provider's word. Another admin has to unlink you.")


async def of_account(session: AsyncSession, account_id: OperatorId, *, after: str = "") -> Sequence[IdentityRow]:
    """Whom identity providers know an account's person as, from behind the id ``after`` on."""
    theirs = (IdentityRow.account_id == account_id, IdentityRow.id > after)
    rows = await session.scalars(select(IdentityRow).where(*theirs).order_by(IdentityRow.id))
    return [row for row in rows if row.genuine]


async def identity(session: AsyncSession, identity_id: IdentityId) -> IdentityRow:
    """The identity of that id, whoever's it is; raises NoSuchIdentity."""
    row = await session.get(IdentityRow, identity_id, with_for_update=True)
    if row is None:
        raise NoSuchIdentity
    return row


async def unlink(
    session: AsyncSession, actor: Actor, scope: Scope, row: IdentityRow, provider: str, now: Millis
) -> IdentityRow:
    """End the link of a provider's person to an account; its sessions end.

    The account keeps its roles, for which whoever unlinks it answers from now on.  ``provider`` is the provider's id,
    as far as it is known.

    Raises:
        NoSuchIdentity: there is none inside ``scope``. OwnIdentity: it is the actor's. RowAltered.
    """
    try:
        account = await accounts.find(session, scope, row.account_id)
    except accounts.NoSuchOperator:
        raise NoSuchIdentity from None
    row.vouched_for()
    if account.id == actor.id:
        raise OwnIdentity
    await session.execute(delete(RecheckRow).where(RecheckRow.identity_id == row.id))
    await session.delete(row)
    note = f"{account.name}: {row.subject}"
    await record(session, Event.about(account, "operator.unlinked", actor, now, provider=provider, note=note))
    await sessions.end_of_account(session, actor, account.id, now, reason="identity_unlinked")
    return row


async def _linked(
    session: AsyncSession, actor: Actor, account: AccountRow, provider: Provider, subject: str, now: Millis
) -> IdentityRow:
    row = IdentityRow(
        id=ids.new(IdentityId),
        account_id=account.id,
        issuer=provider.issuer,
        subject=subject,
        created_at=now,
        created_by=actor.id,
    )
    session.add(row)
    note = f"{account.name}: {subject}"
    await record(session, Event.about(account, "operator.linked", actor, now, provider=provider.id, note=note))
    return row


async def _made(
    session: AsyncSession, provider: Provider, claims: Mapping[str, Any], rights: Rights, *, approval: bool, now: Millis
) -> AccountRow:
    told = claims.get(provider.name_claim)
    digest = hashlib.sha256(f"{provider.issuer}\0{claims['sub']}".encode()).hexdigest()[:12]
    name = told if isinstance(told, str) and told.isprintable() and 0 < len(told) <= 100 else ""
    roles, limits = sorted(rights.roles), await _limits(session, rights)
    # A name tells people apart and no more: whoever has it already keeps it, somebody who was unlinked too.
    for one in filter(None, (name, f"{provider.id}-{digest}")):
        with suppress(Conflict, Invalid):
            wanted = operators.Wanted(one, roles, limits)
            return await operators.create_arrived(session, wanted, approval=approval, now=now)
    wanted = operators.Wanted(f"{provider.id}-{digest}-{secrets.token_hex(4)}", roles, limits)
    return await operators.create_arrived(session, wanted, approval=approval, now=now)


async def _limits(session: AsyncSession, rights: Rights) -> list[OrganizationId] | None:
    if rights.organizations is None:
        return None
    found = []
    for name in rights.organizations:
        with suppress(organizations.UnknownOrganization):
            found.append((await organizations.find(session, Reference(name))).id)
    if not found:
        raise SignInRefused("no_role")
    return sorted(found)


async def _ask_again(session: AsyncSession, account: AccountRow, now: Millis) -> None:
    """Let an account wait once more whose approval nobody gave in time."""
    if not in_force(account) and shown_state(account, now) == Unapproved.EXPIRED:
        account.created_at = now
        await notify(session, "account_waits", organization="", provider="", now=now, facts={"account": account.id})


async def _changed(session: AsyncSession, account: AccountRow, now: Millis) -> None:
    roles = "+".join(account.roles) or "none"
    await record(session, Event.about(account, "operator.roles_changed", BROKER, now, reason=roles, note=account.name))
    await sessions.end_of_account(session, BROKER, account.id, now, reason="roles_changed")

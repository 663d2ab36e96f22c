"""People's and machines' accounts: the first by a one-time token, the others by an admin."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy import delete, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit import archives
from broker.audit.events import BROKER, Actor, Event
from broker.audit.record import record
from broker.audit.tables import EventRow
from broker.base import validity
from broker.base.clock import DAY_MS, Millis, later, rfc3339
from broker.base.db import EVERY_TENANT, Scope, upsert
from broker.base.errors import Conflict, Invalid, InvalidToken
from broker.base.pruning import PAGE
from broker.base.validity import Validity
from broker.formats import ids, token
from broker.formats.ids import NoId, OperatorId, OrganizationId, Reference
from broker.identity import accounts, sessions
from broker.identity.approval import Unapproved, approved, in_force, shown_state
from broker.identity.principal import Account, Role, Session
from broker.identity.tables import MACHINE, PERSON, AccountRow, BootstrapRow, SessionRow
from broker.notifications.notices import notify

PREFIX = "kbo"
# How long a machine's token lasts, unless less is asked for.
TOKEN_DAYS = 90
BOOTSTRAP_MS = DAY_MS
# How long the previous token of a renewed account still works: the answer with the new one can be lost.
OVERLAP_MS = 3_600_000
# So many days before its token ends, the operators are notified of an account.
REMINDED_DAYS = (14, 2)


class TokenRefused(InvalidToken):
    """The token is not one of ours, has expired, or was revoked.

    The answer is the same for all three.
    """

    def __init__(self) -> None:
        super().__init__(
            "The token is not valid: it has expired, was revoked, or is none of this broker. Sign in again with "
            "`broker login`. A machine's token is made anew by an admin. If there is no admin left, `broker operator "
            "recover` on the server makes one."
        )


class OneTimeTokenRefused(InvalidToken):
    """The one-time token is not the one that was given out last, has expired, or was used."""

    def __init__(self) -> None:
        super().__init__(
            "The one-time token is not valid: it was used, is older than a day, or another one took its place. "
            "`broker operator recover`, on the server, gives out a new one."
        )


class AccountAltered(TokenRefused):
    """The token is right, but its account's or session's ``row`` isn't as the broker wrote it."""

    def __init__(self, row: AccountRow | SessionRow) -> None:
        super().__init__()
        self.row = row


async def are_there(session: AsyncSession) -> bool:
    """Whether there is any operator's account."""
    return bool(await session.scalar(select(func.count()).select_from(AccountRow)))


async def _were_there(session: AsyncSession) -> bool:
    """Whether the record knows of a first account, or may.

    Whoever deletes that account gets no token.  Where a part of the record is archived, its event may be there.
    """
    # No index has kinds; it is one of the first.
    made = select(EventRow.idx).where(EventRow.kind == "operator.bootstrapped").order_by(EventRow.idx).limit(1)
    return await archives.any_is(session) or await session.scalar(made) is not None


async def offer_bootstrap(session: AsyncSession, hash_key: bytes, now: Millis, *, replace: bool = False) -> str | None:
    """A one-time token while there is no operator.

    None once there is one, or if a token was given out already.  However many replicas start at once, one of them has
    the token.  ``replace`` puts a fresh one in its place, also if there are operators: for a second person, whose
    account none of them made, or if no admin gets in any more.  They are notified.
    """
    if not replace and (await are_there(session) or await _were_there(session)):
        return None
    fresh = token.new("kbb")
    expires_at = later(now, BOOTSTRAP_MS)
    given = {"token_hash": _one_time(hash_key, fresh, expires_at), "expires_at": expires_at}
    stored = await session.execute(
        upsert(session, BootstrapRow)
        .values(id=1, **given)
        .on_conflict_do_update(
            index_elements=[BootstrapRow.id], set_=given, where=None if replace else BootstrapRow.expires_at <= now
        )
        .returning(BootstrapRow.id)
    )
    if stored.first() is None:
        return None
    if replace and await are_there(session):
        await record(session, Event(kind="operator.recovery_offered", time=now, actor=BROKER))
        await notify(session, "recovery_offered", organization="", provider="", now=now)
    return fresh


def _one_time(hash_key: bytes, one_time: str, expires_at: Millis) -> bytes:
    # The time is within the hash: whoever can write the database can't lengthen it.
    return token.keyed_hash(hash_key, f"{expires_at}.{one_time}")


async def awaits_bootstrap(session: AsyncSession, now: Millis) -> bool:
    """Whether a one-time token is out there that makes the first operator."""
    return bool(await session.scalar(select(BootstrapRow.id).where(BootstrapRow.expires_at > now)))


async def check_bootstrap(session: AsyncSession, hash_key: bytes, unverified_token: str, now: Millis) -> None:
    """Look whether this is the one-time token, so that nobody with another one takes a writer.

    Raises:
        OneTimeTokenRefused: it is not.
    """
    await _offered(session, hash_key, unverified_token, now)


async def _offered(session: AsyncSession, hash_key: bytes, unverified_token: str, now: Millis) -> BootstrapRow:
    row = await session.scalar(select(BootstrapRow).where(BootstrapRow.expires_at > now))
    if (
        row is None
        or not token.is_token(unverified_token, "kbb")
        or not hmac.compare_digest(row.token_hash, _one_time(hash_key, unverified_token, row.expires_at))
    ):
        raise OneTimeTokenRefused
    return row


async def bootstrap(
    session: AsyncSession, hash_key: bytes, address: str, *, bootstrap_token: str, name: str, now: Millis
) -> AccountRow:
    """An admin whom nobody made, for the one-time token from the server.

    Raises:
        OneTimeTokenRefused: wrong, used or expired. Invalid: the name has the form of an id. Conflict: it is taken.
    """
    _check_name(name)
    offered = await _offered(session, hash_key, bootstrap_token, now)
    await _refuse_taken(session, name, now)
    spent = delete(BootstrapRow).where(BootstrapRow.token_hash == offered.token_hash).returning(BootstrapRow.id)
    if (await session.execute(spent)).first() is None:  # somebody else was faster
        raise OneTimeTokenRefused
    row = _new(name, [Role.ADMIN], None, now)
    # The id is made of the token, so that whoever brings a spent one back is still the account that it made.
    row.id = ids.of(ids.OperatorId, token.keyed_hash(hash_key, f"account.{bootstrap_token}")[:16])
    if await session.get(AccountRow, row.id) is not None:
        raise OneTimeTokenRefused
    session.add(row)
    actor = Actor("operator", row.id, row.name, address)
    await record(session, Event.about(row, "operator.bootstrapped", actor, now, note=name))
    return row


@dataclass(frozen=True, slots=True)
class Wanted:
    """An account to be made; ``organizations`` (ids) limits it to some customers, None to none."""

    name: str
    roles: Sequence[Role]
    organizations: Sequence[OrganizationId] | None


async def create(
    session: AsyncSession,
    actor: Actor,
    scope: Scope,
    wanted: Wanted,
    *,
    approval: bool,
    now: Millis,
    kind: str = PERSON,
) -> AccountRow:
    """A person's account; a one-time link lets them in (:mod:`broker.identity.enrolment`).

    With ``approval``, an admin's account may do nothing until a second person has approved it.

    Raises:
        Invalid: no role, or the name has the form of an id. Conflict: the name is taken.
        Forbidden: it would see more than ``scope``, its maker's.
    """
    accounts.refuse_beyond(scope, wanted.organizations)
    _check_name(wanted.name)
    if not wanted.roles:
        raise Invalid("roles: name at least one of operator, security, admin.")
    await _refuse_taken(session, wanted.name, now)
    row = _new(wanted.name, wanted.roles, wanted.organizations, now)
    row.created_by, row.kind = actor.id, kind
    row.needs_approval = approval and Role.ADMIN in wanted.roles
    session.add(row)
    if row.needs_approval:
        await notify(session, "account_waits", organization="", provider="", now=now, facts={"account": row.id})
    reason = "awaits_approval" if row.needs_approval else ""
    await record(session, Event.about(row, "operator.created", actor, now, reason=reason, note=wanted.name))
    return row


async def create_arrived(session: AsyncSession, wanted: Wanted, *, approval: bool, now: Millis) -> AccountRow:
    """The account of a person whom nobody here invited, but their identity provider.

    Raises:
        As :func:`create`.
    """
    row = await create(session, BROKER, EVERY_TENANT, wanted, approval=approval, now=now)
    row.created_by = ""  # nobody's who could act as them, so they are a root of their own
    return row


async def create_machine(
    session: AsyncSession,
    hash_key: bytes,
    actor: Actor,
    scope: Scope,
    wanted: Wanted,
    *,
    days: int,
    approval: bool,
    now: Millis,
) -> tuple[AccountRow, str]:
    """A machine's account and its token, shown this once, which ends in so many ``days``.

    Raises:
        As :func:`create`.
    """
    fresh = token.new(PREFIX)
    row = await create(session, actor, scope, wanted, approval=approval, now=now, kind=MACHINE)
    row.token_hash, row.token_days = token.keyed_hash(hash_key, fresh), days
    row.expires_at = later(now, days * DAY_MS)
    return row, fresh


def _check_name(name: str) -> None:
    if ids.is_like_an_id(name):
        raise Invalid("name: has the form of an id; choose another.")


async def _refuse_taken(session: AsyncSession, name: str, now: Millis) -> None:
    """Free a name whose account has ended, or was not approved in time.

    Raises:
        Conflict: another account has it.
    """
    row = await session.scalar(
        select(AccountRow).where(AccountRow.name == name, AccountRow.state == Validity.ACTIVE).with_for_update()
    )
    if row is None:
        return
    if shown_state(row, now) == Unapproved.EXPIRED:
        await session.delete(row)
    elif _is_over(row, now):
        await _end(session, BROKER, row, now, reason="token_expired")
    else:
        raise Conflict(f"name: an operator {name!r} exists already; choose another.")
    await session.flush()


async def _end(session: AsyncSession, actor: Actor, row: AccountRow, now: Millis, *, reason: str = "") -> None:
    validity.revoke(row, now)
    await record(session, Event.about(row, "operator.revoked", actor, now, reason=reason, note=row.name))


async def approve(
    session: AsyncSession, actor: Actor, scope: Scope, account: OperatorId | Reference, *, now: Millis
) -> AccountRow:
    """Approve an account that waits, as a second person (``actor``).  Idempotent.

    Raises:
        NotFound: no such account inside ``scope``. Conflict, NotASecondPerson, RowAltered: as for any approval.
    """
    row = await accounts.find(session, scope, account)
    await session.refresh(row, with_for_update=True)
    if asked := await approved(session, row, actor, now):
        await record(session, Event.about(row, "operator.approved", actor, now, note=f"{row.name}, {asked}"))
    return row


def _new(name: str, roles: Sequence[Role], organizations: Sequence[OrganizationId] | None, now: Millis) -> AccountRow:
    return AccountRow(
        id=ids.new(ids.OperatorId),
        name=name,
        roles=sorted({str(role) for role in roles}),
        organizations=None if organizations is None else sorted(organizations),
        token_hash=secrets.token_bytes(32),
        state=Validity.ACTIVE,
        created_at=now,
        expires_at=now,
        created_by="",
        needs_approval=False,
        approved_by=None,
        approved_at=None,
        previous_token_hash=None,
        previous_until=None,
        kind=PERSON,
        token_days=None,
        revoked_at=None,
    )


async def authenticate(session: AsyncSession, hash_key: bytes, unverified_token: str, now: Millis) -> Account:
    """The operator whose token this is: a machine's, or that of a person's session.

    Raises:
        TokenRefused: unknown, revoked, expired, or waiting for its approval. AccountAltered.
    """
    if token.is_token(unverified_token, sessions.PREFIX):
        return await _of_session(session, hash_key, unverified_token, now)
    if not token.is_token(unverified_token, PREFIX):
        raise TokenRefused
    mine = token.keyed_hash(hash_key, unverified_token)
    row = await session.scalar(
        select(AccountRow).where(or_(AccountRow.token_hash == mine, AccountRow.previous_token_hash == mine))
    )
    if row is None or _ends_at(row, mine) <= now:
        raise TokenRefused
    return _standing(row)


async def _of_session(session: AsyncSession, hash_key: bytes, unverified_token: str, now: Millis) -> Account:
    row = await sessions.find(session, hash_key, unverified_token, now)
    account = await session.get(AccountRow, row.account_id) if row is not None else None
    if row is None or account is None:
        raise TokenRefused
    if not row.genuine:
        raise AccountAltered(row)
    return replace(_standing(account), session=Session(row.id, row.client, row.authenticated_at, row.seen_at))


def _standing(row: AccountRow) -> Account:
    # An identity provider may have taken every role.
    if not in_force(row) or not row.roles:
        raise TokenRefused
    if not row.genuine:
        raise AccountAltered(row)
    organizations = None if row.organizations is None else frozenset(row.organizations)
    return Account(row.id, row.name, frozenset(Role(role) for role in row.roles), organizations)


def _ends_at(row: AccountRow, hashed: bytes) -> Millis:
    """When that token of the account ends: the present one, or the one before its renewal."""
    if hmac.compare_digest(row.token_hash, hashed):
        return row.ends_at or Millis(0)
    return row.previous_until or Millis(0)


async def renew(session: AsyncSession, hash_key: bytes, actor: Actor, now: Millis) -> tuple[AccountRow, str]:
    """A new token for the machine of ``actor``, which lasts as long as the first one did.

    The previous one ends within the hour.  Others who know a token can renew it, too: then end the account instead.

    Raises:
        Conflict: it is a person's account. RowAltered.
    """
    row = await session.get_one(AccountRow, actor.id, with_for_update=True)
    row.vouched_for()
    if not row.is_machine:
        raise Conflict("Your account is a person's and has no token to renew; `broker login` signs you in again.")
    fresh = token.new(PREFIX)
    row.previous_token_hash, row.previous_until = row.token_hash, min(row.expires_at, later(now, OVERLAP_MS))
    row.token_hash = token.keyed_hash(hash_key, fresh)
    row.expires_at = later(now, (row.token_days or TOKEN_DAYS) * DAY_MS)
    await record(session, Event.about(row, "operator.renewed", actor, now, note=row.name))
    return row, fresh


async def remind(session: AsyncSession, now: Millis, after: OperatorId | NoId = "") -> OperatorId | None:
    """Notify the operators of accounts whose tokens end, once for each of ``REMINDED_DAYS``.

    It looks at a page of accounts, those with ids behind ``after``.

    Returns:
        The last account of the page; None if it was the last page.
    """
    page = list(
        await session.scalars(select(AccountRow).where(AccountRow.id > after).order_by(AccountRow.id).limit(PAGE))
    )
    last = now + max(REMINDED_DAYS) * DAY_MS
    for row in page:
        if row.state != Validity.ACTIVE or not now < (row.ends_at or 0) <= last or not in_force(row):
            continue
        days = min(days for days in REMINDED_DAYS if row.expires_at <= now + days * DAY_MS)
        facts = {"account": row.name, "deadline": rfc3339(row.expires_at)}
        dedup = f"{row.id}/{row.expires_at}/{days}"
        await notify(session, "account_ends", organization="", provider="", now=now, dedup=dedup, facts=facts)
    return page[-1].id if len(page) == PAGE else None


async def admins(session: AsyncSession, now: Millis) -> int:
    """How many admins of every customer can sign in."""
    rows = await session.scalars(select(AccountRow).where(AccountRow.state == Validity.ACTIVE))
    return sum(_administers_all(row, now) for row in rows)


async def waiting(session: AsyncSession, scope: Scope, now: Millis) -> list[AccountRow]:
    """The accounts inside ``scope`` that wait for a second person, by id."""
    rows = await accounts.listed(session, scope, after="")
    return [row for row in rows if state_of(row, now) == Unapproved.WAITING]


async def revoke(
    session: AsyncSession, actor: Actor, scope: Scope, account: OperatorId | Reference, *, now: Millis
) -> AccountRow:
    """End an account.  Idempotent.

    Raises:
        NotFound: no such operator inside ``scope``. Conflict: nobody else who can sign in administers every customer.
    """
    row = await accounts.find(session, scope, account)
    if row.state == Validity.ACTIVE:
        if not await admins(session, now) - _administers_all(row, now):
            raise Conflict("This is the last admin without limits who can sign in; make another one first.")
        await _end(session, actor, row, now)
    return row


def _administers_all(row: AccountRow, now: Millis) -> bool:
    signs_in = not row.is_machine and not _is_over(row, now)
    return row.genuine and signs_in and in_force(row) and Role.ADMIN in row.roles and row.organizations is None


def _is_over(row: AccountRow, now: Millis) -> bool:
    """Whether the account was only as good as its token, which has expired."""
    return row.ends_at is not None and row.ends_at <= now


def state_of(row: AccountRow, now: Millis) -> str:
    """What the account shows: as :func:`shown_state`, and ``expired`` once its token has."""
    return "expired" if in_force(row) and _is_over(row, now) else shown_state(row, now)

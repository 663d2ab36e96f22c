"""People's accounts: the first by a one-time bootstrap token, the others by an admin."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.events import Actor, Event
from broker.audit.record import record
from broker.base.errors import Conflict, Invalid, InvalidToken, NotFound
from broker.formats import ids, token
from broker.identity.principal import Operator, Role
from broker.identity.tables import BootstrapRow, OperatorRow

DAY_MS = 86_400_000
TOKEN_DAYS = 90
BOOTSTRAP_MS = DAY_MS


class TokenRefused(InvalidToken):
    """The token is not one of ours, is over, or was revoked: the same answer for all three."""

    def __init__(self) -> None:
        super().__init__("The token is not valid. Ask an admin for a new one, or sign in again.")


async def offer_bootstrap(session: AsyncSession, hash_key: bytes, now: int, *, anew: bool = False) -> str | None:
    """A one-time token while there is no operator; None once there is one, or where a token was given out already.

    However many replicas start at once, one of them has the token; ``anew`` puts a fresh one in its place.
    """
    if await session.scalar(select(func.count()).select_from(OperatorRow)):
        return None
    fresh = token.new("kbb")
    given = {"token_hash": token.keyed_hash(hash_key, fresh), "expires_at": now + BOOTSTRAP_MS}
    insert = (postgresql if session.get_bind().dialect.name == "postgresql" else sqlite).insert
    stored = await session.execute(
        insert(BootstrapRow)
        .values(id=1, **given)
        .on_conflict_do_update(
            index_elements=[BootstrapRow.id], set_=given, where=None if anew else BootstrapRow.expires_at <= now
        )
        .returning(BootstrapRow.id)
    )
    return fresh if stored.first() is not None else None


async def awaits_bootstrap(session: AsyncSession, now: int) -> bool:
    """Whether a one-time token is out there that makes the first operator."""
    return bool(await session.scalar(select(BootstrapRow.id).where(BootstrapRow.expires_at > now)))


async def check_bootstrap(session: AsyncSession, hash_key: bytes, unverified_token: str, now: int) -> None:
    """Look whether this is the one-time token, so that whoever has another one takes no writer; raises TokenRefused."""
    hashed = token.keyed_hash(hash_key, unverified_token)
    found = select(BootstrapRow.id).where(BootstrapRow.token_hash == hashed, BootstrapRow.expires_at > now)
    if not token.is_token(unverified_token, "kbb") or await session.scalar(found) is None:
        raise TokenRefused


async def bootstrap(
    session: AsyncSession, hash_key: bytes, address: str, *, bootstrap_token: str, name: str, now: int
) -> tuple[OperatorRow, str]:
    """The first admin and their token, for the one-time token that start-up printed.

    Raises:
        TokenRefused: wrong, used or expired, or there is an operator. Invalid: the name has the form of an id.
    """
    _check_name(name)
    spent = await session.execute(
        delete(BootstrapRow)
        .where(BootstrapRow.token_hash == token.keyed_hash(hash_key, bootstrap_token), BootstrapRow.expires_at > now)
        .returning(BootstrapRow.id)
    )
    if spent.first() is None or await session.scalar(select(func.count()).select_from(OperatorRow)):
        raise TokenRefused
    row, operator_token = _new(hash_key, name=name, roles=[Role.ADMIN], organizations=None, now=now)
    session.add(row)
    actor = Actor("operator", row.id, row.name, address)
    await record(session, Event(kind="operator.bootstrapped", time=now, actor=actor, subject=row.id, note=name))
    return row, operator_token


async def create(
    session: AsyncSession,
    hash_key: bytes,
    actor: Actor,
    *,
    name: str,
    roles: Sequence[Role],
    organizations: Sequence[str] | None,
    now: int,
) -> tuple[OperatorRow, str]:
    """A named account and its token, shown this once; ``organizations`` (ids) limits it to some customers.

    Raises:
        Invalid: no role, or the name has the form of an id. Conflict: the name is taken.
    """
    _check_name(name)
    if not roles:
        raise Invalid("roles: name at least one of operator, security, admin.")
    if await session.scalar(select(OperatorRow.id).where(OperatorRow.name == name)):
        raise Conflict(f"name: an operator {name!r} exists already; choose another.")
    row, operator_token = _new(hash_key, name=name, roles=roles, organizations=organizations, now=now)
    session.add(row)
    await record(session, Event(kind="operator.created", time=now, actor=actor, subject=row.id, note=name))
    return row, operator_token


def _check_name(name: str) -> None:
    if ids.is_like_an_id(name):
        raise Invalid("name: has the form of an id; choose another.")


def _new(
    hash_key: bytes, *, name: str, roles: Sequence[Role], organizations: Sequence[str] | None, now: int
) -> tuple[OperatorRow, str]:
    operator_token = token.new("kbo")
    row = OperatorRow(
        id=ids.new("opr"),
        name=name,
        roles=sorted({str(role) for role in roles}),
        organizations=None if organizations is None else sorted(organizations),
        token_hash=token.keyed_hash(hash_key, operator_token),
        state="active",
        created_at=now,
        expires_at=now + TOKEN_DAYS * DAY_MS,
        revoked_at=None,
    )
    return row, operator_token


async def authenticate(session: AsyncSession, hash_key: bytes, unverified_token: str, now: int) -> Operator:
    """The operator whose token this is.

    Raises:
        TokenRefused: unknown, revoked or expired.
    """
    if not token.is_token(unverified_token, "kbo"):
        raise TokenRefused
    row = await session.scalar(
        select(OperatorRow).where(OperatorRow.token_hash == token.keyed_hash(hash_key, unverified_token))
    )
    if row is None or row.state != "active" or row.expires_at <= now:
        raise TokenRefused
    organizations = None if row.organizations is None else frozenset(row.organizations)
    return Operator(row.id, row.name, frozenset(Role(role) for role in row.roles), organizations)


async def revoke(session: AsyncSession, actor: Actor, operator_id: str, *, now: int) -> OperatorRow:
    """End an account.  Again: no change.

    Raises:
        NotFound: no such operator. Conflict: it is the last active admin.
    """
    row = await session.get(OperatorRow, operator_id)
    if row is None:
        raise NotFound("There is no such operator; `broker operator list` shows those that are.")
    if row.state == "active":
        active = (await session.scalars(select(OperatorRow).where(OperatorRow.state == "active"))).all()
        if not any(Role.ADMIN in other.roles and other.id != row.id for other in active):
            raise Conflict("This is the last active admin; make another one first.")
        row.state, row.revoked_at = "revoked", now
        await record(session, Event(kind="operator.revoked", time=now, actor=actor, subject=row.id, note=row.name))
    return row

"""People's sessions: one kind, however they signed in, in a browser or on a command line.

A session is a row that any replica looks at on each request, so it has ended everywhere once its end is answered.  What
changes something looks again within its own transaction (:func:`insist`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from sqlalchemy import delete, false, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.events import BROKER, Actor, Event
from broker.audit.record import record
from broker.base.clock import Millis, later
from broker.base.errors import NotFound
from broker.formats import ids, token
from broker.formats.ids import OperatorId, SessionId
from broker.identity.tables import AccountRow, LinkRow, SessionRow

PREFIX: Final = "kbs"
ABSOLUTE_MS: Final = 8 * 3_600_000
# Of a browser that somebody left.  A command line is asked for nothing meanwhile, so it has the whole time.
IDLE_MS: Final = 30 * 60_000
FRESH_MS: Final = 5 * 60_000
# So often it is written down that a session is in use.
_SEEN_MS: Final = 60_000


class Way(StrEnum):
    """How a person proves who they are."""

    PASSKEY = "passkey"
    OIDC = "oidc"
    LINK = "link"


class Client(StrEnum):
    """Where a session is: its token is a cookie, or a bearer token."""

    BROWSER = "browser"
    CLI = "cli"


@dataclass(frozen=True, slots=True)
class SignedIn:
    """How and when a person proved who they are.

    ``issuer`` is their identity provider, and ``issuer_session`` what that one calls the session; "" if there is none.
    """

    way: Way
    at: Millis
    issuer: str = ""
    issuer_session: str = ""


@dataclass(frozen=True, slots=True)
class Device:
    """Where a person sits: the client, its address, and what it says that it is."""

    client: Client
    address: str
    agent: str


class NoSuchSession(NotFound):
    """There is none, or it is somebody else's."""

    def __init__(self) -> None:
        super().__init__("There is no such session for you; `broker session list` shows yours.")


async def begin(
    session: AsyncSession, hash_key: bytes, account: AccountRow, proof: SignedIn, device: Device, now: Millis
) -> tuple[SessionRow, str]:
    """A new session of a person, and its token.

    Its id and token are new whatever the browser had before, so nobody can have planted them.

    Raises:
        RowAltered: something else than the broker wrote the account.
    """
    account.vouched_for()
    fresh = token.new(PREFIX)
    row = SessionRow(
        id=ids.new(SessionId),
        account_id=account.id,
        token_hash=token.keyed_hash(hash_key, fresh),
        client=device.client,
        way=proof.way,
        issuer=proof.issuer,
        issuer_session=proof.issuer_session,
        address=device.address,
        agent=device.agent[:200],
        created_at=now,
        authenticated_at=proof.at,
        ends_at=later(now, ABSOLUTE_MS),
        seen_at=now,
        ended_at=None,
    )
    session.add(row)
    await record(session, Event.about(row, "session.begun", account.as_actor(row.address, row.agent), now, note=row.id))
    return row, fresh


async def renew(
    session: AsyncSession, hash_key: bytes, row: SessionRow, proof: SignedIn, now: Millis
) -> tuple[SessionRow, str]:
    """The session once its person has proved again who they are, and its new token.

    The previous token ends.  The session ends as early as before.

    Raises:
        RowAltered: something else than the broker wrote it. NoSuchSession: it has ended.
    """
    await session.refresh(row, with_for_update=True)
    row.vouched_for()
    if not in_force(row, now):
        raise NoSuchSession
    fresh = token.new(PREFIX)
    row.token_hash, row.authenticated_at, row.seen_at = token.keyed_hash(hash_key, fresh), proof.at, now
    row.way, row.issuer, row.issuer_session = proof.way, proof.issuer, proof.issuer_session
    actor = (await session.get_one(AccountRow, row.account_id)).as_actor(row.address, row.agent)
    await record(session, Event.about(row, "session.renewed", actor, now, note=row.id))
    return row, fresh


def in_force(row: SessionRow, now: Millis) -> bool:
    """Whether the session has neither been ended nor come to its end."""
    if row.ended_at is not None or row.ends_at <= now:
        return False
    return row.client != Client.BROWSER or now < row.seen_at + IDLE_MS


async def find(session: AsyncSession, hash_key: bytes, unverified_token: str, now: Millis) -> SessionRow | None:
    """The session in force whose token this is; it may be altered.  None if there is none."""
    if not token.is_token(unverified_token, PREFIX):
        return None
    mine = token.keyed_hash(hash_key, unverified_token)
    row = await session.scalar(select(SessionRow).where(SessionRow.token_hash == mine))
    return row if row is not None and in_force(row, now) else None


def is_due(seen_at: Millis, now: Millis) -> bool:
    """Whether it has to be written down that a session is in use (:func:`seen`)."""
    return now >= seen_at + _SEEN_MS


async def seen(session: AsyncSession, session_id: SessionId, now: Millis) -> None:
    """Write down that a session is in use."""
    await session.execute(update(SessionRow).where(SessionRow.id == session_id).values(seen_at=now))


async def insist(session: AsyncSession, session_id: SessionId, now: Millis) -> None:
    """Refuse to go on if the session has ended meanwhile.

    Until the transaction ends, nobody ends it.

    Raises:
        NoSuchSession: it has.
    """
    row = await session.get(SessionRow, session_id, with_for_update={"read": True}, populate_existing=True)
    if row is None or not in_force(row, now):
        raise NoSuchSession


async def listed(session: AsyncSession, account: OperatorId, now: Millis, *, after: str = "") -> Sequence[SessionRow]:
    """The sessions of an account that are in force, by id, from behind ``after`` on."""
    theirs = (SessionRow.account_id == account, SessionRow.id > after, SessionRow.ends_at > now)
    rows = await session.scalars(select(SessionRow).where(*theirs).order_by(SessionRow.id))
    return [row for row in rows if in_force(row, now)]


async def of(session: AsyncSession, session_id: SessionId) -> SessionRow:
    """The session of that id, whoever's it is.

    Raises:
        NoSuchSession: there is none.
    """
    row = await session.get(SessionRow, session_id)
    if row is None:
        raise NoSuchSession
    return row


async def end(session: AsyncSession, actor: Actor, row: SessionRow, now: Millis, *, reason: str) -> SessionRow:
    """End a session, and codes that its person handed over to command lines.  Idempotent."""
    await session.refresh(row, with_for_update=True)
    if row.ended_at is None:
        row.ended_at = now
        # Whoever redeems one just then is waited for.
        await session.execute(delete(LinkRow).where(LinkRow.account_id == row.account_id, LinkRow.challenge != ""))
        await record(session, Event.about(row, "session.ended", actor, now, reason=reason, note=row.id))
    return row


async def end_own(session: AsyncSession, row: SessionRow, now: Millis, *, reason: str) -> SessionRow:
    """End a session as its own person does, in the place where they sit.  Idempotent."""
    account = await session.get_one(AccountRow, row.account_id)
    return await end(session, account.as_actor(row.address, row.agent), row, now, reason=reason)


async def end_of_account(
    session: AsyncSession, actor: Actor, account: OperatorId, now: Millis, *, reason: str, but: SessionId | None = None
) -> int:
    """End all sessions of an account, ``but`` one; how many these were."""
    ended = 0
    # It looks again: a command line may have come in by one of these meanwhile, and none can once they have ended.
    while rows := [row for row in await listed(session, account, now) if row.id != but]:
        for row in rows:
            await end(session, actor, row, now, reason=reason)
        ended += len(rows)
    return ended


async def end_of_issuer(
    session: AsyncSession,
    issuer: str,
    *,
    issuer_session: str = "",
    account: OperatorId | None = None,
    now: Millis,
    reason: str = "ended_by_issuer",
) -> int:
    """End what an identity provider vouched for: one session, or all of an account; how many."""
    named = SessionRow.issuer_session == issuer_session if issuer_session else false()
    which = (SessionRow.issuer == issuer, or_(named, SessionRow.account_id == account))
    query, ended = select(SessionRow).where(*which, SessionRow.ended_at.is_(None)), 0
    while rows := [row for row in await session.scalars(query) if in_force(row, now)]:  # again, for the same reason
        for row in rows:
            await end(session, BROKER, row, now, reason=reason)
        ended += len(rows)
    return ended

"""A command line without a browser: its person allows it in one elsewhere (RFC 8628).

Whoever asks gets a secret, with which it asks on, and a code, which its person types on the broker's page.  Only this
page leads on, and no address that somebody could send has a code in it: who is sent a code reads first what it does.

The session counts as long as any, but never as a proof of the last minutes.  So a person who allowed a stranger all
the same has given them no approval, no account, and nothing that can't be undone; and nothing once it has ended.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.events import Actor, Event
from broker.audit.record import record
from broker.base.clock import Millis, later
from broker.base.db import EVERY_TENANT
from broker.base.errors import NotFound, TooMany
from broker.base.pairing import LETTERS, TYPED_LENGTH, in_two, letters_of
from broker.base.strangers import WINDOW_MS, Tally, network
from broker.base.validity import Validity
from broker.formats import ids, token
from broker.formats.ids import DeviceSignInId, OperatorId, SessionId
from broker.identity import sessions
from broker.identity.approval import in_force
from broker.identity.sessions import Device, SignedIn, Way
from broker.identity.tables import AccountRow, DeviceSignInRow, SessionRow
from broker.parts import Parts

PREFIX: Final = "kbd"
LASTS_MS: Final = 600_000
# A command line is told to wait so long before it asks on. A network may bring its questions a little closer.
INTERVAL_S: Final = 5
_APART_MS: Final = 4_000
# Once it is allowed, a command line that still asks has its session within that time.
_ALLOWED_MS: Final = 60_000
# Of one address in ten minutes. Each is a row, and anybody can begin one.
_BEGUN_MOST: Final = 60
# Wrong codes of one account in ten minutes, in one process; then right ones are not looked at either.
WRONG_MOST: Final = 5
_NEVER: Final = Millis(0)


class DeviceSignInOff(NotFound):
    """Whoever runs the broker has not allowed it."""

    def __init__(self) -> None:
        super().__init__(
            "This broker signs nobody in by a code. Run `broker login` where a browser is, or give it a one-time link "
            "on standard input. Whoever runs the broker may set BROKER_LOGIN_DEVICE=true."
        )


class NoSuchCode(NotFound):
    """No command line waits with this code, or not any more."""

    def __init__(self) -> None:
        super().__init__(
            "No command line waits with this code. Compare it with the terminal. A code works once, within ten "
            "minutes; `broker login --device` shows a new one."
        )


class TooManyCodes(TooMany):
    """Somebody tries codes."""

    def __init__(self) -> None:
        super().__init__(
            "Too many wrong codes came from your account. Try again in ten minutes.", retry_after=WINDOW_MS // 1000
        )


class TooManyBegun(TooMany):
    """More were begun from one address than people begin."""

    def __init__(self) -> None:
        super().__init__("Too many sign-ins were begun from your address. Try again in ten minutes.", retry_after=600)


class Unfinished(StrEnum):
    """Why a command line has no session, as RFC 8628 §3.5 and RFC 6749 §5.2 call it."""

    PENDING = "authorization_pending"
    TOO_OFTEN = "slow_down"
    REFUSED = "access_denied"
    OVER = "expired_token"
    UNKNOWN = "invalid_grant"


@dataclass(frozen=True, slots=True)
class Begun:
    """What a command line asks on with, and the code that it shows."""

    secret: str = field(repr=False)
    code: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Allowed:
    """The token of the session that a command line has now, and when this ends."""

    token: str = field(repr=False)
    ends_at: Millis


class DeviceSignIns:
    """Begins and ends what command lines without a browser ask.

    ``offered`` tells whether they may.
    """

    def __init__(self, parts: Parts, *, offered: bool) -> None:
        self._db, self._clock, self._key = parts.db, parts.clock, parts.keys.token_hash
        self._offered = offered
        self._begun, self._wrong = Tally(parts.clock), Tally(parts.clock)

    def insist(self) -> None:
        """Refuse to go on where nobody may sign in so; raises DeviceSignInOff."""
        if not self._offered:
            raise DeviceSignInOff

    @property
    def offered(self) -> bool:
        """Whether people may sign in so."""
        return self._offered

    async def begin(self, device: Device) -> Begun:
        """Let a command line wait for its person.

        Raises:
            DeviceSignInOff. TooManyBegun.
        """
        self.insist()
        whose, now = network(device.address), self._clock()
        if self._begun.count(whose) >= _BEGUN_MOST:
            raise TooManyBegun
        self._begun.add(whose)
        secret, letters = token.new(PREFIX), "".join(secrets.choice(LETTERS) for _ in range(TYPED_LENGTH))
        row = DeviceSignInRow(
            id=ids.new(DeviceSignInId),
            secret_hash=token.keyed_hash(self._key, secret),
            code_hash=token.keyed_hash(self._key, letters),
            address=device.address,
            agent=device.agent[:200],
            session_id=None,
            created_at=now,
            expires_at=later(now, LASTS_MS),
            asked_at=now,
            refused_at=None,
        )
        async with self._db.write(EVERY_TENANT) as session:
            session.add(row)
        return Begun(secret, in_two(letters))

    async def ask(self, secret: str, device: Device) -> Allowed | Unfinished:
        """What has come of it: a session, the first time that this is asked after it was allowed.

        Raises:
            DeviceSignInOff.
        """
        self.insist()
        if not token.is_token(secret, PREFIX):
            return Unfinished.UNKNOWN
        now, mine = self._clock(), token.keyed_hash(self._key, secret)
        async with self._db.read(EVERY_TENANT) as session:  # so that no stranger takes a writer
            row = await session.scalar(select(DeviceSignInRow).where(DeviceSignInRow.secret_hash == mine))
        if row is None or not row.genuine:
            return Unfinished.UNKNOWN
        if row.refused_at is not None:
            return Unfinished.REFUSED
        if row.expires_at <= now:
            return Unfinished.OVER
        if row.session_id is not None:
            return await self._finish(row.id, device, now)
        return await self._asked_on(row, now)

    async def _asked_on(self, row: DeviceSignInRow, now: Millis) -> Unfinished:
        """Note that it asks; of two that come at once one is too often, on whichever replica."""
        if now < row.asked_at + _APART_MS:
            return Unfinished.TOO_OFTEN
        apart = (DeviceSignInRow.id == row.id, DeviceSignInRow.asked_at <= now - _APART_MS)
        asking = update(DeviceSignInRow).where(*apart).values(asked_at=now).returning(DeviceSignInRow.id)
        async with self._db.write(EVERY_TENANT) as session:
            noted = (await session.execute(asking)).first()
        return Unfinished.PENDING if noted else Unfinished.TOO_OFTEN

    async def _finish(self, row_id: DeviceSignInId, device: Device, now: Millis) -> Allowed | Unfinished:
        """Use it up; however many ask at once, one of them has the session."""
        async with self._db.write(EVERY_TENANT) as session:
            row = await session.get(DeviceSignInRow, row_id, with_for_update=True)
            if row is None or not row.genuine or row.session_id is None:
                return Unfinished.UNKNOWN
            await session.delete(row)
            found = await _allower(session, row.session_id, now)
            if found is None:
                return Unfinished.REFUSED
            present, account = found
            proof = SignedIn(Way(present.way), _NEVER, present.issuer, present.issuer_session)
            begun, fresh = await sessions.begin(session, self._key, account, proof, device, now)
            return Allowed(fresh, begun.ends_at)

    async def waiting(self, session: AsyncSession, account: OperatorId, typed: str, now: Millis) -> DeviceSignInRow:
        """The command line that waits with the code that the person of ``account`` typed.

        Raises:
            DeviceSignInOff. NoSuchCode: none does. TooManyCodes: too many of theirs were wrong.
        """
        self.insist()
        if not (letters := letters_of(typed)):
            raise NoSuchCode
        if self._wrong.count(account) >= WRONG_MOST:
            raise TooManyCodes
        mine = token.keyed_hash(self._key, letters)
        row = await session.scalar(select(DeviceSignInRow).where(DeviceSignInRow.code_hash == mine))
        if row is None or not _waits(row, now):
            self._wrong.add(account)
            raise NoSuchCode
        return row

    async def answer(
        self, session: AsyncSession, row: DeviceSignInRow, actor: Actor, present: SessionId | None, now: Millis
    ) -> None:
        """Let a command line have a session of whoever is in the session ``present``.

        None refuses it.

        Raises:
            NoSuchCode: it was answered meanwhile.
        """
        await session.refresh(row, with_for_update=True)
        if not _waits(row, now):
            raise NoSuchCode
        if present is None:
            row.refused_at = now
        else:
            row.session_id, row.expires_at = present, later(now, _ALLOWED_MS)
        await record(
            session,
            Event.about(
                row,
                "session.device_answered",
                actor,
                now,
                subject=actor.id,
                decision="denied" if present is None else "allowed",
                note=f"{row.address} {row.agent}",
            ),
        )


def _waits(row: DeviceSignInRow, now: Millis) -> bool:
    return row.genuine and row.session_id is None and row.refused_at is None and now < row.expires_at


async def _allower(session: AsyncSession, session_id: SessionId, now: Millis) -> tuple[SessionRow, AccountRow] | None:
    """The session in which it was allowed, and whose it is, if both are still in force."""
    row = await session.get(SessionRow, session_id, with_for_update={"read": True})
    if row is None or not row.genuine or not sessions.in_force(row, now):
        return None
    account = await session.get(AccountRow, row.account_id)
    if account is None or not account.genuine or account.state != Validity.ACTIVE or not in_force(account):
        return None
    return row, account

"""People's passkeys: added, proved, named and removed by their owners.

A passkey is no secret here: the database has public halves only.  Whoever can write the database can't add one, as its
row is authenticated.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.events import Actor, Event
from broker.audit.record import record
from broker.base.clock import Millis
from broker.base.db import EVERY_TENANT
from broker.base.errors import Conflict, NotFound, TooMany
from broker.base.strangers import WINDOW_MS, Pace, Tally, network
from broker.formats import ids
from broker.formats.ids import OperatorId, PasskeyId
from broker.identity import ceremonies, sessions
from broker.identity.approval import in_force
from broker.identity.ceremonies import Answer, Known, Made, PasskeyRefused, Proved, goes_on
from broker.identity.challenges import Challenges, claim
from broker.identity.relying_party import NoPasskeysHere, RelyingParty
from broker.identity.sessions import Device, SignedIn, Way
from broker.identity.tables import AccountRow, PasskeyRow
from broker.notifications.altered import report
from broker.parts import Parts

# So many wrong ones of one address in ten minutes are looked at; a right one is always taken.
WRONG = 20
MOST = 20
_LOOKING = 2


class NoSuchPasskey(NotFound):
    """There is none, or it is somebody else's."""

    def __init__(self) -> None:
        super().__init__("There is no such passkey for you; `broker passkey list` shows yours.")


class LastWayIn(Conflict):
    """Without this passkey its owner could not sign in any more."""

    code = "last_way_in"
    title = "This is the last way in"

    def __init__(self) -> None:
        super().__init__("This is your last passkey, without which you could not sign in. Add another one first.")


@dataclass(frozen=True, slots=True)
class Shown:
    """A proof that was verified, but for what only a transaction can tell.

    That is whether it is the first with its challenge.
    """

    passkey_id: PasskeyId
    challenge: bytes
    proved: Proved


class Passkeys:
    """Begins and ends the ceremonies by which passkeys are made and proved.

    ``refused`` counts the wrong ones that met a limit.
    """

    def __init__(self, parts: Parts, public_url: str, vendor: str) -> None:
        self._db, self._audit, self._clock = parts.db, parts.audit, parts.clock
        self._party = RelyingParty.at(public_url)
        self._public_url, self._vendor = public_url, vendor
        self._challenges = Challenges(parts.keys.challenge, parts.clock)
        self._handles = parts.keys.user_handle
        self._tally = Tally(parts.clock)
        # Whoever comes has to be looked up, but never on all connections: uses need some.
        self._looking = asyncio.Semaphore(_LOOKING)
        self.pace = Pace(per_second=50, burst=10, longest_s=5)
        self.refused = 0

    @property
    def party(self) -> RelyingParty:
        """Where passkeys count; raises NoPasskeysHere if they don't at the broker's address."""
        if self._party is None:
            raise NoPasskeysHere(self._public_url)
        return self._party

    def ask(self, holder: str, allowed: Sequence[bytes] = ()) -> dict[str, Any]:
        """What the browser that holds the secret ``holder`` is asked to prove.

        ``allowed`` are the ids of passkeys, if only those will do.

        Raises:
            NoPasskeysHere: there are none at the broker's address.
        """
        return ceremonies.asked(self.party, self._challenges.new("sign-in", holder), allowed)

    async def offer(self, session: AsyncSession, account: AccountRow, holder: str) -> dict[str, Any]:
        """What the browser of ``account`` is asked to make.

        Raises:
            NoPasskeysHere: there are none at the broker's address. Conflict: the account has as many as it may.
        """
        has = await of_account(session, account.id)
        _refuse_too_many(has)
        return ceremonies.offered(
            self.party,
            self._challenges.new("add", holder),
            handle=self._handle(account.id),
            name=account.name,
            vendor=self._vendor,
            has=[row.credential_id for row in has],
        )

    async def shown(self, answer: Answer, holder: str, address: str) -> Shown:
        """Verify what a browser answers to :meth:`ask`; it has let nobody in yet.

        Raises:
            PasskeyRefused: it proves nothing. TooMany: likewise, after too many others of that address.
            CeremonyOver: the challenge is another browser's, or has expired. NoPasskeysHere.
        """
        party, challenge = self.party, ceremonies.challenge_of(answer)
        self._challenges.check(challenge, "sign-in", holder)
        row = await self._looked_up(ceremonies.credential_of(answer))
        try:
            if row is None:
                raise PasskeyRefused
            known = Known(row.account_id, row.public_key, row.sign_count)
            proved = ceremonies.proved(party, answer, challenge, known, self._handle(row.account_id))
        except PasskeyRefused:
            self._count(address)
            raise
        if not goes_on(row.sign_count, proved.sign_count):
            await self._refuse_copy(row, address)
        return Shown(row.id, challenge, proved)

    async def _refuse_copy(self, row: PasskeyRow, address: str) -> NoReturn:
        """Refuse what was signed by a copy, or before already; only the private half does that."""
        stranger = Actor("stranger", "unverified", address=address)
        event = Event.about(
            row, "passkey.refused", stranger, self._clock(), decision="denied", reason="counter_back", note=row.name
        )
        await self._audit.append(event)
        raise PasskeyRefused

    def made(self, answer: Answer, holder: str) -> tuple[Made, bytes]:
        """The passkey that a browser made as :meth:`offer` asked, and the challenge to claim.

        Raises:
            PasskeyRefused: it is not as it was asked for. CeremonyOver. NoPasskeysHere.
        """
        party, challenge = self.party, ceremonies.challenge_of(answer)
        self._challenges.check(challenge, "add", holder)
        return ceremonies.made(party, answer, challenge), challenge

    async def _looked_up(self, credential_id: bytes) -> PasskeyRow | None:
        await self.pace.turn()
        async with self._looking, self._db.read(EVERY_TENANT) as session:
            row = await session.scalar(select(PasskeyRow).where(PasskeyRow.credential_id == credential_id))
        if row is not None and not row.genuine:
            await report(self._db, row, self._clock())
            return None
        return row

    def _count(self, address: str) -> None:
        whose = network(address)
        if self._tally.count(whose) >= WRONG:
            self.refused += 1
            raise TooMany(
                "Too many passkeys were refused. Wait ten minutes, then try again.", retry_after=WINDOW_MS // 1000
            )
        self._tally.add(whose)

    def _handle(self, account_id: OperatorId) -> bytes:
        """What authenticators know an account by: always the same.

        It is random to whoever lacks the key.  One device holds one passkey of a person, however often it was made.
        """
        return hmac.digest(self._handles, account_id.encode(), "sha256")


async def use(
    session: AsyncSession, shown: Shown, device: Device, now: Millis, *, by: OperatorId | None = None
) -> tuple[AccountRow, SignedIn]:
    """Whose passkey was shown, and how they proved that it is they.

    ``by`` is whose it has to be, if it is known already who sits there.

    Raises:
        CeremonyOver: its challenge was used.
        PasskeyRefused: it was removed or used meanwhile, its account has ended, or it is somebody else's.
    """
    await claim(session, shown.challenge, now)
    row = await session.get(PasskeyRow, shown.passkey_id, with_for_update=True)
    if row is None or not row.genuine or not goes_on(row.sign_count, shown.proved.sign_count):
        raise PasskeyRefused
    if by is not None and by != row.account_id:
        raise PasskeyRefused
    account = await session.get(AccountRow, row.account_id)
    if account is None or not account.genuine or account.is_machine or not in_force(account):
        raise PasskeyRefused
    row.sign_count, row.backed_up, row.last_used_at = shown.proved.sign_count, shown.proved.backed_up, now
    await record(
        session, Event.about(row, "passkey.used", account.as_actor(device.address, device.agent), now, note=row.name)
    )
    return account, SignedIn(Way.PASSKEY, now)


async def of_account(session: AsyncSession, account_id: OperatorId, *, after: str = "") -> Sequence[PasskeyRow]:
    """A person's passkeys that the broker wrote, oldest first, those behind the id ``after``."""
    theirs = (PasskeyRow.account_id == account_id, PasskeyRow.id > after)
    rows = await session.scalars(select(PasskeyRow).where(*theirs).order_by(PasskeyRow.id))
    return [row for row in rows if row.genuine]


async def add(
    session: AsyncSession, actor: Actor, account_id: OperatorId, made: tuple[Made, bytes], *, name: str, now: Millis
) -> PasskeyRow:
    """Keep a passkey that a person made, under a name of theirs.

    Raises:
        CeremonyOver: its challenge was used. Conflict: it is there already, or the person has as many as they may.
    """
    passkey, challenge = made
    await claim(session, challenge, now)
    await session.get_one(AccountRow, account_id, with_for_update=True)
    _refuse_too_many(await of_account(session, account_id))
    if await session.scalar(select(PasskeyRow.id).where(PasskeyRow.credential_id == passkey.credential_id)):
        raise Conflict("This passkey is there already.")
    row = PasskeyRow(
        id=ids.new(PasskeyId),
        account_id=account_id,
        credential_id=passkey.credential_id,
        public_key=passkey.public_key,
        sign_count=passkey.sign_count,
        name=name,
        backed_up=passkey.backed_up,
        created_at=now,
        last_used_at=None,
    )
    session.add(row)
    await record(session, Event.about(row, "passkey.added", actor, now, note=name))
    return row


def _refuse_too_many(has: Sequence[PasskeyRow]) -> None:
    if len(has) >= MOST:
        raise Conflict(f"You have {MOST} passkeys, as many as one person may have. Remove one first.")


async def rename(
    session: AsyncSession, actor: Actor, account_id: OperatorId, passkey_id: PasskeyId, *, name: str, now: Millis
) -> PasskeyRow:
    """Give a passkey of one's own another name.  Idempotent.

    Raises:
        NoSuchPasskey: it is somebody else's, or there is none.
    """
    row = await _own(session, account_id, passkey_id)
    if row.name != name:
        row.name = name
        await record(session, Event.about(row, "passkey.renamed", actor, now, note=name))
    return row


async def remove(
    session: AsyncSession, actor: Actor, account_id: OperatorId, passkey_id: PasskeyId, *, now: Millis
) -> PasskeyRow:
    """Remove a passkey of one's own, and tell which it was; nobody signs in with it from now on.

    Raises:
        NoSuchPasskey: it is somebody else's, or there is none. LastWayIn: it is the only one.
    """
    # One at a time: two that are removed at once would each take the other for what is left.
    await session.get_one(AccountRow, account_id, with_for_update=True)
    row = await _own(session, account_id, passkey_id)
    if len(await of_account(session, account_id)) < 2:
        raise LastWayIn
    await session.delete(row)
    await record(session, Event.about(row, "passkey.removed", actor, now, note=row.name))
    return row


async def find(session: AsyncSession, passkey_id: PasskeyId) -> PasskeyRow:
    """The passkey of that id, whoever's it is.

    Raises:
        NoSuchPasskey: there is none that the broker wrote.
    """
    row = await session.get(PasskeyRow, passkey_id, with_for_update=True)
    if row is None or not row.genuine:
        raise NoSuchPasskey
    return row


async def take(session: AsyncSession, actor: Actor, row: PasskeyRow, now: Millis) -> PasskeyRow:
    """Remove somebody else's passkey, their last one too.

    All their sessions end, as its device may have some.
    """
    account = await session.get_one(AccountRow, row.account_id, with_for_update=True)
    await session.delete(row)
    note = f"{account.name}: {row.name}"
    await record(session, Event.about(row, "passkey.removed", actor, now, reason="removed_by_admin", note=note))
    await sessions.end_of_account(session, actor, account.id, now, reason="passkey_removed")
    return row


async def _own(session: AsyncSession, account_id: OperatorId, passkey_id: PasskeyId) -> PasskeyRow:
    row = await find(session, passkey_id)
    if row.account_id != account_id:
        raise NoSuchPasskey
    return row

"""One-time links to accounts: a person's first way in, and the command line's.

The secret stands in the link's fragment, so no server's log has it, and a program that opens links doesn't spend it.
"""

from __future__ import annotations

import hmac
import re
from typing import Final

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.events import Actor, Event
from broker.audit.record import record
from broker.base.clock import DAY_MS, Millis, later
from broker.base.errors import Conflict, Invalid, InvalidToken
from broker.base.pairing import challenge_of
from broker.base.validity import Validity
from broker.formats import ids, token
from broker.formats.ids import AccountLinkId
from broker.identity.approval import in_force
from broker.identity.sessions import SignedIn, Way
from broker.identity.tables import AccountRow, LinkRow

PREFIX: Final = "kbe"
LASTS_MS: Final = DAY_MS
# Of a command line's, which redeems it at once.
_CODE_LASTS_MS: Final = 60_000
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")


class LinkRefused(InvalidToken):
    """The link's secret is not one that is waiting to be used."""

    def __init__(self) -> None:
        super().__init__(
            "This link was used, is older than a day, or another one took its place. An admin makes a new one with "
            "`broker operator link NAME`; if there is no admin left, `broker operator recover` on the server helps."
        )


async def offer(session: AsyncSession, hash_key: bytes, actor: Actor, account: AccountRow, now: Millis) -> str:
    """The secret of a new link to a person's account, for a day; earlier links work no more.

    Raises:
        Conflict: the account has ended, or is a machine's. RowAltered.
    """
    account.vouched_for()
    if account.is_machine:
        raise Conflict("This account is a machine's: nobody signs in to it. `broker operator add` makes a person's.")
    if account.revoked_at is not None:
        raise Conflict("This account has ended; make another one.")
    await session.execute(delete(LinkRow).where(LinkRow.account_id == account.id))
    secret = _keep(session, hash_key, account, SignedIn(Way.LINK, now), "", actor, later(now, LASTS_MS), now)
    await record(session, Event.about(account, "operator.link_made", actor, now, note=account.name))
    return secret


def hand_over(
    session: AsyncSession, hash_key: bytes, account: AccountRow, proof: SignedIn, challenge: str, now: Millis
) -> str:
    """The code by which a command line gets a session of whoever sits at the browser.

    It counts for a minute, and only with the verifier of ``challenge`` (RFC 7636, S256).

    Raises:
        Invalid: there can be no such challenge.
    """
    if not _CHALLENGE.fullmatch(challenge):
        raise Invalid("challenge: has 43 base64url characters (RFC 7636, S256).")
    return _keep(session, hash_key, account, proof, challenge, account.as_actor(), later(now, _CODE_LASTS_MS), now)


def _keep(
    session: AsyncSession,
    hash_key: bytes,
    account: AccountRow,
    proof: SignedIn,
    challenge: str,
    actor: Actor,
    expires_at: Millis,
    now: Millis,
) -> str:
    secret = token.new(PREFIX)
    session.add(
        LinkRow(
            id=ids.new(AccountLinkId),
            account_id=account.id,
            secret_hash=token.keyed_hash(hash_key, secret),
            challenge=challenge,
            way=proof.way,
            issuer=proof.issuer,
            issuer_session=proof.issuer_session,
            authenticated_at=proof.at,
            created_at=now,
            created_by=actor.id,
            expires_at=expires_at,
        )
    )
    return secret


async def check(session: AsyncSession, hash_key: bytes, secret: str, now: Millis, *, verifier: str = "") -> AccountRow:
    """Whose link this is, without using it.

    Raises:
        LinkRefused: nobody's, or it is over, used, altered, or of an account that has ended.
        Conflict: the account waits for its approval.
    """
    return (await _waiting(session, hash_key, secret, verifier, now))[1]


async def redeem(
    session: AsyncSession, hash_key: bytes, secret: str, now: Millis, *, verifier: str = ""
) -> tuple[AccountRow, SignedIn]:
    """Use a link up; whose it is, and how they proved that it is they.

    Args:
        session: a transaction; however many try at once, one of them has it.
        hash_key: of tokens.
        secret: what stands in the link.
        now: milliseconds since the epoch.
        verifier: of the challenge that a command line's has.

    Raises:
        LinkRefused, Conflict: as :func:`check`.
    """
    row, account = await _waiting(session, hash_key, secret, verifier, now)
    spent = delete(LinkRow).where(LinkRow.id == row.id).returning(LinkRow.id)
    if (await session.execute(spent)).first() is None:  # somebody else was faster
        raise LinkRefused
    at = row.authenticated_at if row.challenge else now
    return account, SignedIn(Way(row.way), at, row.issuer, row.issuer_session)


async def _waiting(
    session: AsyncSession, hash_key: bytes, secret: str, verifier: str, now: Millis
) -> tuple[LinkRow, AccountRow]:
    if not token.is_token(secret, PREFIX):
        raise LinkRefused
    mine = token.keyed_hash(hash_key, secret)
    row = await session.scalar(select(LinkRow).where(LinkRow.secret_hash == mine))
    if row is None or not row.genuine or row.expires_at <= now or not _fits(row.challenge, verifier):
        raise LinkRefused
    account = await session.get(AccountRow, row.account_id)
    if account is None or not account.genuine or account.state != Validity.ACTIVE or account.is_machine:
        raise LinkRefused
    if not in_force(account):
        raise Conflict("This account waits for a second person's approval; open the link again once it has that.")
    return row, account


def _fits(challenge: str, verifier: str) -> bool:
    """Whether this is the verifier of the challenge; none fits a link that has no challenge."""
    made = challenge_of(verifier) if verifier else ""
    return hmac.compare_digest(challenge, made)

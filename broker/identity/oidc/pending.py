"""Sign-ins under way, each for ten minutes, finished once and by the same browser.

State, nonce and PKCE verifier are made of random numbers that only the browser has, so the database could give none of
them away, and who writes there can neither begin nor bend a sign-in.
"""

from __future__ import annotations

import hmac
import json
import re
import secrets
from dataclasses import dataclass
from typing import Final

from sqlalchemy import delete
from sqlalchemy.ext.asyncio import AsyncSession

from broker.base.clock import Millis, later
from broker.formats import base64url
from broker.formats.ids import SessionId
from broker.identity.oidc.refusals import SignInRefused
from broker.identity.oidc.tables import PendingRow

LASTS_MS: Final = 600_000
_SECRET: Final = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class Pending:
    """A sign-in under way, and its secrets.

    ``session_id`` is the session whose person proves again who they are; None for a new one.
    """

    provider: str
    session_id: SessionId | None
    destination: str
    begun_at: Millis
    state: str
    nonce: str
    verifier: str


def browser_secret(given: str | None) -> str:
    """What binds sign-ins to a browser: what it has already, or something new."""
    return given if given is not None and _SECRET.fullmatch(given) else secrets.token_urlsafe(32)


def begin(
    session: AsyncSession,
    key: bytes,
    browser: str,
    provider: str,
    *,
    session_id: SessionId | None,
    goes_to: str,
    now: Millis,
) -> Pending:
    """A new sign-in of the browser with this secret."""
    state = secrets.token_urlsafe(32)
    row = PendingRow(
        state_hash=_made(key, "state", state),
        provider=provider,
        session_id=session_id,
        destination=goes_to,
        begun_at=now,
        expires_at=later(now, LASTS_MS),
    )
    row.seal = _seal(key, row, state, browser)
    session.add(row)
    return _pending(key, row, state, browser)


async def check(session: AsyncSession, key: bytes, browser: str | None, state: str, now: Millis) -> Pending:
    """The sign-in that this browser began with this state, without using it.

    Raises:
        SignInRefused: there is none, or not any more.
    """
    if browser is None or not _SECRET.fullmatch(browser) or not _SECRET.fullmatch(state):
        raise SignInRefused("sign_in_unknown")
    row = await session.get(PendingRow, _made(key, "state", state))
    if row is None or row.expires_at <= now or not hmac.compare_digest(row.seal, _seal(key, row, state, browser)):
        raise SignInRefused("sign_in_unknown")
    return _pending(key, row, state, browser)


async def use(session: AsyncSession, key: bytes, state: str) -> None:
    """Use a sign-in up; however many try at once, one of them has it.

    Raises:
        SignInRefused: somebody else was faster.
    """
    spent = delete(PendingRow).where(PendingRow.state_hash == _made(key, "state", state)).returning(PendingRow.provider)
    if (await session.execute(spent)).first() is None:
        raise SignInRefused("sign_in_unknown")


def _pending(key: bytes, row: PendingRow, state: str, browser: str) -> Pending:
    nonce = base64url.encode(_made(key, "nonce", state, browser))
    verifier = base64url.encode(_made(key, "verifier", state, browser))
    return Pending(row.provider, row.session_id, row.destination, row.begun_at, state, nonce, verifier)


def _seal(key: bytes, row: PendingRow, state: str, browser: str) -> bytes:
    said = [row.provider, row.session_id or "", row.destination, row.begun_at, row.expires_at]
    return _made(key, "seal", state, browser, json.dumps(said))


def _made(key: bytes, use: str, *of: str) -> bytes:
    return hmac.digest(key, "\0".join(("keybroker/sign-in/v1", use, *of)).encode(), "sha256")

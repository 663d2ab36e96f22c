"""An ID token's own claims, once its signature, audience and times hold.  Pure.

OpenID Connect Core 1.0 §3.1.3.7 says what they have to be.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from broker.base.clock import Millis
from broker.identity.oidc.pending import Pending
from broker.identity.oidc.providers import Provider
from broker.identity.oidc.refusals import SignInRefused
from broker.identity.sessions import FRESH_MS
from broker.issuers.verifying import LEEWAY_S, NotTaken, seconds

_SUBJECT: Final = re.compile(r"[!-~](?:[ -~]{0,253}[!-~])?")


@dataclass(frozen=True, slots=True)
class Person:
    """Whom a provider signed in.

    ``authenticated_at`` is when it asked them for a proof, 0 if it doesn't say.  ``issuer_session`` is what it calls
    its own session, "" if nothing.
    """

    subject: str
    issuer_session: str
    authenticated_at: Millis
    claims: Mapping[str, Any]


def person(provider: Provider, claims: Mapping[str, Any], pending: Pending, now: Millis) -> Person:
    """Whom the ID token of this sign-in is about.

    Raises:
        NotTaken: it is another sign-in's, or another client's. SignInRefused: not in the way that was asked for.
    """
    nonce = claims.get("nonce")
    if not isinstance(nonce, str) or not hmac.compare_digest(nonce.encode(), pending.nonce.encode()):
        raise NotTaken("wrong_nonce")
    found = subject(provider, claims)
    at = seconds(claims.get("auth_time"))
    if at is not None and at > now / 1000 + LEEWAY_S:
        raise NotTaken("token_not_yet")
    if pending.session_id is not None and (at is None or at * 1000 <= now - FRESH_MS):
        raise SignInRefused("signed_in_too_long_ago")
    if provider.acr_values and claims.get("acr") not in provider.acr_values:
        raise SignInRefused("proof_too_weak")
    named = claims.get("sid", "")
    if not isinstance(named, str) or len(named) > 255:
        raise NotTaken("malformed")
    return Person(found, named, Millis(0 if at is None else min(int(at * 1000), now)), claims)


def subject(provider: Provider, claims: Mapping[str, Any]) -> str:
    """Whom a token of this client is about; raises NotTaken."""
    if "azp" in claims and claims["azp"] != provider.client_id:
        raise NotTaken("wrong_audience")
    found = claims.get("sub")
    if not isinstance(found, str) or not _SUBJECT.fullmatch(found):
        raise NotTaken("malformed")
    return found

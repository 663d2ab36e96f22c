"""Why nobody was signed in, in words for the person and for whoever can fix it.

Nothing that the provider wrote stands in them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from broker.base.errors import BrokerError

_AGAIN: Final = "Begin again at the broker's page /login."
REASONS: Final[Mapping[str, str]] = {
    "sign_in_unknown": f"This sign-in was begun in another browser or over 10 minutes ago, or was used. {_AGAIN}",
    "provider_refused": "Your identity provider didn't sign you in. If that was not you, ask whoever runs it.",
    "wrong_issuer": f"The answer came from another identity provider than the one that was asked. {_AGAIN}",
    "code_refused": f"The identity provider doesn't know the code that it gave out, or not any more. {_AGAIN}",
    "client_refused": (
        "The identity provider doesn't take the broker for its client. An admin has to compare client_id and "
        "client_secret_file with what is registered there."
    ),
    "answer_unusable": (
        "The identity provider's answer is not one of OpenID Connect: it lacks an endpoint, or S256, or an ID token. "
        "An admin has to add the scope openid, and to look at how the broker is registered there."
    ),
    "token_refused": (
        "The identity provider's ID token is not for this broker and this sign-in. The broker's log says what of it."
    ),
    "signed_in_too_long_ago": (
        "Your identity provider let you in without asking you again, or doesn't say when it asked. An admin has to let "
        "it send auth_time and heed max_age."
    ),
    "proof_too_weak": "Your identity provider didn't ask you for the proof that is wanted here (acr_values).",
    "somebody_else": "Somebody else signed in at the identity provider than is signed in here. Sign out first.",
    "claim_missing": (
        "Your identity provider doesn't say what you may do here. An admin has to let it send the claim that "
        "roles_claim names, as a text or a list of texts."
    ),
    "claim_overage": (
        "You are in more groups than your identity provider lists in a token. An admin has to use app roles there, or "
        "to send the groups alone that are assigned to this application."
    ),
    "no_role": "None of your groups has a role here. Ask an admin to put you into one that has.",
    "roles_mixed": (
        "Your groups give different roles for different organizations, and an account has the same for all. An admin "
        "has to give you one group, or to let the groups agree."
    ),
    "cannot_be_checked": (
        "Your identity provider gave nothing by which the broker can see later that you still may be here. An admin "
        "has to allow the scope offline_access, or to set recheck = false."
    ),
    "account_ended": "Your account here has ended. An admin can link you to another one.",
    "account_waits": (
        "Your account waits for a second person's approval: `broker operator approve`. Then sign in again."
    ),
}


class SignInRefused(BrokerError):
    """Nobody was signed in; ``reason`` is one of :data:`REASONS`."""

    status = 403
    code = "sign_in_refused"
    title = "You were not signed in"

    def __init__(self, reason: str) -> None:
        super().__init__(REASONS[reason], reason=reason)
        self.reason = reason

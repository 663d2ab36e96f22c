"""The broker's token: signed in for when first needed, renewed before it ends.

It is replaced if Vault refuses it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import hvac
import structlog

from broker.keystore.keystore import KeystoreUnavailable
from broker.keystore.vault.faults import DOWN, translated, unavailable
from broker.keystore.vault.login import Login, Token
from broker.keystore.vault.refusals import Refusals

_log = structlog.get_logger()

# A token is renewed when this much of its life has passed.
_RENEW_AT = 0.6
# A renewal that fails is tried again after so long, and several times within what is left of the token's life.
_RETRY_S = 5.0
_RETRIES = 4
_RETRY_LEAST_S = 0.5
_NONE = Token("", 0, renewable=False)


class Tokens:
    """Keeps the token of ``client``.  Used from several threads.  What asks Vault blocks.

    Args:
        login: how to sign in.
        client: carries the token.
        anonymous: another over the same connections, which never carries one.
        changed: called when there is another token.
        clock: seconds.
    """

    def __init__(
        self,
        login: Login,
        client: hvac.Client,
        anonymous: hvac.Client,
        changed: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._login = login
        self._client = client
        self._anonymous = anonymous
        self.changed = changed
        self.clock = clock
        self._lock = threading.Lock()
        self._token = _NONE
        self.since = 0.0
        self._credential = ""
        self._accepted = ""
        self._refusals = Refusals(clock)

    def present(self) -> Token:
        """The token, signed in for if there is none; raises KeystoreUnavailable."""
        if (token := self._token).value:
            return token
        with self._lock:
            return self._token if self._token.value else self._sign_in()

    def accepted(self, token: Token) -> None:
        """Vault has answered a call that came with this token."""
        if token.value != self._accepted:
            with self._lock:
                if token.value == self._token.value:
                    self._accepted = token.value
                    self._refusals.forget()

    def refused(self, token: Token) -> None:
        """Vault has refused this token: it expired, was revoked, or was never good.

        If it was never good, the next sign-in has to wait.
        """
        with self._lock:
            if token.value != self._token.value:  # whoever found out first has seen to it
                return
            if token.value != self._accepted:
                self._refusals.note(self._credential, unavailable("token"))
            # An agent's file may hold the same one again.
            self._token, self._accepted = _NONE, ""

    def renew_in(self) -> float | None:
        """Seconds until the token should be renewed; None if there is nothing to renew."""
        token, since = self._token, self.since
        return max(0.0, since + token.seconds * _RENEW_AT - self.clock()) if token.seconds else None

    def retry_in(self) -> float:
        """Seconds until a renewal that failed should be tried again.

        That is well before the token ends, if it can be.
        """
        left = self.since + self._token.seconds - self.clock()
        return min(_RETRY_S, max(left / _RETRIES, _RETRY_LEAST_S)) if left > 0 else _RETRY_S

    def renew(self) -> None:
        """Renew the token, or sign in again if that can't be; raises KeystoreUnavailable."""
        token = self._token
        if token.renewable and token.value and self._renewed(token):
            return
        with self._lock:
            if self._token is token:
                self._sign_in()

    def _renewed(self, token: Token) -> bool:
        since = self.clock()
        try:
            seconds = translated(lambda: int(self._client.auth.token.renew_self()["auth"]["lease_duration"]))
        except KeystoreUnavailable as problem:
            if problem.cause in DOWN:  # the token may well be good once Vault is back
                raise
            return False
        # A token near the end of its longest life is renewed for ever shorter times: better a new one.
        if seconds < token.seconds * _RENEW_AT:
            return False
        with self._lock:
            if self._token is token:
                self._token, self.since = token._replace(seconds=seconds), since
                self._accepted = token.value
        return True

    def _sign_in(self) -> Token:
        """A new token; the lock is held, so that one signs in for all."""
        credential = self._login.credential()
        self._refusals.check(credential)
        since = self.clock()
        try:
            token = translated(lambda: self._login.sign_in(self._anonymous, credential))
        except KeystoreUnavailable as problem:
            _log.warning("vault.sign_in_failed", cause=problem.cause)
            if problem.cause not in DOWN:
                self._refusals.note(credential, problem)
            raise
        self._token, self.since, self._credential = token, since, credential
        self._client.token = token.value
        self.changed()
        return token

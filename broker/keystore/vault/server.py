"""One Vault or OpenBao: called from a bounded pool of threads, within a deadline, with a token that is kept fresh.

Whatever goes wrong becomes one :class:`~broker.keystore.keystore.KeystoreUnavailable` whose ``cause`` names it; the
next call tries again, so that nothing has to be restarted once Vault is back.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import urlsplit

import hvac
import requests
import structlog
from hvac import exceptions as refused
from requests.adapters import HTTPAdapter

from broker.base.tracing import span
from broker.keystore.keystore import CannotOpen, KeystoreUnavailable
from broker.keystore.vault.breaker import Breaker
from broker.keystore.vault.login import Login, Token

_log = structlog.get_logger()
T = TypeVar("T")

# Calls that wait for a thread, for each thread: more than these would be answered too late anyway.
_QUEUE = 8
# A token is renewed when this much of its life is over, and signed in for anew when renewing fails.
_RENEW_AT = 0.6
_RETRY_S = 5.0
_TOLD: Final = {
    "unreachable": "Vault can't be reached.",
    "certificate": "Vault's certificate is not one that BROKER_VAULT_CA_FILE vouches for.",
    "slow": "Vault did not answer in time.",
    "busy": "Too many calls wait for Vault.",
    "sealed": "Vault is sealed.",
    "standby": "Vault has no active node just now.",
    "failing": "Vault answers with errors.",
    "permission": "Vault's policy does not let the broker do this.",
    "token": "Vault takes neither the broker's token nor its sign-in.",
    "not_set_up": "Vault has no such mount, namespace, key or role.",
}


@dataclass(frozen=True, slots=True)
class Address:
    """Where Vault is.  ``ca_file`` is the only authority that is trusted; None trusts the machine's."""

    url: str
    namespace: str = ""
    ca_file: Path | None = None


class Vault:
    """Calls one Vault.

    Args:
        address: where it is.
        login: how to sign in.
        connections: threads, and connections, at most.
        timeout: seconds that a call may take in all.
    """

    def __init__(self, address: Address, login: Login, *, connections: int, timeout: float) -> None:
        self._login = login
        self._timeout = timeout
        self._pool = ThreadPoolExecutor(connections, thread_name_prefix="vault")
        self._limit = connections * (1 + _QUEUE)
        self._under_way = 0
        self._breaker = Breaker()
        self._signing_in = threading.Lock()
        self._session = _Session(address, connections)
        self._client = hvac.Client(
            address.url,
            token="",
            timeout=timeout,
            session=self._session,
            namespace=address.namespace or None,
        )
        self._token = Token("", 0, renewable=False)
        self._fresh = asyncio.Event()
        self._keeping: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        # For metrics: calls that were answered, and those that were not, by cause.
        self.answers = 0
        self.refusals: Counter[str] = Counter()

    def start(self) -> None:
        """Begin to keep the token fresh."""
        self._keeping = asyncio.create_task(self._keep(), name="vault-token")

    async def close(self) -> None:
        """Stop, and close every connection.  The token is left to expire: other processes may hold the same one."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._session.close()

    async def call(self, work: Callable[[hvac.Client], T]) -> T:
        """Run ``work`` with a signed-in client in a thread.

        Raises:
            KeystoreUnavailable: named by its cause. CannotOpen: as ``work`` says.
        """
        with span("vault") as waiting:
            try:
                done = await self._called(work)
            except KeystoreUnavailable as problem:
                self.refusals[problem.cause] += 1
                waiting.set_attribute("keybroker.cause", problem.cause)
                raise
            self.answers += 1
            return done

    async def _called(self, work: Callable[[hvac.Client], T]) -> T:
        if (resting := self._breaker.refusal()) is not None:
            raise unavailable(resting)
        if self._under_way >= self._limit:
            raise unavailable("busy")
        self._under_way += 1
        running = self._pool.submit(self._answered, work)
        running.add_done_callback(lambda _done: self._in_loop(self._over))
        try:
            return await asyncio.wait_for(asyncio.wrap_future(running), self._timeout)
        except TimeoutError:
            self._breaker.failed("slow")
            raise unavailable("slow") from None

    def _in_loop(self, then: Callable[[], None]) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(then)

    def _over(self) -> None:
        self._under_way -= 1

    def _answered(self, work: Callable[[hvac.Client], T]) -> T:
        try:
            done = self._signed_in(work)
        except CannotOpen:
            self._breaker.succeeded()
            raise
        except KeystoreUnavailable as known:
            if known.cause in _DOWN:
                self._breaker.failed(known.cause)
            else:
                self._breaker.succeeded()
            raise
        self._breaker.succeeded()
        return done

    def _signed_in(self, work: Callable[[hvac.Client], T]) -> T:
        token = self._token
        if not token.value:
            token = self._sign_in(token)
        try:
            return _translated(lambda: work(self._client))
        except KeystoreUnavailable as problem:
            if problem.cause != "token":
                raise
        # Expired or revoked; whoever finds that first signs in for all.
        self._sign_in(token)
        return _translated(lambda: work(self._client))

    def _sign_in(self, failed: Token) -> Token:
        with self._signing_in:
            if self._token.value == failed.value:
                try:
                    self._token = _translated(lambda: self._login.sign_in(self._anonymous()))
                except KeystoreUnavailable as problem:
                    _log.warning("vault.sign_in_failed", cause=problem.cause)
                    raise
                self._client.token = self._token.value
                self._in_loop(self._fresh.set)
            return self._token

    def _anonymous(self) -> hvac.Client:
        """A client over the same connections that carries no token."""
        mine = self._client.adapter
        return hvac.Client(
            mine.base_uri,
            token="",
            timeout=self._timeout,
            session=self._session,
            namespace=mine.namespace,
        )

    async def _keep(self) -> None:
        """Renew the token before it ends."""
        while True:
            token = self._token
            self._fresh.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(token.seconds * _RENEW_AT if token.seconds else None):
                    await self._fresh.wait()
                    continue
            try:
                await asyncio.wrap_future(self._pool.submit(self._renew, token))
            except KeystoreUnavailable as problem:  # tried again by the next call, and here
                _log.warning("vault.not_renewed", cause=problem.cause)
                await asyncio.sleep(_RETRY_S)

    def _renew(self, token: Token) -> None:
        if token.renewable:
            try:
                auth = _translated(self._client.auth.token.renew_self)["auth"]
            except KeystoreUnavailable:
                auth = None
            # A token near the end of its longest life is renewed for ever shorter times: better a new one.
            if auth is not None and int(auth["lease_duration"]) >= token.seconds * _RENEW_AT:
                with self._signing_in:
                    if self._token is token:
                        self._token = token._replace(seconds=int(auth["lease_duration"]))
                return
        self._sign_in(token)


_DOWN = frozenset({"unreachable", "certificate", "slow", "sealed", "standby", "failing"})


def unavailable(cause: str) -> KeystoreUnavailable:
    """The one problem for a cause."""
    return KeystoreUnavailable(
        f"The keystore is not available: {_TOLD[cause]} Nothing was revealed or used; try again shortly.",
        cause=cause,
        retry_after=2,
    )


# What each error means, the first that fits; some only their text tells apart.
_MEANINGS: Final[Sequence[tuple[type[Exception], Callable[[str], str]]]] = (
    (requests.exceptions.SSLError, lambda _: "certificate"),
    (requests.Timeout, lambda _: "slow"),
    (requests.RequestException, lambda _: "unreachable"),
    (refused.VaultDown, lambda text: "sealed" if "sealed" in text else "standby"),
    (refused.RateLimitExceeded, lambda _: "busy"),
    # A policy's refusal is one error within a list; a token that doesn't hold is refused before any policy.
    (refused.Forbidden, lambda text: "permission" if "1 error occurred" in text else "token"),
    (refused.InvalidRequest, lambda text: "token" if "/login" in text else "not_set_up"),
    (refused.InvalidPath, lambda _: "not_set_up"),
    (refused.VaultError, lambda text: "standby" if "standby" in text else "failing"),
    (Exception, lambda _: "failing"),  # an answer that is not Vault's
)


def _translated(call: Callable[[], T]) -> T:
    try:
        return call()
    except (requests.RequestException, refused.VaultError, KeyError, TypeError, ValueError) as error:
        cause = next(meaning(str(error)) for kind, meaning in _MEANINGS if isinstance(error, kind))
    raise unavailable(cause)


class _Session(requests.Session):
    """Connections that take nothing from the environment and never follow a redirect off TLS."""

    def __init__(self, address: Address, connections: int) -> None:
        super().__init__()
        self.trust_env = False
        self.verify = str(address.ca_file) if address.ca_file else True  # hvac takes the session's word for it
        self.max_redirects = 2
        self._secure = address.url.startswith("https:")
        adapter = HTTPAdapter(pool_connections=2, pool_maxsize=connections)
        self.mount("http://", adapter)
        self.mount("https://", adapter)

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Where a standby node sends a call on to."""
        target = super().get_redirect_target(resp)
        if target and self._secure and urlsplit(target).scheme == "http":
            raise requests.ConnectionError("a redirect off TLS")
        return target
